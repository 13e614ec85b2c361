"""How often each threshold raises a false alarm: on honest rewards, and on a random one where nothing can be found.

    python -m rlvid.probes.false_alarms [--resamples 200] [--probes 10] [--write rlvid/probes/README.md]

`--write` also writes data/false_alarms.json, which `rlvid probe` and `rlvid list thresholds` show.

For each honest reward the shipped groups are resampled, and with them honest replies and those of each trick, 200
times: how often does a threshold fail? A random reward gets 100 seeds; its tricks and its groups have nothing to find,
while that it is noise must be found. What needs further calls of the reward, scoring again, edits, the search and other
clips, is measured by ten whole probes of resampled groups of each honest reward, and of ten random ones.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from rlvid.config import load
from rlvid.probes.groups import judge_groups, measure_groups
from rlvid.probes.information import judge_information, measure_information
from rlvid.probes.replies import shipped_replies
from rlvid.probes.result import Block
from rlvid.probes.run import run_probe
from rlvid.probes.statistics import flat
from rlvid.probes.subject import Scored, Subject, score_all
from rlvid.probes.tricks import HONEST, judge_tricks, measure_tricks, summarize_tricks, value_range
from rlvid.probes.value import judge_value, measure_value
from rlvid.probes.verdicts import FALSE_ALARMS, THRESHOLDS, Checks, thresholds_with
from rlvid.utils.files import write_text

HONEST_REWARDS = ("accuracy", "format", "consistency_rule", "grounding_moves", "grounding_narrations")
RANDOM = "random"
SEEDS = 100
IN_WHOLE_PROBES = ("video", "tricks.max_edit", "tricks.max_search", "information.max_unstable", "information.max_pad")
MARKS = "<!-- thresholds -->", "<!-- end -->"
NOT_COMPARED = "not compared"


class Alarms(NamedTuple):
    """Threshold -> in how many probes it fails, and in how many it is compared: a block may be skipped."""

    failed: Counter[str]
    compared: Counter[str]


def alarms_of_honest(name: str, resamples: int) -> Counter[str]:
    """Return threshold -> how many of `resamples` resampled probes of a reward it fails."""
    subject = Subject.read(name, {}, load("nano"), timeout=30)
    scored = score_all(subject, shipped_replies().groups)
    tricks, rng = measure_tricks(subject, compares=False), np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for _ in track(range(resamples), name, console=Console(stderr=True), transient=True):
        chosen = scored.choose(rng.integers(len(scored.groups), size=len(scored.groups)).tolist())
        drawn = {trick: rng.choice(values, len(values)) for trick, values in tricks.items()}
        counts.update(failures(chosen, drawn, subject.key))
    return counts


def alarms_of_random(seeds: int) -> Counter[str]:
    """Return threshold -> how many of `seeds` random rewards it fails."""
    counts: Counter[str] = Counter()
    for seed in track(range(seeds), RANDOM, console=Console(stderr=True), transient=True):
        subject = Subject.read(RANDOM, {"seed": seed + 1}, load("nano"), timeout=30)
        scored = score_all(subject, shipped_replies().groups)
        counts.update(failures(scored, measure_tricks(subject, compares=False), subject.key))
    return counts


def alarms_of_probes(rewards: Sequence[tuple[str, dict[str, int]]]) -> Alarms:
    """Return how many whole probes each threshold fails, and in how many it is compared, each on resampled groups.

    Args:
        rewards: name and options of the reward of each probe.
    """
    replies, rng = shipped_replies(), np.random.default_rng(0)
    failed, compared = Counter[str](), Counter[str]()
    for name, options in track(rewards, rewards[0][0], console=Console(stderr=True), transient=True):
        subject = Subject.read(name, options, load("nano"), timeout=30)
        drawn = tuple(replies.groups[i] for i in rng.integers(len(replies.groups), size=len(replies.groups)))
        result = run_probe(subject, replace(replies, groups=drawn), thresholds_with(), weight=1.0)
        failed.update({finding.threshold for block in result.blocks for finding in block.failed})
        compared.update({finding.threshold for block in result.blocks for finding in block.findings})
    return Alarms(failed, compared)


def failures(scored: Scored, tricks: dict[str, np.ndarray], key: str) -> set[str]:
    """Return the thresholds that a probe of these values fails, as far as it needs no further call of the reward."""
    checks = Checks(thresholds_with())
    scale = value_range(flat(scored.column), tricks[HONEST])
    numbers = {**summarize_tricks(tricks, scale), "edits": {}}
    blocks: list[Block] = [
        judge_value(measure_value(scored), checks),
        judge_information(measure_information(scored, key), checks),
        judge_groups(measure_groups(scored), checks),
        judge_tricks(numbers, checks),
    ]
    return {finding.threshold for block in blocks for finding in block.failed}


def rates(
    honest: dict[str, Counter[str]],
    resamples: int,
    of_random: Counter[str],
    seeds: int,
    probes: Mapping[str, Alarms],
) -> dict[str, dict[str, str]]:
    """Return threshold -> how often it fails honest rewards, "honest", and a random one, "random", in words.

    Args:
        honest: reward -> threshold -> how many of `resamples` resampled probes it fails, without further calls.
        resamples: see above.
        of_random: the same of `seeds` random rewards.
        seeds: see above.
        probes: reward, also the random one -> what its whole probes fail.
    """
    whole = {reward: alarms.failed for reward, alarms in probes.items() if reward != RANDOM}
    found = {}
    for name in THRESHOLDS:
        if name.startswith(IN_WHOLE_PROBES):
            compared = {reward: probes[reward].compared[name] for reward in whole}
            of_seeds = probes[RANDOM].compared[name]
            found[name] = {
                "honest": _share(whole, name, compared),
                "random": f"{probes[RANDOM].failed[name]} of {of_seeds}" if of_seeds else NOT_COMPARED,
            }
        else:
            of_all = dict.fromkeys(honest, resamples)
            found[name] = {"honest": _share(honest, name, of_all), "random": f"{of_random[name] / seeds:.0%}"}
    return found


def table(found: Mapping[str, Mapping[str, str]]) -> str:
    """Return the thresholds with their false-alarm rates, see `rates`, in Markdown."""
    rows = [["threshold", "default", "meaning", "fails honest rewards", "fails a random one"]]
    rows.append(["---"] * len(rows[0]))
    for name, (default, meaning) in THRESHOLDS.items():
        rows.append([f"`{name}`", f"{default:g}", meaning, found[name]["honest"], found[name]["random"]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _share(counts: dict[str, Counter[str]], name: str, numbers: Mapping[str, int]) -> str:
    """How many of the probes of all rewards a threshold fails, and how many of the reward that it fails most.

    `numbers` holds how many probes of each reward there are.
    """
    failed = sum(rows[name] for rows in counts.values())
    worst = max(counts, key=lambda reward: counts[reward][name])
    words = f" ({worst} {counts[worst][name]} of {numbers[worst]})" if failed else ""
    return f"{failed} of {sum(numbers.values())}{words}"


def replace_between(text: str, new: str, marks: Iterable[str] = MARKS) -> str:
    """Return a text with what is between two marks replaced."""
    first, last = marks
    before, _, rest = text.partition(first)
    return f"{before}{first}\n\n{new}\n\n{last}{rest.partition(last)[2]}"


def main() -> None:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--probes", type=int, default=10)
    parser.add_argument("--write", type=Path, metavar="README")
    args = parser.parse_args()
    honest = {name: alarms_of_honest(name, args.resamples) for name in HONEST_REWARDS}
    probes = {name: alarms_of_probes([(name, {})] * args.probes) for name in HONEST_REWARDS}
    probes[RANDOM] = alarms_of_probes([(RANDOM, {"seed": seed + 1}) for seed in range(args.probes)])
    found = rates(honest, args.resamples, alarms_of_random(SEEDS), SEEDS, probes)
    print(table(found))
    if args.write:
        write_text(args.write, replace_between(args.write.read_text(), table(found)))
        write_text(FALSE_ALARMS, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
