"""Kahneman-Tversky optimisation: good and bad completions, no pairs (Ethayarajh et al. 2024, arXiv:2402.01306)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms.dpo import check_temperature, log_ratios, outcomes, totals
from rlvid.algorithm import Algorithm, Losses
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class KTO(Algorithm):
    """loss = w (1 - sigmoid(s beta (log pi/pi_ref - z0))), s = 1 and w = desirable_weight for a good completion, s = -1
    and w = undesirable_weight for a bad one; z0 = max(0, KL(pi || pi_ref)), without a gradient.

    Good is what earned more than the group's mean, or than `threshold`; what earned just that much is neither. The
    paper estimates the KL on completions of other prompts, since its data is not the policy's. Ours is: the mean of
    log pi/pi_ref over the step's own completions, which needs no further forward, is an unbiased estimate.
    """

    beta: float = 0.1
    threshold: float | None = None  # None: the group's mean, so that a flat group teaches nothing
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self)

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G): 1 for good, -1 for bad, 0 for neither."""
        line = rewards.nanmean(-1, keepdim=True) if self.threshold is None else self.threshold
        above = (rewards - line).nan_to_num()
        return above.sign() * (above.abs() > 1e-9)

    def credit(self, step: Step) -> Batch:
        """Who is good, and z0 as the targets."""
        batch = step.batch
        assert batch.sampled_logps is not None
        advantages = self.advantages(totals(self, step)).reshape(-1, 1).float() * batch.mask
        z0 = log_ratios(batch.sampled_logps, batch).mean().clamp(min=0)
        return replace(batch, advantages=advantages, targets=z0 * torch.ones_like(batch.mask))

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T): 1/B for each row, shared by its tokens."""
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / len(mask)

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """Each row's loss, at each of its tokens."""
        assert batch.targets is not None
        side, ratios = batch.advantages[:, :1], log_ratios(logps, batch)[:, None]
        weight = self.desirable_weight * (side > 0) + self.undesirable_weight * (side < 0)
        loss = weight * (1 - torch.sigmoid(side * self.beta * (ratios - batch.targets)))
        if self.entropy_coef and batch.entropy is not None:
            loss = loss - self.entropy_coef * batch.entropy
        good, bad = side[:, 0] > 0, side[:, 0] < 0
        return loss, outcomes(logps, batch, self.beta * ratios[:, 0], good, bad) | {"kl": batch.targets}
