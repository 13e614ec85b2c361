"""Distributionally robust DPO: pairs of high loss, probably flipped, count less (Wu et al. 2024, arXiv:2407.07880)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms.dpo import DPO, log_ratios, pairwise_differences
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class DrDPO(DPO):
    """loss = -beta' log mean over pairs of exp(-l / beta'), where l is DPO's loss. As beta' grows it becomes DPO.

    Its gradient is that of DPO with pairs weighted by softmax(-l / beta'). Ours takes these weights over the whole step
    before its first update and keeps them, so that they do not depend on the split into micro-batches, as the
    published loss does. On the first update of a step the gradient is the same. The weights need the policy's
    log-probabilities at sampling time, so `preferences` is refused. The default of beta' is that of the authors'
    commands.
    """

    beta_prime: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preferences:
            raise ValueError("pairs are weighted by what the policy sampled; leave preferences out, or use dpo")
        if self.beta_prime <= 0:
            raise ValueError(f"beta_prime must be above 0, not {self.beta_prime}")

    def credit(self, step: Step) -> Batch:
        """Return DPO's batch with reweighted pairs; the weights still sum to the number of groups with a pair."""
        batch = super().credit(step)
        return replace(batch, pair_weights=self.reweighted_pairs(batch))

    def reweighted_pairs(self, batch: Batch) -> Tensor:
        """Return the (B, G) pair weights times softmax(-l / beta') over the pairs that have a weight."""
        assert batch.pair_weights is not None and batch.sampled_logps is not None
        if not batch.pair_weights.any():
            return batch.pair_weights
        scores = self.scores(log_ratios(batch.sampled_logps, batch), batch.mask)  # (B,)
        losses = self.pair_loss(pairwise_differences(scores, batch.pair_weights.shape[1]))  # (B, G)
        exponents = (-losses / self.beta_prime).masked_fill(batch.pair_weights == 0, -torch.inf)
        tilted = batch.pair_weights * (exponents - exponents.max()).exp()  # the largest is 1: no underflow of all
        return tilted * batch.pair_weights.sum() / tilted.sum()
