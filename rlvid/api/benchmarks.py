"""Measure speed and memory on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvid.api.arguments import as_list
from rlvid.errors import UserError
from rlvid.registry import suggest

BENCHES = ("step", "sweep", "eval", "decode", "gpu")


def measure_speed(
    what: str = "step",
    preset: str = "20m",
    against: str | Sequence[str] = ("trl",),
    repeats: int = 5,
    groups: int = 1,
    lora_r: int = 0,
    media: str = "video",
    needs: str | Sequence[str] = ("view_logps:patches",),
    out: str | Path = "runs/bench",
) -> dict[str, Any]:
    """Measure seconds and memory on this machine, and print the tables.

    Args:
        what: "step" (optimizer steps of rlvid and of other implementations in turn), "sweep" (rlvid's step by number of
            completions, prompt length and completion length), "eval" (questions per second, batched and one by one) or
            "decode" (clips per second, beside plain decord).
        preset: the model, with random weights: "20m", "2b", "7b" or one of another family in `workload.MODELS`.
        against: the other implementations of "step": "trl", "views", "rows", "reference".
        repeats, groups: measured steps of each implementation, after one warm-up step; groups of a step.
        lora_r: rank of a LoRA adapter to train; 0 trains all weights.
        media: "video" (16 frames and an image), or "image" (one image with as many visual tokens).
        needs: what the implementation "views" computes for each token besides, as an algorithm's `needs`.
        out: the folder for the results.

    Returns:
        The measurements of "step" and "sweep", see `rlvid.bench.compare`; {} for the others, which only print.
        Raises UserError for an unknown benchmark, model, medium or implementation, and a number that is too small.
    """
    import torch
    from rich.console import Console

    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.bench import compare, throughput
    from rlvid.bench.workload import MEDIA, Workload

    _check_workload(preset, repeats, groups, lora_r, media)
    console, folder = Console(), Path(out)
    workload = Workload(preset, groups, lora_r=lora_r, needs=tuple(as_list(needs)), **MEDIA[media])
    if what == "step":
        in_parallel = not torch.cuda.is_available()  # a GPU may not hold several implementations at once
        result = compare.compare_steps(workload, ["ours", *as_list(against)], repeats, folder, in_parallel)
        console.print(compare.steps_table(result), "", compare.phases_table(result))
        return result
    elif what == "sweep":
        result = compare.run_sweep(workload, repeats, folder)
        picture = compare.draw_sweep(result, folder / f"sweep-{preset}.png")
        console.print(compare.sweep_table(result), "", f"drawn: {picture}")
        return result
    elif what == "eval":
        console.print(throughput.answering_table(workload, repeats, compare.OUTPUT_FOLDER / "models" / preset))
    elif what == "decode":
        console.print(throughput.decoding_table(repeats))
    elif what == "gpu":
        raise UserError("the benchmark gpu is the function measure_gpu")
    else:
        raise UserError(f"no benchmark {what!r}.{suggest(what, BENCHES)}")
    return {}


def _check_workload(preset: str, repeats: int, groups: int, lora_r: int, media: str) -> None:
    """Raise UserError for a model or a medium that does not exist, or a number that is too small."""
    from rlvid.bench.workload import MEDIA, MODELS

    if media not in MEDIA:
        raise UserError(f"no benchmark on {media!r}.{suggest(media, MEDIA)}")
    if preset not in MODELS:
        raise UserError(f"no benchmark model {preset!r}.{suggest(preset, MODELS)}")
    for option, number, least in (("--repeats", repeats, 1), ("--groups", groups, 1), ("--lora-r", lora_r, 0)):
        if number < least:
            raise UserError(f"{option} {number}: give {least} or more")


def measure_gpu(
    device: str = "cuda",
    preset: str = "",
    parts: str | Sequence[str] = (),
    minutes: float = 10.0,
    out: str | Path = "runs/bench",
) -> dict[str, Any]:
    """Check rlvid on a GPU and measure its speed, with random weights and without network; print tables.

    A part that fails is recorded, and the others run. See `rlvid.bench.gpu`.

    Args:
        device: "cuda", or "cpu" to try the command itself.
        preset: "tiny", "2b" or "7b" for all parts; "" is 2b and 7b on a GPU, and tiny on a CPU.
        parts: names of `rlvid list parts`; none means all.
        minutes: the budget; a part whose time limit does not fit in what is left of it is skipped.
        out: the folder of the result, gpu.json, and of the logs.

    Returns:
        What gpu.json holds: "environment", and "cases" with the status, values and message of each part.

    Raises:
        UserError: for an unknown device, preset or part, and if there is no GPU.
    """
    import torch
    from rich.console import Console

    from rlvid.bench.gpu import parts as table_of_parts
    from rlvid.bench.gpu import runner, tables

    if device not in ("cuda", "cpu"):
        raise UserError(f"no device {device!r}. Known: cuda, cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device here; to try the command on a CPU: rlvid bench gpu --device cpu --preset tiny")
    cases = table_of_parts.planned(preset or ("tiny" if device == "cpu" else ""), as_list(parts))
    console = Console(width=160)
    result = runner.run_cases(cases, device, minutes, Path(out), console)
    for table in (tables.speed_table(result), tables.efficiency_table(result)):
        if table:
            console.print("", table)
    console.print("", tables.summary(result), f"wrote {Path(out) / runner.RESULT}", sep="\n")
    return result
