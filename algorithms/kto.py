"""Kahneman-Tversky optimization: good and bad completions, no pairs (Ethayarajh et al. 2024, arXiv:2402.01306)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms.dpo import check_temperature, comparison_rewards, log_ratios, outcome_log
from rlvid.algorithm import Algorithm, Losses, per_completion_weights, with_advantages
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class KTO(Algorithm):
    """loss = w (1 - sigmoid(s beta (log pi/pi_ref - z0))), where z0 = max(0, KL(pi || pi_ref)) has no gradient.

    A good completion has s = 1 and w = `desirable_weight`; a bad one has s = -1 and w = `undesirable_weight`. A
    completion is good if it earned more than the group's mean (or than `threshold`), bad if it earned less, and
    neither if it earned exactly that.

    The paper estimates the KL on completions of other prompts, because its data does not come from the policy. Ours
    does: z0 is the mean of log pi/pi_ref over the step's completions, an unbiased estimate without a further forward
    pass.
    """

    beta: float = 0.1
    threshold: float | None = None  # None: the group's mean, so that a flat group has no effect
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self)
        if min(self.desirable_weight, self.undesirable_weight) < 0:
            raise ValueError(
                "desirable_weight and undesirable_weight must be 0 or more, "
                f"not {self.desirable_weight} and {self.undesirable_weight}"
            )

    @property
    def ignored_by_gdpo(self) -> str:
        """Nothing: completions are compared by their sums of z-scores."""
        return ""

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: a `threshold` takes the place of the group's mean."""
        if self.threshold is not None:
            return "completions are compared with the threshold, not with each other"
        return super().flat_group_credit

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return s for (P, G) rewards: 1 for good completions, -1 for bad ones, 0 for the others."""
        threshold = rewards.nanmean(-1, keepdim=True) if self.threshold is None else self.threshold
        excess = (rewards - threshold).nan_to_num()
        return excess.sign() * (excess.abs() > 1e-9)

    @property
    def needs_all_tokens(self) -> str:
        """The estimate of the KL is a mean over samples of the whole policy."""
        return "estimates the KL from completions of the whole policy"

    def credit(self, step: Step) -> Batch:
        """Return the batch with s as advantages and z0 as targets, (B, T) each."""
        assert step.batch.sampled_logps is not None
        batch = with_advantages(step, self.advantages(comparison_rewards(self, step)))
        z0 = log_ratios(step.batch.sampled_logps, batch).mean().clamp(min=0)
        return replace(batch, targets=z0 * torch.ones_like(batch.mask))

    def weights(self, mask: Tensor) -> Tensor:
        """Return the (B, T) token weights: 1/B per completion, spread evenly over its tokens."""
        return per_completion_weights(mask)

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """Return the loss of each completion at all of its tokens, (B, T), and quantities to log."""
        assert batch.targets is not None
        sign, ratios = batch.advantages[:, :1], log_ratios(logps, batch)[:, None]  # (B, 1) each
        weight = self.desirable_weight * (sign > 0) + self.undesirable_weight * (sign < 0)
        loss = weight * (1 - torch.sigmoid(sign * self.beta * (ratios - batch.targets)))
        if self.entropy_coef and batch.entropy is not None:
            loss = loss - self.entropy_coef * batch.entropy
        good, bad = sign[:, 0] > 0, sign[:, 0] < 0
        return loss, outcome_log(logps, batch, self.beta * ratios[:, 0], good, bad) | {"kl": batch.targets}
