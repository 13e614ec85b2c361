"""Tables of a memory estimate: what each device of a run holds, and the machines on which the run fits."""

from __future__ import annotations

from dataclasses import replace

from rich import box
from rich.table import Table
from rich.text import Text

from rlvid.bench.memory_estimate import Devices, estimate
from rlvid.bench.memory_items import MemoryEstimate
from rlvid.config import Config
from rlvid.errors import UserError
from rlvid.reward import evidence_needs

GB = 1e9
USABLE = 0.9  # share of a device's memory; the rest is for the CUDA context and fragmentation
MACHINES = ((1, 24), (1, 48), (1, 80), (1, 141), (8, 40), (8, 80))  # devices, GB of each


def estimate_table(estimated: MemoryEstimate, devices: Devices) -> Table:
    """Return the items of an estimate, largest first, and the peak; items outside of the peak's phase have a "-"."""
    phase, peak = estimated.peak()
    table = _table("GB", "at the peak", "item", "estimated as")
    for item in sorted(estimated.items, key=lambda item: -item.bytes):
        present = phase in item.phases
        style = "" if present else "dim"
        table.add_row(f"{item.bytes / GB:.2f}", "yes" if present else "-", item.name, item.formula, style=style)
    table.add_section()
    processes = devices.num_processes
    label = f"peak on each of {processes} devices" if processes > 1 else "peak"
    table.add_row(f"{peak / GB:.2f}", "", label, f"in {phase.value}; items with a - are absent then", style="bold")
    return table


def machines_table(config: Config) -> Table:
    """Return the estimated GB per device on several machines: a whole copy on each (DDP), with ZeRO, and with LoRA.

    A run fits where the estimate is below `USABLE` of a device's memory, as the caption says. Where the run would be
    refused, as for vLLM in several processes, the cell says so and the caption says why.
    """
    variants = {  # column -> (ZeRO stage, config)
        "a copy on each (DDP)": (0, config),
        "ZeRO-2": (2, config),
        "ZeRO-3": (3, config),
    }
    if not config.train.lora_r:
        variants["lora_r = 16"] = (0, replace(config, train=replace(config.train, lora_r=16)))
    table = _table("GB per device", *variants)
    peaks: dict[tuple[int, str, int], float] = {}  # (number of devices, column, GB where it matters) -> bytes
    refusals: list[str] = []
    for num_devices, memory_gb in MACHINES:
        cells = []
        for name, (stage, variant) in variants.items():
            if stage and num_devices == 1:
                cells.append(Text("–"))
                continue
            key = num_devices, name, memory_gb if config.train.use_vllm else 0
            try:
                if key not in peaks:
                    peaks[key] = estimate(variant, Devices(num_devices, stage), device_bytes=memory_gb * GB).peak()[1]
                cells.append(_verdict_cell(peaks[key], memory_gb))
            except UserError as error:
                cells.append(Text("refused", "red"))
                refusals.append(str(error))
        table.add_row(f"{num_devices} x {memory_gb}", *cells)
    rule = f"fits: below {USABLE:.0%} of the device's memory"
    table.caption = "\n".join([rule, *(f"refused: {reason}" for reason in dict.fromkeys(refusals))])  # each once
    table.caption_justify = "left"
    return table


def work_line(config: Config) -> str:
    """Return how many steps and replies a run has, and for a reward with a judge at most how many calls that makes."""
    train = config.train
    replies = train.prompts_per_step * train.num_generations
    text = f"{train.max_steps} steps of {train.prompts_per_step} prompts x {train.num_generations} replies"
    judged = sum("judge" in evidence_needs(reward.build("rewards")) for reward in config.rewards)
    if not judged:
        return text
    return f"{text}; at most {train.max_steps * replies * judged:,} calls of the judge, and those of evaluations"


def _verdict_cell(peak: float, memory_gb: float) -> Text:
    fits = peak < USABLE * memory_gb * GB
    return Text(f"{peak / GB:.0f} {'fits' if fits else 'no'}", "green" if fits else "red")


def _table(*columns: str) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
