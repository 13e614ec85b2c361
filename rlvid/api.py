"""The verbs as functions, for notebooks and for the command line. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rlvid.config import Config, NoiseConfig, load
from rlvid.errors import UserError
from rlvid.registry import suggest

BENCHES = ("step", "sweep", "eval", "decode")


def train(
    preset: str | Path, overrides: Sequence[str] = (), out: str | Path | None = None, resume: bool = False
) -> dict[str, float]:
    """Train as a preset and its overrides say, in the folder `out`; returns the last step's metrics."""
    config = load(preset, overrides)
    return _run(config, Path(out) if out else Path("runs") / f"{Path(preset).stem}-{config.id}", resume)


def plan(preset: str | Path, overrides: Sequence[str] = (), devices: str | Path | None = None) -> None:
    """Print what a run would hold in memory, with nothing loaded: on this machine, and on some others.

    `devices` is a YAML file of `accelerate launch`; without it there is one, or as many as were launched.
    """
    import torch
    from rich.console import Console

    from rlvid.bench.memory_estimate import Devices, machines, plan, table

    config = load(preset, overrides)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    share = Devices.read(Path(devices)) if devices else Devices(ranks)
    mixed = config.train.dtype != "float32"
    console = Console()
    console.print("", table(plan(config, share, mixed), share), "", machines(config))
    if torch.cuda.is_available():
        console.print(f"\nThis device has {torch.cuda.mem_get_info()[1] / 1e9:.0f} GB.")


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    splits: Sequence[str] = (),
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
) -> dict[str, float]:
    """Evaluate a run's folder, one of its checkpoints, or any Qwen2-VL folder or hub id; resumable.

    A run's own config says how frames are chosen and rewards are mixed; other models take the paper's, and "nano" its
    preset's. An evaluation is a run without steps, and its folder is laid out as every run's. Prints its audit.
    """
    path = _there(model)
    saved = sorted((path / "checkpoints").glob("step-*"))
    owner = path if (path / "config.toml").is_file() else path.parent.parent
    own, start = owner / "config.toml", owner / "cold_start" / "folded"
    weights = saved[-1] if saved else model if owner != path else start if start.is_dir() else None
    given = ["train.max_steps=0", "cold_start.max_steps=0", "train.lora_r=0"]
    given += [f'model="{weights}"'] if weights else []
    given += held_to(owner, saved[-1] if saved else path) if own.is_file() else []
    given += [f'data="{data}"'] if data else []
    given += [f"eval.splits={list(splits)}"] if splits else []
    given += ["eval.transfer=[]"] if data or splits else []  # what is asked is what was named
    preset = own if own.is_file() else "nano" if str(model) == "nano" else "qwen2_vl_7b"
    config = replace(load(preset, [*given, *overrides]), noise=NoiseConfig())
    folder = Path(out) if out else Path("runs") / f"eval-{path.name}-{config.id}"
    metrics = _run(config, folder, resume=True)
    if os.environ.get("RANK", "0") == "0":
        audit(folder)
    return metrics


def held_to(run: Path, checkpoint: Path) -> list[str]:
    """What a run's reference was, as overrides: its saved average, or the model that its training began with."""
    config = load(run / "config.toml")
    if not config.train.max_steps:
        return []
    start = run / "cold_start" / "folded" if config.cold_start.max_steps else config.model
    return [f'evidence.reference="{checkpoint if config.train.sync_ref_model else start}"']


def audit(run: str | Path) -> None:
    """Print what a run's answers are made of: position bias, leniency, truncation, collapse, coherence, views."""
    from rich.console import Console

    from rlvid.study.audit import audit

    Console().print("", audit(Path(run)))


def compare(
    a: str | Path,
    b: str | Path,
    patterns: Sequence[str] = (),
    levels: Sequence[str] = (),
    domains: Sequence[str] = (),
    where: Sequence[str] = (),
    limit: int = 5,
) -> None:
    """Print which questions two runs get right and wrong, and what they say to those of some patterns, side by side."""
    from rich.console import Console

    from rlvid.study.cases import choose, pairs, show

    found = pairs(Path(a), Path(b))
    chosen = choose(found, patterns, levels, domains, where)
    Console().print("", show(found, chosen, (Path(a).name, Path(b).name), limit))


def watch(runs: str | Path, every: float = 2.0, once: bool = False) -> None:
    """Show a folder of runs as they go: progress, time left, courses, alarms; until all are over, or just `once`."""
    from rlvid.grids.watch import watch

    watch(Path(runs), every, once)


