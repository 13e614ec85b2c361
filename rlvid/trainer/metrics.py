"""What a step reports. Names are TRL's wherever the meaning is TRL's.

Shapes: P prompts in a step, G completions of each, B = P*G rows, T completion tokens.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from accelerate import Accelerator
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.reward import is_flat
from rlvid.trainer.records import GroupRecord
from rlvid.types import Batch, Step
from rlvid.video.views import parse_view

ROUNDING = 1e-9  # a variance below this is rounding
MISMATCH = "sampling/sampling_logp_difference"  # TRL's name
VIEW_DIFFERENCE = "sampling/view_logp_difference"  # the same of completions that were sampled under other pixels


def step_metrics(records: Sequence[GroupRecord]) -> dict[str, float]:
    """Rewards, accuracy and lengths over all completions of a step; a reward's mean leaves out `None`."""
    totals = torch.tensor([r.totals for r in records], dtype=torch.float64)
    spread = totals.std(-1) if totals.shape[-1] > 1 else torch.zeros(len(records))
    lengths: list[float] = [length for r in records for length in r.lengths]
    correct = [[answer == r.gold for answer in r.answers] for r in records]
    metrics = {
        "reward": totals.mean().item(),
        "reward_std": spread.mean().item(),
        "frac_reward_zero_std": fmean(is_flat(r.totals) for r in records),
        "frac_all_correct": fmean(map(all, correct)),
        "frac_all_incorrect": fmean(not any(group) for group in correct),
        "clean_accuracy": fmean(answer == r.clean for r in records for answer in r.answers),
        "completions/mean_length": fmean(lengths),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": 1 - fmean(finished for r in records for finished in r.finished),
    }
    for name in records[0].columns:
        values = [value for r in records for value in r.columns[name] if value is not None]
        if values:
            metrics[f"rewards/{name}/mean"] = fmean(values)
            metrics[f"rewards/{name}/std"] = torch.tensor(values, dtype=torch.float64).std(correction=0).item()
    metrics |= _metrics_in_evidence(records, known=metrics)
    correct_flat = [float(right) for group in correct for right in group]
    for name in (n for n in records[0].columns if n != "accuracy"):
        column = [value for r in records for value in r.columns[name]]
        for other, values in (("accuracy", correct_flat), ("length", lengths)):
            if (r := correlation(column, values)) is not None:
                metrics[f"rewards/{name}/corr_{other}"] = r
    return metrics | view_metrics(records)


def view_metrics(records: Sequence[GroupRecord]) -> dict[str, float]:
    """Count the completions that were sampled under an altered view, and compare their rewards with the others'.

    Empty if there are none. `views/strength` is the mean over those whose view has a strength, and
    `views/variance_between` the share of the variance of rewards within groups that lies between views.
    """
    rows = [row for r in records for row in zip(r.views, r.totals, strict=bool(r.views))]
    altered = [total for view, total in rows if view]
    clean = [total for view, total in rows if not view]
    strengths = [strength for view, _ in rows if view and (strength := parse_view(view)[1]) is not None]
    metrics = {"views/completions": float(len(altered))} if altered else {}
    for name, values in (("reward", altered), ("reward_clean", clean), ("strength", strengths)):
        if values:
            metrics[f"views/{name}"] = fmean(values)
    variance = sum(sum((total - fmean(r.totals)) ** 2 for total in r.totals) for r in records if r.views)
    return metrics | ({"views/variance_between": _between_views(records) / variance} if variance > ROUNDING else {})


def _between_views(records: Sequence[GroupRecord]) -> float:
    """The sum over completions of (mean reward of its view in its group - mean of the group)^2."""
    between = 0.0
    for r in records:
        for view in {*r.views}:
            totals = [total for seen, total in zip(r.views, r.totals, strict=True) if seen == view]
            between += len(totals) * (fmean(totals) - fmean(r.totals)) ** 2
    return between


def _metrics_in_evidence(records: Sequence[GroupRecord], known: Mapping[str, float]) -> dict[str, float]:
    """Means of the numbers that rewards left as evidence `metric/NAME`, as `NAME`, unless that name is taken."""
    keys = dict.fromkeys(key for r in records for key in r.evidence if key.startswith("metric/"))
    means = {key.removeprefix("metric/"): fmean(r.evidence[key] for r in records if key in r.evidence) for key in keys}
    return {name: value for name, value in means.items() if name not in known}


def correlation(column: Sequence[float | None], values: Sequence[float]) -> float | None:
    """Pearson's correlation where the column applies; None where either side does not vary."""
    pairs = [(score, value) for score, value in zip(column, values, strict=True) if score is not None]
    if any(len({*side}) < 2 for side in zip(*pairs, strict=True)) or len(pairs) < 2:
        return None
    return statistics.correlation(*zip(*pairs, strict=True))


def advantage_shares(algorithm: Algorithm, step: Step, batch: Batch) -> dict[str, float]:
    """`advantage_share/NAME`: how much of the batch's advantages would change without that reward.

    |A(all) - A(all but one)|^2 / |A(all)|^2, every completion that is learnt from counting equally. The share of a
    reward that group normalization cancels is 0, however large the reward; shares of rewards that agree do not add up
    to one.
    """

    def squared_size(advantages: Tensor) -> float:
        return ((advantages * batch.mask).square().sum(-1) / batch.mask.sum(-1).clamp(min=1)).sum().item()

    total = squared_size(batch.advantages)
    shares = {}
    for name in step.reward_weights:
        without = algorithm.credit(step.without_reward(name)).advantages
        change = squared_size(batch.advantages - without)
        shares[f"advantage_share/{name}"] = change / total if total > 1e-12 else 0.0
    return shares


