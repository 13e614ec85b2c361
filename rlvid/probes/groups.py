"""In groups: what is left of the reward when an algorithm compares the replies to one question with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np

from rlvid.probes.information import SAME
from rlvid.probes.result import Block
from rlvid.probes.statistics import correlation, flat, interval
from rlvid.probes.subject import Scored
from rlvid.probes.verdicts import Checks, block, skipped
from rlvid.registry import build
from rlvid.reward import is_flat

SCALES = ("group", "batch", "none")  # of GRPO's scale_rewards
ROUNDING = 1e-9  # an advantage below this is rounding
KEPT = 0.01  # advantage share from which a reward counts as kept
HEAVIER = (2.0, 3.0, 5.0, 10.0)  # times its weight, tried where it is cancelled
Numbers = Mapping[str, Any]


def measure_groups(scored: Scored, weight: float = 1.0, with_interval: bool = True) -> Numbers:
    """Return what group normalization leaves of the reward, alone and with `weight` beside accuracy of weight 1.

    Groups of the most frequent size are compared. `None` counts as 0, as in training.
    """
    size, count = Counter(map(len, scored.groups)).most_common(1)[0]
    chosen = [i for i, group in enumerate(scored.groups) if len(group) == size]
    if size < 2:
        return {"size": size, "groups": count}
    values, right = (dense_rows(column, chosen) for column in (scored.column, scored.others["accuracy"]))  # (P, G)
    flat_by_reward, flat_by_accuracy = (
        np.array([is_flat(row) for row in rows.tolist()]) for rows in (values, right)
    )  # (P,)
    total = values.var()
    signs = _sign_agreement(values, right)
    numbers: dict[str, Any] = {
        "size": size,
        "groups": count,
        "left_out": len(scored.groups) - count,
        "flat": float(flat_by_reward.mean()),
        "flat_accuracy": float(flat_by_accuracy.mean()),
        "rescued": float((flat_by_accuracy & ~flat_by_reward).mean()),
        "between_groups": float(values.mean(1).var() / total) if total > 1e-12 else None,
        "weight": weight,
        "shares": advantage_shares(right, values, weight),
        "is_accuracy": (correlation(flat(scored.column), flat(scored.others["accuracy"])) or 0) >= SAME,
        "agreement": signs.mean() if len(signs) else None,
    }
    if numbers["between_groups"] is not None and numbers["shares"]["group"] < KEPT and not numbers["is_accuracy"]:
        numbers["rescue"] = rescue(right, values, weight)
    if with_interval and len(signs):
        bounds = interval(lambda rows: _mean(_sign_agreement(values[rows], right[rows])), len(values))
        numbers["agreement_interval"] = bounds
    return numbers


def advantage_shares(accuracy: np.ndarray, values: np.ndarray, weight: float) -> dict[str, float]:
    """Return scale_rewards -> how much of GRPO's advantages would change without the reward.

    It is the metric `advantage_share/NAME` of a run, computed by the same functions, for (P, G) columns.
    """
    import torch

    from rlvid.trainer.metrics import advantage_shares as shares_of
    from rlvid.types import Batch, Step

    columns = {"accuracy": torch.tensor(accuracy), "probed": torch.tensor(values)}
    ones = torch.ones(values.size, 1)
    step = Step(columns, {"accuracy": 1.0, "probed": weight}, Batch(ones, torch.zeros_like(ones), ones))
    shares = {}
    for scale in SCALES:
        algorithm = build("algorithms", "grpo", scale_rewards=scale)
        shares[scale] = shares_of(algorithm, step, algorithm.credit(step))["advantage_share/probed"]
    return shares


def rescue(accuracy: np.ndarray, values: np.ndarray, weight: float) -> dict[str, Any]:
    """Return what would keep a cancelled reward, for (P, G) columns.

    `weight` is the first of `HEAVIER` times its weight that lifts its share under scale_rewards=group to `KEPT`, and
    `share` that share; None if none does. `alike` is the share of groups of two or more right replies that pay all of
    them the same, None without such groups: what differs among right replies is what normalization cannot cancel.
    """
    heavier = ((weight * factor, advantage_shares(accuracy, values, weight * factor)["group"]) for factor in HEAVIER)
    kept_weight, share = next(((one, share) for one, share in heavier if share >= KEPT), (None, None))
    paid = [row[correct == 1] for row, correct in zip(values, accuracy, strict=True) if (correct == 1).sum() > 1]
    return {
        "weight": kept_weight,
        "share": share,
        "alike": _mean(np.array([is_flat(row.tolist()) for row in paid], float)),
    }


def judge_groups(numbers: Numbers, checks: Checks) -> Block:
    """Return the block "groups": what `measure_groups` counted, judged by its thresholds."""
    if numbers["size"] < 2:
        return skipped("groups", "the replies are not in groups: give the samples/ of a run, not an evaluation")
    text = f"{numbers['flat']:.0%} of the groups are flat: they give no credit"
    findings = checks.at_most("groups.max_flat", numbers["flat"], text)
    varies = numbers["between_groups"] is not None
    if varies and not numbers["is_accuracy"]:
        findings += checks.at_least("groups.min_share", numbers["shares"]["group"], _cancelled(numbers))
    if bounds := numbers.get("agreement_interval"):
        text = f"its advantage has accuracy's sign in {numbers['agreement']:.0%} of the cases: it pushes the other way"
        findings += checks.at_least("groups.min_agreement", bounds[1], text)
    shares = ", ".join(f"{scale} {share:.2f}" for scale, share in numbers["shares"].items())
    share = "it is accuracy" if numbers["is_accuracy"] else f"advantage share beside accuracy: {shares}"
    return block("groups", numbers, findings, f"{numbers['flat']:.0%} of the groups are flat; {share}")


def _cancelled(numbers: Numbers) -> str:
    """Say that the reward is cancelled, and what would keep it."""
    shares = numbers["shares"]
    kept = [scale for scale in SCALES if shares[scale] >= KEPT]
    words = "group normalization cancels it beside accuracy"
    if kept:
        return f"{words} (share {shares['group']:.3f}); scale_rewards={kept[-1]} keeps it ({shares[kept[-1]]:.2f})"
    return f"{words} under every scale_rewards: within a group it says what accuracy says, or nothing"


def _sign_agreement(values: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return for each reply in which both have an advantage whether the two signs agree."""
    a, b = (rows - rows.mean(1, keepdims=True) for rows in (values, right))
    both = (abs(a) > ROUNDING) & (abs(b) > ROUNDING)
    return (np.sign(a) == np.sign(b))[both].astype(float)


def dense_rows(column: Any, chosen: list[int]) -> np.ndarray:
    """Return some rows of a column as a (P, G) array; None becomes 0."""
    return np.array([[value or 0.0 for value in column[i]] for i in chosen], float)


def _mean(values: np.ndarray) -> float | None:
    return fmean(values) if len(values) else None
