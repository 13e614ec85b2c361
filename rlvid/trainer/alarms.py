"""Signs that a run learns something else than it should, said while there is time to stop it.

collapse    most replies to different questions think the same, word by word
truncation  most replies are cut off by the length limit
hacking     on a held-out level a reward is higher than at the best evaluation so far, and accuracy lower by more than
            two standard errors; or over ten steps of training it is higher than over the best ten, and accuracy lower,
            both by more than three
A reward that pays only right answers, as behind a gate, falls with them: it is looked at per right answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from rlvid.answer import thought
from rlvid.trainer.metrics import GroupRecord

MOST = 0.5
WINDOW = 10  # steps of training that are looked at together


@dataclass(frozen=True)
class Alarm:
    """What is wrong, in words, and a sample that shows it."""

    kind: str
    says: str
    sample: str = ""


def detect_alarms(
    metrics: Mapping[str, float],
    records: Sequence[GroupRecord],
    before: Sequence[Mapping[str, float]],
    asked: Mapping[str, int],
) -> list[Alarm]:
    """The alarms of a step, from its metrics and records, the metrics before it, and how many a level asked."""
    alarms = [*collapse(records), *truncation(metrics, records)] if records else []
    held_out = [alarm for level, count in asked.items() for alarm in hacking(level, metrics, before, count, records)]
    return alarms + held_out + (training_hacking([*before, metrics], records) if records else [])


def collapse(records: Sequence[GroupRecord]) -> list[Alarm]:
    """Each question counts once with each thought, so that a group's agreement alone is none."""
    thoughts = [{said for text in r.completions if (said := thought(text))} for r in records]
    [(most, count)] = Counter(said for row in thoughts for said in row).most_common(1) or [("", 0)]
    if count <= MOST * len(records) or len(records) < 4:
        return []
    where = next(r.id for r, row in zip(records, thoughts, strict=True) if most in row)
    return [Alarm("collapse", f"{count} of {len(records)} questions are met with one and the same thought", where)]


def truncation(metrics: Mapping[str, float], records: Sequence[GroupRecord]) -> list[Alarm]:
    """`train.max_completion_length` may be too small, or the policy has stopped stopping."""
    share = metrics["completions/clipped_ratio"]
    if share <= MOST:
        return []
    where = next(r.id for r in records if not all(r.finished))
    return [Alarm("truncation", f"{share:.0%} of the replies are cut off by train.max_completion_length", where)]


def hacking(
    level: str,
    metrics: Mapping[str, float],
    before: Sequence[Mapping[str, float]],
    asked: int,
    records: Sequence[GroupRecord] = (),
) -> list[Alarm]:
    """A reward that climbs where accuracy falls pays for something else."""
    key, gated = f"eval/{level}/accuracy", right_only(records)
    best = max((row for row in before if key in row), key=lambda row: row[key], default=None)
    if best is None:
        return []
    lost, error = best[key] - metrics[key], (2 * best[key] * (1 - best[key]) / asked) ** 0.5
    if lost <= 2 * error:
        return []
    found = []
    for name in (n for n in metrics if _measure(n, level) and n in best):
        reward = _measure(name, level)
        old, new = (_paid(row, name, key, reward in gated) for row in (best, metrics))
        if new > old:
            words = f"on {level} accuracy fell from {best[key]:.1%} to {metrics[key]:.1%} while {reward}"
            found.append(_hack(words, reward, reward in gated, old, new, records))
    return found


def training_hacking(rows: Sequence[Mapping[str, float]], records: Sequence[GroupRecord]) -> list[Alarm]:
    """The same of training: the last steps beside as many further back, those that were most often right."""
    rows, gated = [row for row in rows if "clean_accuracy" in row], right_only(records)
    blocks = [rows[end - WINDOW : end] for end in range(len(rows), WINDOW - 1, -WINDOW)]
    if len(blocks) < 2:
        return []
    now, best = blocks[0], max(blocks[1:], key=lambda block: fmean(row["clean_accuracy"] for row in block))
    right = [[row["clean_accuracy"] for row in block] for block in (best, now)]
    if not _apart(right[1], right[0]):
        return []
    found = []
    for reward in (name for name in records[0].columns if name != "accuracy"):
        key = f"rewards/{reward}/mean"
        if all(key in row for row in (*now, *best)):
            old, new = ([_paid(row, key, "clean_accuracy", reward in gated) for row in block] for block in (best, now))
            if _apart(old, new):
                words = f"in training accuracy fell from {fmean(right[0]):.1%} to {fmean(right[1]):.1%} while {reward}"
                found.append(_hack(words, reward, reward in gated, fmean(old), fmean(new), records))
    return found


def right_only(records: Sequence[GroupRecord]) -> set[str]:
    """The rewards that paid no wrong answer of a step."""
    names = records[0].columns.keys() if records else ()
    wrong = [(r, i) for r in records for i, answer in enumerate(r.answers) if answer != r.gold]
    return {name for name in names if not any(r.columns[name][i] for r, i in wrong)} if wrong else set()


def find_example(reward: str, records: Sequence[GroupRecord]) -> str:
    """The sample whose wrong answer the reward, or the agreement behind its gate, likes most; "" if there is none."""
    rows: list[tuple[GroupRecord, Sequence[float | None]]] = [
        (r, r.evidence.get(f"agreement/{reward}") or r.columns.get(reward, [])) for r in records
    ]
    liked = [
        (value, r.id)
        for r, row in rows
        for value, answer in zip(row, r.answers, strict=False)
        if value is not None and answer != r.clean
    ]
    return max(liked, key=lambda pair: pair[0], default=(0.0, ""))[1]


def _hack(words: str, reward: str, gated: bool, old: float, new: float, records: Sequence[GroupRecord]) -> Alarm:
    by = ", per right answer," if gated else ""
    return Alarm("hacking", f"{words}{by} rose from {old:.2f} to {new:.2f}", find_example(reward, records))


def _paid(row: Mapping[str, float], name: str, accuracy: str, gated: bool) -> float:
    return row[name] / row[accuracy] if gated and row[accuracy] else row[name]


def _apart(low: Sequence[float], high: Sequence[float]) -> bool:
    """Whether one mean is above the other by more than three standard errors of their difference."""
    error = ((variance(low) + variance(high)) / WINDOW) ** 0.5
    return fmean(high) - fmean(low) > 3 * error


def _measure(name: str, level: str) -> str:
    """The reward that a metric is a held-out level's mean of; "" if it is none."""
    prefix = f"eval/{level}/"
    reward = name.removeprefix(prefix) if name.startswith(prefix) else ""
    return "" if reward == "accuracy" or reward.endswith("/accuracy") else reward
