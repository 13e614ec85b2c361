"""Signs that a run learns something else than it should, said while there is time to stop it.

collapse    most replies to different questions think the same, word by word
truncation  most replies are cut off by the length limit
hacking     on a held-out level a reward is higher than at the best evaluation so far, and accuracy lower by more than
            two standard errors
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlvid.answer import thought
from rlvid.metrics import Record

MOST = 0.5


@dataclass(frozen=True)
class Alarm:
    """What is wrong, in words, and a sample that shows it."""

    kind: str
    says: str
    sample: str = ""


def raised(
    metrics: Mapping[str, float],
    records: Sequence[Record],
    before: Sequence[Mapping[str, float]],
    asked: Mapping[str, int],
) -> list[Alarm]:
    """The alarms of a step, from its metrics and records, the metrics before it, and how many a level asked."""
    alarms = [*collapse(records), *truncation(metrics, records)] if records else []
    return alarms + [alarm for level, count in asked.items() for alarm in hacking(level, metrics, before, count)]


def collapse(records: Sequence[Record]) -> list[Alarm]:
    """Each question counts once with each thought, so that a group's agreement alone is none."""
    thoughts = [{said for text in r.completions if (said := thought(text))} for r in records]
    [(most, count)] = Counter(said for row in thoughts for said in row).most_common(1) or [("", 0)]
    if count <= MOST * len(records) or len(records) < 4:
        return []
    where = next(r.id for r, row in zip(records, thoughts, strict=True) if most in row)
    return [Alarm("collapse", f"{count} of {len(records)} questions are met with one and the same thought", where)]


def truncation(metrics: Mapping[str, float], records: Sequence[Record]) -> list[Alarm]:
    """`train.max_completion_length` may be too small, or the policy has stopped stopping."""
    share = metrics["completions/clipped_ratio"]
    if share <= MOST:
        return []
    where = next(r.id for r in records if not all(r.finished))
    return [Alarm("truncation", f"{share:.0%} of the replies are cut off by train.max_completion_length", where)]


def hacking(level: str, metrics: Mapping[str, float], before: Sequence[Mapping[str, float]], asked: int) -> list[Alarm]:
    """A reward that climbs where accuracy falls pays for something else."""
    key = f"eval/{level}/accuracy"
    best = max((row for row in before if key in row), key=lambda row: row[key], default=None)
    if best is None:
        return []
    lost, error = best[key] - metrics[key], (2 * best[key] * (1 - best[key]) / asked) ** 0.5
    climbed = [n for n in metrics if _measure(n, level) and metrics[n] > best.get(n, float("inf"))]
    if lost <= 2 * error:
        return []
    words = f"on {level} accuracy fell from {best[key]:.1%} to {metrics[key]:.1%} while"
    return [
        Alarm("hacking", f"{words} {_measure(name, level)} rose from {best[name]:.2f} to {metrics[name]:.2f}")
        for name in climbed
    ]


def _measure(name: str, level: str) -> str:
    """The reward that a metric is a held-out level's mean of; "" if it is none."""
    prefix = f"eval/{level}/"
    reward = name.removeprefix(prefix) if name.startswith(prefix) else ""
    return "" if reward == "accuracy" or reward.endswith("/accuracy") else reward
