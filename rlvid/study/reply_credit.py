"""Which kinds of sampled replies an algorithm would make likelier: its credit on groups that a run has sampled.

In a group of G completions with advantages A, the credit of a kind of replies is the covariance of A with being of this
kind, sum of A (is of the kind - share of the kind) / G. A group without the kind, or with nothing else, has none. If
its mean over groups is above 0, an update from them makes the kind likelier, to first order and as far as replies of a
kind share their tokens. It is divided by the mean of |A|, because AdamW divides a gradient by its running size.

So a run without learning (`train.learning_rate=0`) on other rewards or other labels, or the first steps of any run, can
say before a training run where an algorithm's credit points. It says nothing of how fast, or of what follows once the
shares have changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.config.reader import parse_override
from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.study.pass_at_k import end_heading, half_width, sample_ends
from rlvid.study.reply_kinds import OTHER, kind_of, read_groups


@dataclass(frozen=True)
class CreditRow:
    """The credit that an algorithm gives a kind of replies."""

    steps: str  # "first", "last", or "all" of a short run
    algorithm: str  # as it was named
    kind: str
    shares: tuple[float, ...]  # one for each group: the credit of the kind over the mean of |A| of all groups

    @property
    def mean(self) -> float:
        """The mean over groups: above 0, an update makes the kind likelier."""
        return sum(self.shares) / len(self.shares)


def build_algorithms(texts: Sequence[str]) -> dict[str, Algorithm]:
    """Build algorithms whose advantages follow from total rewards alone, given as NAME or NAME:FIELD=VALUE,...

    >>> build_algorithms(["pass_at_k:k=2"])["pass_at_k:k=2"].k
    2

    Raises:
        UserError: for an unknown name or field, and for an algorithm whose credit needs more than total rewards.
    """
    algorithms = {}
    for text in texts:
        name, _, settings = text.partition(":")
        fields: dict[str, Any] = {}
        for setting in filter(None, settings.split(",")):
            fields |= parse_override(setting)
        algorithm = build("algorithms", name, **fields)
        if type(algorithm).credit is not Algorithm.credit or algorithm.completion_source != "policy":
            raise UserError(f"--credit {text}: the credit of {name!r} does not follow from total rewards alone")
        algorithms[text] = algorithm
    return algorithms


def read_credit(
    run: Path, kinds: Mapping[str, re.Pattern[str]], algorithms: Mapping[str, Algorithm]
) -> tuple[CreditRow, ...]:
    """Return the credit that each algorithm would give each kind in the first and the last steps of a run."""
    rows: list[CreditRow] = []
    for steps, paths in sample_ends(run).items():
        step_groups = [read_groups(path) for path in paths]
        totals = [torch.tensor([group["totals"] for group in groups], dtype=torch.float64) for groups in step_groups]
        replies = [group["completions"] for groups in step_groups for group in groups]
        kinds_by_group = [[kind_of(reply, kinds) for reply in each] for each in replies]
        for name, algorithm in algorithms.items():
            advantages = torch.cat([algorithm.advantages(rewards) for rewards in totals])  # (groups, G)
            for kind in (*kinds, OTHER):
                is_kind = torch.tensor([[one == kind for one in each] for each in kinds_by_group])
                rows.append(CreditRow(steps, name, kind, tuple(credit_shares(advantages, is_kind))))
    return tuple(rows)


def credit_shares(advantages: Tensor, is_kind: Tensor) -> list[float]:
    """Return the credit of a kind in each group, over the mean of |A| in all groups.

    Args:
        advantages: (groups, G).
        is_kind: (groups, G) bool, which replies are of the kind.

    >>> credit_shares(torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([[True, False], [True, True]]))
    [0.5, 0.0]
    """
    deviations = is_kind.double() - is_kind.double().mean(1, keepdim=True)
    credit = (advantages * deviations).mean(1) / advantages.abs().mean().clamp(min=1e-9)
    shares: list[float] = credit.tolist()
    return shares


def render_credit(rows: Sequence[CreditRow], num_steps: Mapping[str, int]) -> Group:
    """Return a table for each end of a run: a row per algorithm, and what share of its credit each kind gets."""
    parts: list[Table | str] = []
    for steps, number in num_steps.items():
        rows_of_end = [row for row in rows if row.steps == steps]
        heading = f"{end_heading(steps, number)}, {len(rows_of_end[0].shares)} groups, % of all credit"
        kinds = dict.fromkeys(row.kind for row in rows_of_end)
        table = Table(heading, *(f"for {kind}" for kind in kinds), box=None, pad_edge=False)
        for name in dict.fromkeys(row.algorithm for row in rows_of_end):
            table.add_row(name, *(_percent(row) for row in rows_of_end if row.algorithm == name))
        parts += ["", table]
    return Group(*parts)


def _percent(row: CreditRow) -> str:
    mean, half = round(100 * row.mean, 1) + 0.0, half_width(row.shares)  # + 0.0: no "-0.0"
    return f"{mean:+.1f}" if half is None else f"{mean:+.1f} ±{100 * half:.1f}"
