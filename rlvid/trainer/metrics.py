"""What a step reports. Names are TRL's wherever the meaning is TRL's."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.trainer.evidence import to_json
from rlvid.types import Batch, Group, Step


@dataclass(frozen=True)
class GroupRecord:
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
    evidence: Mapping[str, Any]  # what the rewards read beyond the texts

    @classmethod
    def of(cls, place: int, group: Group, totals: Sequence[float]) -> GroupRecord:
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
            evidence=to_json(group.evidence),
        )

    def line(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def step_metrics(records: Sequence[GroupRecord]) -> dict[str, float]:
    """Rewards and lengths of a step, over all of its completions; a column's mean leaves out `None`."""
    totals = torch.tensor([r.totals for r in records], dtype=torch.float64)
    lengths = [n for r in records for n in r.lengths]
    right = [[answer == r.gold for answer in r.answers] for r in records]
    spread = totals.std(-1) if totals.shape[-1] > 1 else torch.zeros(len(records))
    metrics = {
        "reward": totals.mean().item(),
        "reward_std": spread.mean().item(),
        "frac_reward_zero_std": (spread < 1e-9).double().mean().item(),
        "frac_all_correct": fmean(map(all, right)),
        "frac_all_incorrect": fmean(not any(group) for group in right),
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
    for name in dict.fromkeys(n for r in records for n in r.evidence if n.startswith("metric/")):
        metrics.setdefault(name.removeprefix("metric/"), fmean(r.evidence[name] for r in records if name in r.evidence))
    for name in (n for n in records[0].columns if n != "accuracy"):
        column = [v for r in records for v in r.columns[name]]
        for other, facts in (("accuracy", [fact for group in right for fact in group]), ("length", lengths)):
            if (r := correlation(column, facts)) is not None:
                metrics[f"rewards/{name}/corr_{other}"] = r
    return metrics


def correlation(column: Sequence[float | None], facts: Sequence[float]) -> float | None:
    """Pearson's, where the column applies; None where either does not vary."""
    pairs = [(value, fact) for value, fact in zip(column, facts, strict=True) if value is not None]
    if any(len({*side}) < 2 for side in zip(*pairs, strict=True)) or len(pairs) < 2:
        return None
    return statistics.correlation(*zip(*pairs, strict=True))


def advantage_shares(algorithm: Algorithm, step: Step, batch: Batch) -> dict[str, float]:
    """`advantage_share/NAME`: how much of the credited batch's advantages would change without that reward.

    |A(all) - A(all but one)|^2 / |A(all)|^2, each completion counting alike. A reward that group normalisation cancels
    has none, however large it is; shares of rewards that agree do not add up to one.
    """

    def size(advantages: Tensor) -> float:
        return (advantages.square().sum(-1) / batch.mask.sum(-1).clamp(min=1)).sum().item()

    full = size(batch.advantages)
    change = {name: size(batch.advantages - algorithm.credit(step.without(name)).advantages) for name in step.mix}
    return {f"advantage_share/{name}": value / full if full > 1e-12 else 0.0 for name, value in change.items()}


def label_repair_metrics(records: Sequence[GroupRecord], labels: Sequence[str | None]) -> dict[str, float]:
    """How well an algorithm refined the labels that it was given, against the clean ones that it never sees.

    `labels/changed`: the share of prompts whose label it changed; `labels/precision`: the share of those that it
    got right; `labels/recall`: the share of wrong labels that it put right. Nothing where it kept all labels.
    """
    rows = list(zip(records, labels, strict=True))
    changed = [label == r.clean for r, label in rows if label not in (r.gold, None)]
    wrong = [label == r.clean for r, label in rows if r.gold != r.clean]
    metrics = {"labels/changed": len(changed) / len(rows)} if changed else {}
    metrics |= {"labels/precision": fmean(changed)} if changed else {}
    return metrics | ({"labels/recall": fmean(wrong)} if changed and wrong else {})


class MetricAccumulator:
    """Adds up what the optimiser steps of one batch report, over tokens and over processes."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.most: dict[str, float] = {}
        self.norms: list[float] = []

    def tokens(self, mask: Tensor, quantities: Mapping[str, Tensor]) -> None:
        """Add (B, T) quantities, to be averaged over the tokens of the mask, less those that are not a number."""
        for name, value in quantities.items():
            counted = mask * ~value.isnan()
            self.total(name, (value.detach().nan_to_num() * counted).sum(), counted.sum())

    def total(self, name: str, value: Tensor, count: Tensor | None = None) -> None:
        """Add a number that processes and micro-batches sum up, and how many tokens it is of."""
        zero = torch.zeros((), dtype=torch.float64)
        self.sums[name] = self.sums.get(name, zero) + value.detach().double().cpu()
        self.counts[name] = self.counts.get(name, zero) + (zero if count is None else count.double().cpu())

    def mismatch(self, batch: Batch, logps: Tensor) -> None:
        """Add how far the learner, not having learnt from the batch yet, is from what the sampler said of its tokens.

        |log p - log p_sampled|, under TRL's name: the price of other kernels, precisions and paddings.
        """
        assert batch.sampled_logps is not None
        before = logps.detach() if batch.old_logps is None else batch.old_logps
        apart, name = (before - batch.sampled_logps).abs() * batch.mask, "sampling/sampling_logp_difference"
        self.tokens(batch.mask, {f"{name}/mean": apart})
        self.most[f"{name}/max"] = max(self.most.get(f"{name}/max", 0.0), apart.max().item())

    def add(self, other: MetricAccumulator) -> None:
        """Add all that another one has added up."""
        for name in other.sums:
            self.total(name, other.sums[name], other.counts[name])
        self.most |= {name: max(value, self.most.get(name, 0.0)) for name, value in other.most.items()}

    def step(self, norm: Tensor) -> None:
        """An optimiser step is about to be taken with a gradient of this norm."""
        self.norms.append(float(norm))

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Each quantity's mean over tokens, or its largest; the loss's and the gradient norm's over optimiser steps."""
        names = sorted(self.sums)
        both = torch.stack([*(self.sums[name] for name in names), *(self.counts[name] for name in names)])
        sums, counts = accelerator.reduce(both.to(accelerator.device), "sum").chunk(2)
        total = {name: (s, n) for name, s, n in zip(names, sums.tolist(), counts.tolist(), strict=True)}
        loss, _ = total.pop("loss")
        means = {name: value / count for name, (value, count) in total.items() if count}
        most = torch.tensor(list(self.most.values()), device=accelerator.device)
        largest = accelerator.gather(most[None]).amax(0).tolist() if self.most else []
        means |= dict(zip(self.most, largest, strict=True))
        return means | {"loss": loss / len(self.norms), "grad_norm": fmean(self.norms)}
