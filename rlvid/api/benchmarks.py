"""Measure speed and memory on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvid.errors import UserError
from rlvid.registry import suggest

BENCHES = ("step", "sweep", "eval", "decode")


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
    """Measure this machine and print the tables.

    Args:
        what: "step" (optimizer steps of rlvid and of other implementations in turn), "sweep" (rlvid's step by number of
            completions, prompt length and completion length), "eval" (questions per second, batched and one by one) or
            "decode" (clips per second, beside plain decord).
        preset: the model: "20m", "2b" or "7b", with random weights.
        against: the other implementations of "step": "trl", "rows", "reference".
        pairs: measured steps of each implementation, after one warm-up step.
        groups: groups of a step.
        lora_r: rank of a LoRA adapter to train; 0 trains all weights.
        seen: "video" (16 frames and an image), or "image" (one image with as many visual tokens).
        out: the folder for the results.
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
        result = compare.sweep(shape, pairs, folder)
        picture = compare.draw(result, folder / f"sweep-{preset}.png")
        console.print(compare.swept(result), "", f"drawn: {picture}")
    elif what == "eval":
        console.print(throughput.evaluation(shape, pairs, compare.HOME / "models" / preset))
    elif what == "decode":
        console.print(throughput.videos(pairs))
    else:
        raise UserError(f"no benchmark {what!r}.{suggest(what, BENCHES)}")
