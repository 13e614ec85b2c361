"""Speed and memory of steps, by phase, beside other implementations and beside what the device can do at best.

ours, rows, reference, trl    seconds per step, and peak memory
memory                        the peak of each phase, over the estimate of `--plan`
learn                         model FLOPs of learning over its time: MFU
decode                        seconds per token, over the time in which the device reads what a token needs
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch

from rlvid.bench.gpu.flops import decoded_bytes, learning_flops
from rlvid.bench.gpu.part_run import PartRun, random_groups
from rlvid.bench.implementations import PackedStep, PaperStep, SeparateRowsStep, peak_memory
from rlvid.bench.memory_estimate import Devices, estimate
from rlvid.bench.memory_items import Phase
from rlvid.bench.parameter_counts import count_parameters
from rlvid.bench.token_memory import StepShape
from rlvid.bench.trl_baseline import run_trl
from rlvid.bench.workload import KL_BETA, Workload
from rlvid.config import Plugin
from rlvid.policy.families import family_of
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.sampler import Sampler

REPEATS = 3  # measured steps, after one to warm up
NOMINAL_TFLOPS = {"H100": 989, "H200": 989}  # dense products in bfloat16, by the data sheets of the SXM modules
# Phase of a measured step -> that of the estimate.
ESTIMATED = {"generate": Phase.SAMPLING, "reference": Phase.REFERENCE, "learn": Phase.BACKWARD}


class MeasuredStep(PackedStep):
    """A `PackedStep` that also records the peak memory of each phase on a GPU, in bytes."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        super().__init__(folder, workload)
        self.peaks: dict[str, int] = {}

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time of a phase, and record its peak."""
        reset_peak()
        with super().timed(phase):
            yield
        if torch.cuda.is_available():
            self.peaks[phase] = max(self.peaks.get(phase, 0), torch.cuda.max_memory_allocated())


def device_rates(run: PartRun) -> None:
    """Record the memory bandwidth of the device (GB/s) and the rate of its matrix products (TFLOP/s)."""
    bandwidth, flops = rates(run.on_gpu)
    run.record(device=torch.cuda.get_device_name() if run.on_gpu else "cpu", gb_per_s=bandwidth / 1e9)
    run.record(tflop_per_s=flops / 1e12, precision="bfloat16" if run.on_gpu else "float32")


@cache
def rates(on_gpu: bool) -> tuple[float, float]:
    """Return bytes per second of a copy, read and written, and FLOP per second of a large product."""
    device = "cuda" if on_gpu else "cpu"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    size, numbers = (8192, 2**30) if on_gpu else (1024, 2**24)
    source, target = torch.zeros(numbers, dtype=dtype, device=device), torch.zeros(numbers, dtype=dtype, device=device)
    bandwidth = 2 * source.nbytes / fastest(lambda: target.copy_(source))
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    return bandwidth, 2 * size**3 / fastest(lambda: a @ b)


def fastest(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least seconds of several calls, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def synchronize() -> None:
    """Wait until the GPU is done, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    """Forget the peak memory so far, such as that of loading; on a CPU it cannot be forgotten."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def step_ours(run: PartRun) -> None:
    """Record the time and memory of optimizer steps as rlvid makes them, with packed rows."""
    time_steps(run, PackedStep, REPEATS)


def step_rows(run: PartRun) -> None:
    """Measure steps with the prompt repeated for each completion."""
    time_steps(run, SeparateRowsStep, REPEATS - 1)


def step_reference(run: PartRun) -> None:
    """Measure one step of the paper's scheme; two tokens warm up `generate`, since a step takes long."""
    short = PaperStep(run.model_folder(), replace(run.workload, completion_tokens=2))
    short.step()
    del short
    gc.collect()
    time_steps(run, PaperStep, 1, warm_up=False)


def time_steps(run: PartRun, implementation: type[PackedStep], repeats: int, warm_up: bool = True) -> None:
    """Record the median seconds of a step and of its phases, and the peak memory."""
    step = implementation(run.model_folder(), run.workload)
    reset_peak()
    turns = []
    for _ in range(repeats + warm_up):
        start = time.perf_counter()
        phases = dict(step.step())
        turns.append(phases | {"step": time.perf_counter() - start})
    turns = turns[warm_up:]
    for phase in ("step", *phases):
        run.record(**{f"{phase}_s": median(turn.get(phase, 0.0) for turn in turns)})
    run.record(slowest_s=max(turn["step"] for turn in turns), steps=len(turns))
    run.record(peak_gb=peak_memory() / 1e9, tokens=step.tokens)


def step_trl(run: PartRun) -> None:
    """Measure steps of TRL's trainer."""
    if find_spec("trl") is None:
        run.skip("trl is not installed")
    seconds: list[float] = []
    tokens: list[int] = []

    def report(phases: dict[str, float], count: int) -> None:
        if not seconds:  # after the step that warms up
            reset_peak()
        seconds.append(phases["step"])
        tokens.append(count)

    with suppress(SystemExit):  # so the trainer ends when no further step is requested
        run_trl(run.model_folder(), run.workload, lambda: len(seconds) <= REPEATS, report)
    run.record(step_s=median(seconds[1:]), slowest_s=max(seconds[1:]), steps=len(seconds) - 1)
    run.record(peak_gb=peak_memory() / 1e9, tokens=tokens[-1])


