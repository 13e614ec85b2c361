"""How often each threshold raises a false alarm: on honest rewards, and on a random one where nothing can be found.

    python -m rlvid.probes.false_alarms [--resamples 200] [--write rlvid/probes/README.md]

For each honest reward the shipped groups are resampled, and with them honest replies and those of each trick, 200
times: how often does a threshold fail? A random reward gets 100 seeds; its tricks and its groups have nothing to find,
while that it is noise must be found. Searches and counterfactuals are left out here: the whole probe of each honest
reward passes them (tests/probes).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from rlvid.config import load
from rlvid.probes.groups import judge_groups, measure_groups
from rlvid.probes.information import judge_information, measure_information
from rlvid.probes.replies import shipped_replies
from rlvid.probes.result import Block
from rlvid.probes.statistics import flat
from rlvid.probes.subject import Scored, Subject, score_all
from rlvid.probes.tricks import HONEST, judge_tricks, measure_tricks, summarize_tricks, value_range
from rlvid.probes.value import judge_value, measure_value
from rlvid.probes.verdicts import THRESHOLDS, Checks, thresholds_with
from rlvid.utils.files import write_text

HONEST_REWARDS = ("accuracy", "format", "consistency_rule", "grounding_moves", "grounding_narrations")
RANDOM = "random"
SEEDS = 100
MARKS = "<!-- thresholds -->", "<!-- end -->"


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


def failures(scored: Scored, tricks: dict[str, np.ndarray], key: str) -> set[str]:
    """Return the thresholds that a probe of these values fails, as far as it needs no further call of the reward."""
    checks = Checks(thresholds_with())
    information = dict(measure_information(scored))
    related = {name: value for name, value in information["correlations"].items() if name != key and value is not None}
    information["largest_relation"] = max(map(abs, related.values()), default=None)
    scale = value_range(flat(scored.column), tricks[HONEST])
    numbers = {**summarize_tricks(tricks, scale), "edits": {}}
    blocks: list[Block] = [
        judge_value(measure_value(scored), checks),
        judge_information(information, checks),
        judge_groups(measure_groups(scored), checks),
        judge_tricks(numbers, checks),
    ]
    return {finding.threshold for block in blocks for finding in block.failed}


def table(honest: dict[str, Counter[str]], resamples: int, of_random: Counter[str], seeds: int) -> str:
    """Return the thresholds with their false-alarm rates, in Markdown."""
    rows = [["threshold", "default", "meaning", "fails honest rewards", "fails a random one"]]
    rows.append(["---"] * len(rows[0]))
    measured = {name for name in THRESHOLDS if not name.startswith(("video", "tricks.max_edit", "tricks.max_search"))}
    measured -= {"information.max_unstable", "information.max_padding"}
    for name, (default, meaning) in THRESHOLDS.items():
        worst = max(honest, key=lambda reward: honest[reward][name])
        share = sum(counts[name] for counts in honest.values()) / len(honest) / resamples
        worst_text = f" ({worst} {honest[worst][name] / resamples:.1%})" if honest[worst][name] else ""
        cells = [f"{share:.1%}{worst_text}", f"{of_random[name] / seeds:.0%}"] if name in measured else ["", ""]
        rows.append([f"`{name}`", f"{default:g}", meaning, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def replace_between(text: str, new: str, marks: Iterable[str] = MARKS) -> str:
    """Return a text with what is between two marks replaced."""
    first, last = marks
    before, _, rest = text.partition(first)
    return f"{before}{first}\n\n{new}\n\n{last}{rest.partition(last)[2]}"


def main() -> None:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--write", type=Path, metavar="README")
    args = parser.parse_args()
    honest = {name: alarms_of_honest(name, args.resamples) for name in HONEST_REWARDS}
    shown = table(honest, args.resamples, alarms_of_random(SEEDS), SEEDS)
    print(shown)
    if args.write:
        write_text(args.write, replace_between(args.write.read_text(), shown))


if __name__ == "__main__":
    main()
