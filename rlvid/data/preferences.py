"""Pairs to learn from, as lines {"id": .., "chosen": .., "rejected": ..}: read for training, and made from a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlvid.data.records import records
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.utils.files import read_jsonl, write_jsonl
from rlvid.utils.hashing import uniform_hash


def attach(prompts: Sequence[Prompt], path: Path) -> list[Prompt]:
    """The prompts that the file has a pair for, the chosen as their demonstration, in the prompts' order.

    Raises UserError with file, line and field for a line that is no pair, a sample's second pair, or unknown samples.
    """
    if not path.is_file():
        raise UserError(f"preferences: {path}: no such file. Paths are relative to {Path.cwd()}")
    pairs: dict[str, tuple[str, str]] = {}
    for record in records(path, path.parent):
        sample = record.name("id")
        chosen, rejected = record.get("chosen"), record.get("rejected")
        if sample in pairs:
            raise record.error("id", f"{sample} stands on an earlier line too")
        if chosen == rejected:
            raise record.error("rejected", "is the same text as chosen; remove this line")
        pairs[sample] = chosen, rejected
    if not pairs:
        raise UserError(f"{path}: holds no pair")
    if strange := sorted(pairs.keys() - {prompt.id for prompt in prompts}):
        raise UserError(
            f"{path}: {len(strange)} of {len(pairs)} ids are no training sample's: {', '.join(strange[:5])}"
            f"{', ...' if len(strange) > 5 else ''}; remove their lines, or set data to where they come from"
        )
    both = [(prompt, *pairs[prompt.id]) for prompt in prompts if prompt.id in pairs]
    return [replace(prompt, demonstration=chosen, rejected=rejected) for prompt, chosen, rejected in both]


def from_samples(run: Path, path: Path) -> int:
    """Write the pairs that a run's samples hold; returns how many.

    In each group the best finished completion by total reward is preferred to the worst, equals being chosen among by
    hash; a group without two that differ in reward and text has none. Of a sample's several visits the last one counts.
    """
    files = sorted((run / "samples").glob("step-??????.jsonl"))
    if not files:
        raise UserError(f"{run / 'samples'}: holds no samples; give the folder of a run that has trained")
    rows = [pair(group, file.stem) for file in files for group in read_jsonl(file)]
    pairs = {row["id"]: row for row in rows if row}
    write_jsonl(path, pairs.values())
    return len(pairs)


def pair(group: Mapping[str, Any], visit: str) -> dict[str, str]:
    """A line of `samples/` -> its best and its worst, or nothing."""
    done = [
        (total, uniform_hash("pair", group["id"], visit, place), text)
        for place, (text, total, whole) in enumerate(
            zip(group["completions"], group["totals"], group["finished"], strict=True)
        )
        if whole and text.strip()
    ]
    if not done:
        return {}
    (low, _, rejected), (high, _, chosen) = min(done), max(done)
    return (
        {"id": group["id"], "chosen": chosen, "rejected": rejected} if high > low + 1e-9 and chosen != rejected else {}
    )