def memory(run: PartRun) -> None:
    """Compare the peak of each phase with the estimate. On a CPU, the peak of the whole process, with its libraries."""
    step = MeasuredStep(run.model_folder(), run.workload)
    train = step.config.train
    for _ in range(2):  # AdamW makes its moments in the first
        step.step()
    config = replace(step.config, algorithm=Plugin("grpo", fields={"beta": KL_BETA}))
    planned = estimate(config, Devices(), mixed_precision=step.policy.bf16)
    run.record(estimated_gb=planned.peak()[1] / 1e9, max_tokens_per_forward=train.max_tokens_per_forward)
    if not run.on_gpu:
        run.record(process_gb=peak_memory() / 1e9)
        return
    run.record(peak_gb=max(step.peaks.values()) / 1e9, ratio=max(step.peaks.values()) / planned.peak()[1])
    for phase, estimated in ESTIMATED.items():
        expected = planned.bytes_in(estimated)
        if estimated is Phase.BACKWARD:
            expected = max(planned.bytes_in(one) for one in (Phase.FORWARD, Phase.BACKWARD, Phase.UPDATE))
        run.record(**{f"{phase}_gb": step.peaks[phase] / 1e9, f"{phase}_ratio": step.peaks[phase] / expected})


def learn(run: PartRun) -> None:
    """Time learning from random completions of one group, and of eight, and relate it to the rate of products."""
    _, best = rates(run.on_gpu)
    for count in groups_of_step(run):
        workload = replace(run.workload, groups=count)
        step = PackedStep(run.model_folder(), workload)
        inputs = [step.policy.encode(*row) for row in zip(step.prompts, step.clips, strict=True)]
        groups = random_groups(step.prompts, workload.num_generations, workload.completion_tokens)
        credited = step.credit(inputs, groups)
        step.backoff = OOMBackoff("tokens", step.config.train.max_tokens_per_forward)
        seconds = fastest(lambda step=step, credited=credited: step.learn(credited), repeats=2)  # type: ignore[misc]
        counts = count_parameters(step.config.model, step.config.train)
        shape = StepShape.of(step.config.train, step.config.video, step.algorithm, 1, family_of(counts.config))
        flops = count * learning_flops(counts, replace(shape, groups=1))
        key = f"groups_{count}"
        run.record(**{f"{key}_s": seconds, f"{key}_tflop_per_s": flops / seconds / 1e12})
        run.record(**{f"{key}_of_products": flops / seconds / best})
        if nominal := nominal_flops():
            run.record(**{f"{key}_mfu": flops / seconds / nominal})
        del step, credited
        gc.collect()


def groups_of_step(run: PartRun) -> tuple[int, int]:
    """Return the numbers of groups that are measured: one, and as many as a GPU is well used by."""
    return (1, 8) if run.on_gpu else (1, 2)


def nominal_flops() -> float:
    """Return the FLOP per second of the data sheet, or 0 for an unknown device."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((tflops * 1e12 for key, tflops in NOMINAL_TFLOPS.items() if key in name), 0.0)


def decode(run: PartRun) -> None:
    """Time a decoded token by the difference of long and short rollouts, over the time to read weights and cache."""
    bandwidth, _ = rates(run.on_gpu)
    short, long = (16, 80) if run.on_gpu else (4, 16)
    for count in groups_of_step(run):
        workload = replace(run.workload, groups=count)
        step = PackedStep(run.model_folder(), workload)
        inputs = [step.policy.encode(*row) for row in zip(step.prompts, step.clips, strict=True)]
        seconds = [rollout_seconds(step, inputs, length) for length in (short, long)]
        per_token = (seconds[1] - seconds[0]) / (long - short)
        counts = count_parameters(step.config.model, step.config.train)
        rows = count * workload.num_generations
        precision = 2 if step.policy.bf16 else 4
        prompts = rows if run.on_gpu else count  # on a GPU the prompt's keys and values are repeated for each row
        needed = decoded_bytes(counts, precision, rows, prompts, workload.prompt_tokens, (short + long) // 2)
        run.record(**{f"rows_{rows}_ms": 1e3 * per_token, f"rows_{rows}_floor_ms": 1e3 * needed / bandwidth})
        run.record(**{f"rows_{rows}_ratio": per_token * bandwidth / needed})
        del step
        gc.collect()


def rollout_seconds(step: PackedStep, inputs: Sequence, length: int) -> float:
    """Return the seconds of a rollout of completions of some length."""
    train = replace(step.config.train, max_completion_length=length)
    sampler = Sampler(step.policy, train, lambda phase: nullcontext())
    return fastest(lambda: sampler(step.prompts, inputs, "decode"), repeats=2)
