"""What a step reports. Names are TRL's wherever the meaning is TRL's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.reward import Mix
from rlvid.types import Group


@dataclass(frozen=True)
class Record:
    """One group's texts, scores and lengths: what all processes tell each other, and a line of `samples/`."""

    place: int  # the prompt's place in the step
    id: str
    question: str
    gold: str | None
    clean: str | None  # the right answer before any noise; only ever reported, never rewarded
    completions: tuple[str, ...]
    answers: tuple[str | None, ...]
    lengths: tuple[int, ...]
    finished: tuple[bool, ...]
    columns: Mapping[str, list[float | None]]
    totals: tuple[float, ...]

    @classmethod
    def of(cls, place: int, group: Group, totals: Sequence[float]) -> Record:
        """A judged group as a record."""
        return cls(
            place=place,
            id=group.prompt.id,
            question=group.prompt.text,
            gold=group.prompt.answer,
            clean=group.prompt.meta.get("clean_answer", group.prompt.answer),
            completions=tuple(c.text for c in group),
            answers=tuple(c.answer for c in group),
            lengths=tuple(len(c.tokens) for c in group),
            finished=tuple(c.finished for c in group),
            columns=group.columns,
            totals=tuple(totals),
        )

    def line(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def summary(records: Sequence[Record]) -> dict[str, float]:
    """Rewards and lengths of a step, over all of its completions; a column's mean leaves out `None`."""
    totals = torch.tensor([r.totals for r in records], dtype=torch.float64)
    lengths = [n for r in records for n in r.lengths]
    spread = totals.std(-1) if totals.shape[-1] > 1 else torch.zeros(len(records))
    metrics = {
        "reward": totals.mean().item(),
        "reward_std": spread.mean().item(),
        "frac_reward_zero_std": (spread < 1e-9).double().mean().item(),
        "clean_accuracy": fmean(answer == r.clean for r in records for answer in r.answers),
        "completions/mean_length": fmean(lengths),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": 1 - fmean(f for r in records for f in r.finished),
    }
    for name in records[0].columns:
        values = [v for r in records for v in r.columns[name] if v is not None]
        if values:
            metrics[f"rewards/{name}/mean"] = fmean(values)
            metrics[f"rewards/{name}/std"] = torch.tensor(values, dtype=torch.float64).std(correction=0).item()
    return metrics


def advantage_shares(algorithm: Algorithm, mix: Mix, records: Sequence[Record]) -> dict[str, float]:
    """`advantage_share/NAME`: how much of the advantages would change if that reward were left out.

    |A(all) - A(all but one)|^2 / |A(all)|^2. A reward that group normalisation cancels has none, however large it is;
    shares of rewards that agree do not add up to one.
    """
    totals = torch.tensor([r.totals for r in records], dtype=torch.float64)
    full = algorithm.advantages(totals)
    size = full.square().sum().item()
    shares = {}
    for name, weight in mix.weights.items():
        column = torch.tensor([[v or 0.0 for v in r.columns[name]] for r in records], dtype=torch.float64)
        change = (full - algorithm.advantages(totals - weight * column)).square().sum().item()
        shares[f"advantage_share/{name}"] = change / size if size > 1e-12 else 0.0
    return shares


class Meter:
    """Adds up what the optimiser steps of one batch report, over tokens and over processes."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.norms: list[float] = []

    def tokens(self, mask: Tensor, quantities: Mapping[str, Tensor]) -> None:
        """Add (B, T) quantities, to be averaged over the tokens of the mask."""
        for name, value in quantities.items():
            self.total(name, (value.detach() * mask).sum())
        self.total("tokens", mask.sum())

    def total(self, name: str, value: Tensor) -> None:
        """Add a number that processes and micro-batches sum up."""
        self.sums[name] = self.sums.get(name, torch.zeros((), dtype=torch.float64)) + value.detach().double().cpu()

    def step(self, norm: Tensor) -> None:
        """An optimiser step is about to be taken with a gradient of this norm."""
        self.norms.append(float(norm))

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Each quantity's mean over tokens; the loss's and the gradient norm's over optimiser steps."""
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name] for name in names]).to(accelerator.device)
        total = dict(zip(names, accelerator.reduce(sums, "sum").tolist(), strict=True))
        tokens, loss = total.pop("tokens"), total.pop("loss")
        means = {name: value / max(tokens, 1) for name, value in total.items()}
        return means | {"loss": loss / len(self.norms), "grad_norm": fmean(self.norms)}