def attention(
    runs: Sequence[str | Path],
    sample: str,
    what: str = "reasoning",
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    out: str | Path | None = None,
) -> Path:
    """Draw where runs look while they write their reply to one question; returns the picture's path.

    `what` is "reasoning", "answer", "reply", or a word of the replies. The picture, `attention.json` and the frames are
    kept in `out`, by default in the first run's folder.
    """
    from rich.console import Console

    from rlvid.study import heatmap
    from rlvid.study.attention import together

    looks, prompt, clip = together([Path(run) for run in runs], sample, layers, heads)
    folder = Path(out) if out else Path(runs[0]) / "attention" / sample
    heatmap.save(looks, prompt, clip, what, folder)
    picture = heatmap.draw(looks, prompt, clip, what, folder / "attention.png")
    Console().print("", heatmap.table(looks), "", f"drawn: {picture}")
    return picture


def grid(script: str | Path, arguments: Sequence[str] = ()) -> int:
    """Run an experiment script's grid, with its own command line; returns its exit code."""
    import runpy

    if not Path(script).is_file():
        raise UserError(f"no experiment script {str(script)!r}; those shipped are in experiments/")
    return runpy.run_path(str(script))["GRID"].main(list(arguments))


def report(runs: str | Path, plots: bool = True, html: str | Path | None = None) -> None:
    """Print the table, the comparisons and their verdicts for a folder of runs, and draw its curves.

    With `html`, write all that and more as one page: cases with their clips, where runs look, settings. `runs` may
    also be a TOML file of published counts, see rlvid/study/published_counts.py.
    """
    if Path(runs).suffix == ".toml":
        from rlvid.study import published_counts

        if html:
            raise UserError(f"--html makes a page of a folder of runs; {runs} holds counts")
        return published_counts.report(Path(runs))
    from rlvid.study.report import report

    report(Path(runs), plots=plots)
    if html:
        from rich.console import Console

        from rlvid.study.page import save

        Console().print(f"page         {save(Path(runs), Path(html))}", soft_wrap=True)


def export(run: str | Path, folder: str | Path) -> None:
    """Write the last checkpoint of a run as a plain Hugging Face folder, a LoRA adapter folded into its base."""
    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.trainer.checkpoint import export_model

    export_model(_there(run), Path(folder))


def bench(
    what: str = "step",
    preset: str = "20m",
    against: Sequence[str] = ("trl",),
    pairs: int = 5,
    groups: int = 1,
    lora_r: int = 0,
    seen: str = "video",
    out: str | Path = "runs/bench",
) -> None:
    """Print what this machine does in one run: whole optimiser steps of rlvid's and of others', taken in turn.

    `what` may also be "sweep" (rlvid's step by completions, prompt and length), "eval" (questions a second, beside one
    by one) or "decode" (clips a second, beside plain decord). `seen` is "video" (and an image) or "image" alone, of as
    many visual tokens.
    """
    import torch
    from rich.console import Console

    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.bench import compare, throughput
    from rlvid.bench.workload import SEEN, Shape

    if seen not in SEEN:
        raise UserError(f"no benchmark on {seen!r}.{suggest(seen, SEEN)}")
    console, shape, folder = Console(), Shape(preset, groups, lora_r=lora_r, **SEEN[seen]), Path(out)
    if what == "step":
        together = not torch.cuda.is_available()
        result = compare.step(shape, ["ours", *against], pairs, folder, together)
        console.print(compare.table(result), "", compare.phases(result))
    elif what == "sweep":
        found = compare.sweep(shape, pairs, folder)
        console.print(compare.swept(found), "", f"drawn: {compare.draw(found, folder / f'sweep-{preset}.png')}")
    elif what == "eval":
        console.print(throughput.evaluation(shape, pairs, compare.HOME / "models" / preset))
    elif what == "decode":
        console.print(throughput.videos(pairs))
    else:
        raise UserError(f"no benchmark {what!r}.{suggest(what, BENCHES)}")


def _there(model: str | Path) -> Path:
    """The path of a run, a checkpoint or a model; UserError where it can only be one that is not there."""
    path = Path(model)
    if not path.exists() and (path.is_absolute() or path.parent.is_dir()) and str(model) != "nano":
        raise UserError(f"no run, checkpoint or model folder {str(model)!r}; a hub id is OWNER/NAME")
    return path


def _run(config: Config, folder: Path, resume: bool) -> dict[str, float]:
    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.trainer.loop import train

    return train(config, folder, resume)
