"""Which kinds of replies a run samples, in its first and last steps, and what each reward pays for a kind.

A kind is a name and a regular expression, such as habit='It begins with'. A reply is of the first kind whose expression
is found in it, and of the kind "other" if none is. All is read from the run's `samples/`; torch is not imported.

What a reward pays for a kind is its mean over the replies of this kind minus that over the replies of the kind named
first, to the same prompt: algorithms of the GRPO family compare the completions of one prompt with each other. A
difference of means over all prompts can be another one. If clips with many pixels earn more attention and more replies
of a kind, the kind seems to be paid for what is the clip's.

The weight from which a kind is paid more is that of a weighted sum with the weights of the run's config: it says
nothing of weights that are annealed, nor of algorithms that normalize each reward by itself. It is computed from means
over groups: read it with their intervals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.table import Table

from rlvid.errors import UserError
from rlvid.study.pass_at_k import end_heading, half_width, sample_ends
from rlvid.utils.files import read_jsonl, read_toml

if TYPE_CHECKING:
    from rlvid.study.reply_credit import CreditRow

OTHER = "other"  # the kind of replies in which no expression is found
TOTAL = "sum, weighted"
GROUP_KEYS = {"completions", "answers", "clean", "columns", "totals"}  # of a line of samples/ that are read here


@dataclass(frozen=True)
class KindRow:
    """How often a kind is sampled, and how often it is right."""

    steps: str  # "first", "last", or "all" of a short run
    kind: str
    replies: int
    share: float  # of all replies of these steps
    right: float | None  # share with the right answer by the clean label; None without a reply or without labels


@dataclass(frozen=True)
class PaymentRow:
    """What a reward pays a kind more than the kind named first, in groups that have replies of both."""

    steps: str
    kind: str
    reward: str  # or `TOTAL`
    weight: float | None  # in the run's config; None for the total
    differences: tuple[float, ...]  # one for each group
    rest: float  # mean difference of the other rewards, each times its weight, summed; 0 for the total

    @property
    def mean(self) -> float:
        """The mean difference over groups."""
        return float(np.mean(self.differences))

    @property
    def from_weight(self) -> float | None:
        """The weight of this reward above which the kind is paid more in total; None if there is no such weight.

        >>> PaymentRow("first", "looking", "narrations", 1.0, (0.25, 0.75), -0.5).from_weight
        1.0
        """
        if self.mean <= 0:
            return None
        return max(0.0, -self.rest / self.mean)


@dataclass(frozen=True)
class RunKinds:
    """What `read_kinds` finds in one run."""

    run: str  # the name of its folder
    base: str  # the kind that others are compared with
    num_steps: Mapping[str, int]  # "first", "last" or "all" -> how many steps these are
    shares: tuple[KindRow, ...]
    payments: tuple[PaymentRow, ...]
    credit: tuple[CreditRow, ...] = ()  # of the algorithms that were asked for


def parse_kinds(texts: Sequence[str]) -> dict[str, re.Pattern[str]]:
    """Read NAME=REGEX texts; raises UserError without one, for another text, or for a name that is used twice.

    >>> parse_kinds(["habit=begins with"])["habit"].pattern
    'begins with'
    """
    if not texts:
        raise UserError("no kinds of replies: give a name and a regular expression, such as habit='It begins with'")
    kinds: dict[str, re.Pattern[str]] = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        if not (name and equals and pattern):
            raise UserError(f"--kind {text!r}: give a name and a regular expression, such as habit='It begins with'")
        if name in kinds or name == OTHER:
            raise UserError(f"--kind {text!r}: the name {name!r} is taken")
        try:
            kinds[name] = re.compile(pattern)
        except re.error as error:
            raise UserError(f"--kind {text!r}: this is no regular expression: {error}") from error
    return kinds


def kind_of(reply: str, kinds: Mapping[str, re.Pattern[str]]) -> str:
    """Return the first kind whose expression is found in a reply."""
    return next((name for name, pattern in kinds.items() if pattern.search(reply)), OTHER)


def read_kinds(run: Path, kinds: Mapping[str, re.Pattern[str]]) -> RunKinds:
    """Return how often each kind is sampled in a run, and what each reward pays for it.

    Raises:
        UserError: if the folder has no samples of training steps or no config, or a line is not one of `samples/`.
    """
    ends = sample_ends(run)
    if not any(ends.values()):
        raise UserError(f"{run} has no sampled replies (samples/step-NUMBER.jsonl): give the folder of a training run")
    rewards = read_toml(run / "config.toml").get("rewards", {})
    weights = {name: float(entry["weight"]) for name, entry in rewards.items()}
    shares: list[KindRow] = []
    payments: list[PaymentRow] = []
    for steps, paths in ends.items():
        groups = [group for path in paths for group in read_groups(path)]
        kinds_by_group = [[kind_of(reply, kinds) for reply in group["completions"]] for group in groups]
        shares += _share_rows(steps, groups, kinds_by_group, [*kinds, OTHER])
        first, *others = kinds
        for kind in (*others, OTHER):
            payments += _payment_rows(steps, groups, kinds_by_group, (kind, first), weights)
    num_steps = {steps: len(paths) for steps, paths in ends.items()}
    return RunKinds(run.name, next(iter(kinds)), num_steps, tuple(shares), tuple(payments))


def read_groups(path: Path) -> list[dict[str, Any]]:
    """Read the groups of a step from a file of `samples/`.

    Raises:
        UserError: if there is none, or a line is not that of a group.
    """
    groups = read_jsonl(path)
    if not groups:
        raise UserError(f"{path}: no groups of replies, so the file was cut off: remove it")
    for group in groups:
        if missing := sorted(GROUP_KEYS - group.keys()):
            raise UserError(f"{path}: a line without {missing[0]!r}: this is no file of a run's samples; remove it")
    return groups


def _share_rows(
    steps: str, groups: Sequence[Mapping[str, Any]], kinds_by_group: Sequence[Sequence[str]], names: Sequence[str]
) -> list[KindRow]:
    total = sum(map(len, kinds_by_group))
    rows = []
    for name in names:
        right = [
            answer == group["clean"]
            for group, kinds in zip(groups, kinds_by_group, strict=True)
            for answer, kind in zip(group["answers"], kinds, strict=True)
            if kind == name
        ]
        labelled = any(group["clean"] is not None for group in groups)
        rows.append(
            KindRow(steps, name, len(right), len(right) / total, np.mean(right) if right and labelled else None)
        )
    return rows


def _payment_rows(
    steps: str,
    groups: Sequence[Mapping[str, Any]],
    kinds_by_group: Sequence[Sequence[str]],
    pair: tuple[str, str],
    weights: Mapping[str, float],
) -> list[PaymentRow]:
    """Return a row for each reward and one for the weighted sum; none if no group has replies of both kinds."""
    differences: dict[str, list[float]] = {}
    for group, kinds in zip(groups, kinds_by_group, strict=True):
        is_kind, is_base = (np.array([kind == name for kind in kinds]) for name in pair)
        if not (is_kind.any() and is_base.any()):
            continue
        for reward, column in {**group["columns"], TOTAL: group["totals"]}.items():
            paid = np.array([value or 0.0 for value in column])  # a reward that does not apply adds nothing
            differences.setdefault(reward, []).append(float(paid[is_kind].mean() - paid[is_base].mean()))
    paid_in_sum = {name: weights.get(name, 0.0) * float(np.mean(each)) for name, each in differences.items()}
    rows = []
    for reward, values in differences.items():
        weight = None if reward == TOTAL else weights.get(reward, 0.0)
        rest = 0.0 if weight is None else sum(paid_in_sum.values()) - paid_in_sum[reward]
        rows.append(PaymentRow(steps, pair[0], reward, weight, tuple(values), rest))
    return rows


def render_kinds(found: RunKinds) -> Group:
    """Return the tables of a run."""
    parts: list[Table | str] = [share_table(found)]
    for kind in dict.fromkeys(row.kind for row in found.payments):
        parts += ["", payment_table(found, kind)]
    if not found.payments:
        parts += ["", f"no prompt has replies of the kind {found.base!r} and of another one: payments are not compared"]
    return Group(*parts)


def share_table(found: RunKinds) -> Table:
    """Return a table with a row per kind: its share and how often it is right, in the first and the last steps."""
    headings = []
    for steps, number in found.num_steps.items():
        replies = sum(row.replies for row in found.shares if row.steps == steps)
        headings += [f"{end_heading(steps, number)}, n={replies}", "right"]
    table = Table(f"replies of {found.run}", *headings, box=None, pad_edge=False)
    for kind in dict.fromkeys(row.kind for row in found.shares):
        cells = []
        for row in (row for row in found.shares if row.kind == kind):
            cells += [f"{row.share:.1%}", "–" if row.right is None else f"{row.right:.1%}"]
        table.add_row(kind, *cells)
    return table


def payment_table(found: RunKinds, kind: str) -> Table:
    """Return a table with a row per reward: what it pays a kind more than `found.base`, with a 95 % interval.

    "More from a weight of" is the weight of this reward, all others as they are, from which it is paid more in total.
    """
    rows = [row for row in found.payments if row.kind == kind]
    counts = {row.steps: len(row.differences) for row in rows}
    headings = []
    for steps, groups in counts.items():
        headings += [f"{end_heading(steps, found.num_steps[steps])}, {groups} groups", "more from a weight of"]
    table = Table(f"paid to {kind}, minus {found.base}", "weight", *headings, box=None, pad_edge=False)
    for reward in dict.fromkeys(row.reward for row in rows):
        by_steps = {row.steps: row for row in rows if row.reward == reward}
        weight = next(iter(by_steps.values())).weight
        cells: list[str] = []
        for steps in counts:
            row = by_steps.get(steps)
            cells += ["–", "–"] if row is None else [_difference(row), _from_weight(row)]
        table.add_row(reward, "" if weight is None else f"{weight:g}", *cells)
    return table


def _difference(row: PaymentRow) -> str:
    """The mean over groups, and half of its normal 95 % interval if there are several, see `half_width`."""
    mean, half = round(row.mean, 3) + 0.0, half_width(row.differences)  # + 0.0: no "-0.000"
    return f"{mean:+.3f}" if half is None else f"{mean:+.3f} ±{half:.3f}"


def _from_weight(row: PaymentRow) -> str:
    if row.weight is None:
        return ""
    return "none" if row.from_weight is None else f"{row.from_weight:.2g}"
