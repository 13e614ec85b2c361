"""Preference pairs: attach them to prompts, or make them from the samples of a run.

A file of pairs has lines {"id": SAMPLE, "chosen": TEXT, "rejected": TEXT}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlvid.data.records import duplicate_error, read_records
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.utils.files import read_jsonl, write_jsonl
from rlvid.utils.hashing import uniform_hash

MAX_LISTED_IDS = 5  # unknown ids that an error message lists
MIN_MARGIN = 1e-9  # rewards that differ by less are equal


def attach_preferences(prompts: Sequence[Prompt], path: Path) -> list[Prompt]:
    """Return the prompts that a file has a pair for, in their order, with `demonstration` and `rejected` set.

    Raises:
        UserError: with file, line and field if a line is not a pair, or if a sample has two pairs; and if there is no
            file or no pair, or a pair of an unknown sample.
    """
    if not path.is_file():
        raise UserError(f"preferences: {path}: no such file. Paths are relative to {Path.cwd()}")
    pairs: dict[str, tuple[str, str]] = {}
    for record in read_records(path, path.parent):
        sample_id = record.get_text("id")
        chosen, rejected = record.get("chosen"), record.get("rejected")
        if sample_id in pairs:
            raise duplicate_error(record, "id", sample_id)
        if chosen == rejected:
            raise record.error("rejected", "is the same text as chosen; remove this line")
        pairs[sample_id] = chosen, rejected
    if not pairs:
        raise UserError(f"{path}: holds no pair")
    if unknown := sorted(pairs.keys() - {prompt.id for prompt in prompts}):
        listed = ", ".join(unknown[:MAX_LISTED_IDS]) + (", ..." if len(unknown) > MAX_LISTED_IDS else "")
        raise UserError(
            f"{path}: {len(unknown)} of {len(pairs)} ids belong to no training sample: {listed}; "
            "remove their lines, or set `data` to the benchmark that they come from"
        )
    with_pairs = []
    for prompt in prompts:
        if prompt.id in pairs:
            chosen, rejected = pairs[prompt.id]
            with_pairs.append(replace(prompt, demonstration=chosen, rejected=rejected))
    return with_pairs


def write_pairs_of_run(run: Path, path: Path) -> int:
    """Write the preference pairs that a run's `samples/` hold to a file; return their number.

    See `best_and_worst` for the pair of a group. If a sample was trained on several times, its last pair counts.
    Raises UserError if the run has no samples.
    """
    files = sorted((run / "samples").glob("step-??????.jsonl"))
    if not files:
        raise UserError(f"{run / 'samples'}: holds no samples; give the folder of a run that has trained")
    pairs: dict[str, dict[str, str]] = {}
    for file in files:
        for group in read_jsonl(file):
            pair = best_and_worst(group, file.stem)
            if pair:
                pairs[pair["id"]] = pair
    write_jsonl(path, pairs.values())
    return len(pairs)


def best_and_worst(group: Mapping[str, Any], step: str) -> dict[str, str]:
    """Return the pair of a group, a line of `samples/`; empty if no two completions differ in reward and text.

    The chosen completion is the finished one with the highest total reward, the rejected one that with the lowest.
    Among equal rewards a hash of the sample, the step and the completion's index decides.
    """
    columns = zip(group["completions"], group["totals"], group["finished"], strict=True)
    candidates = [
        (total, uniform_hash("pair", group["id"], step, index), text)
        for index, (text, total, finished) in enumerate(columns)
        if finished and text.strip()
    ]
    if not candidates:
        return {}
    (low, _, rejected), (high, _, chosen) = min(candidates), max(candidates)
    if high <= low + MIN_MARGIN or chosen == rejected:
        return {}
    return {"id": group["id"], "chosen": chosen, "rejected": rejected}