def label_repair_metrics(records: Sequence[GroupRecord], labels: Sequence[str | None]) -> dict[str, float]:
    """How well an algorithm repaired wrong labels, measured against the clean ones, which it never sees.

    An algorithm such as OLR replaces a label by a stable majority of the answers. `labels/changed`: the share of
    prompts whose label it changed; `labels/precision`: the share of those that are now right; `labels/recall`: the
    share of wrong labels that are now right. Empty if it kept all labels.
    """
    pairs = list(zip(records, labels, strict=True))
    changed = [label == r.clean for r, label in pairs if label not in (r.gold, None)]
    wrong = [label == r.clean for r, label in pairs if r.gold != r.clean]
    if not changed:
        return {}
    metrics = {"labels/changed": len(changed) / len(pairs), "labels/precision": fmean(changed)}
    return metrics | ({"labels/recall": fmean(wrong)} if wrong else {})


class MetricAccumulator:
    """Adds up what the optimizer steps of one batch report, over micro-batches, tokens and processes."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.maxima: dict[str, float] = {}
        self.norms: list[float] = []

    def add_micro_batch(
        self, algorithm: Algorithm, loss: Tensor, logps: Tensor, batch: Batch, quantities: Mapping[str, Tensor]
    ) -> None:
        """Add a micro-batch: its loss, a number, the entropy of its batch and the (B, T) quantities that it logs."""
        assert batch.entropy is not None
        self.add_tokens(batch.mask, {"entropy": batch.entropy, **quantities})
        if algorithm.completion_source == "policy":  # demonstrations have no log-probs of a sampler
            self.add_sampler_difference(batch, logps)
        self.add_sum("loss", loss)

    def add_tokens(self, mask: Tensor, quantities: Mapping[str, Tensor]) -> None:
        """Add (B, T) quantities, to be averaged over the tokens of the mask that have one (NaN means none)."""
        for name, value in quantities.items():
            counted = mask * ~value.isnan()
            self.add_sum(name, (value.detach().nan_to_num() * counted).sum(), counted.sum())

    def add_sum(self, name: str, value: Tensor, count: Tensor | None = None) -> None:
        """Add a value to a sum over micro-batches and processes. With `count`, of tokens, the result is a mean."""
        zero = torch.zeros((), dtype=torch.float64)
        self.sums[name] = self.sums.get(name, zero) + value.detach().double().cpu()
        self.counts[name] = self.counts.get(name, zero) + (zero if count is None else count.double().cpu())

    def add_sampler_difference(self, batch: Batch, logps: Tensor) -> None:
        """Add |trainer - sampler log-prob| before the first update, under TRL's name.

        Sampler and trainer use other kernels, precisions and paddings, so it is not 0; if it is large, one has a bug.
        Completions that were sampled under other pixels than the loss reads are counted apart: there it is no bug.
        """
        assert batch.sampled_logps is not None
        trainer_logps = logps.detach() if batch.old_logps is None else batch.old_logps
        difference = (trainer_logps - batch.sampled_logps).abs() * batch.mask
        if batch.off_view is None:
            self._add_difference(MISMATCH, difference, batch.mask)
        else:
            self._add_difference(MISMATCH, difference, batch.mask * (1 - batch.off_view))
            self._add_difference(VIEW_DIFFERENCE, difference, batch.mask * batch.off_view)

    def _add_difference(self, name: str, difference: Tensor, mask: Tensor) -> None:
        self.add_tokens(mask, {f"{name}/mean": difference})
        self.maxima[f"{name}/max"] = max(self.maxima.get(f"{name}/max", 0.0), (difference * mask).max().item())

    def add(self, other: MetricAccumulator) -> None:
        """Add everything that another accumulator holds."""
        for name in other.sums:
            self.add_sum(name, other.sums[name], other.counts[name])
        self.maxima |= {name: max(value, self.maxima.get(name, 0.0)) for name, value in other.maxima.items()}

    def add_grad_norm(self, norm: Tensor) -> None:
        """Count one optimizer step and keep the norm of its gradient before clipping."""
        self.norms.append(float(norm))

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Each quantity's mean over tokens or its maximum; loss and gradient norm averaged over optimizer steps.

        A collective.
        """
        names = sorted(self.sums)
        stacked = torch.stack([*(self.sums[name] for name in names), *(self.counts[name] for name in names)])
        sums, counts = accelerator.reduce(stacked.to(accelerator.device), "sum").chunk(2)
        totals = {name: (s, n) for name, s, n in zip(names, sums.tolist(), counts.tolist(), strict=True)}
        loss, _ = totals.pop("loss")
        means = {name: value / count for name, (value, count) in totals.items() if count}
        maxima = torch.tensor(list(self.maxima.values()), device=accelerator.device)
        largest = accelerator.gather(maxima[None]).amax(0).tolist() if self.maxima else []
        means |= dict(zip(self.maxima, largest, strict=True))
        return means | {"loss": loss / len(self.norms), "grad_norm": fmean(self.norms)}
