"""Measure speed and memory on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvid.api.arguments import as_list
from rlvid.errors import UserError
from rlvid.registry import suggest

BENCHES = ("step", "sweep", "eval", "decode")


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
        preset: the model: "20m", "2b" or "7b", with random weights.
        against: the other implementations of "step": "trl", "views", "rows", "reference".
        repeats: measured steps of each implementation, after one warm-up step.
        groups: groups of a step.
        lora_r: rank of a LoRA adapter to train; 0 trains all weights.
        media: "video" (16 frames and an image), or "image" (one image with as many visual tokens).
        needs: what the implementation "views" computes for each token besides, as an algorithm's `needs`.
        out: the folder for the results.

    Returns:
        The measurements of "step" and "sweep", see `rlvid.bench.compare`; {} for the others, which only print.
    """
    import torch
    from rich.console import Console

    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.bench import compare, throughput
    from rlvid.bench.workload import MEDIA, Workload

    if media not in MEDIA:
        raise UserError(f"no benchmark on {media!r}.{suggest(media, MEDIA)}")
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
    else:
        raise UserError(f"no benchmark {what!r}.{suggest(what, BENCHES)}")
    return {}
