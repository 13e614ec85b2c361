"""Distributionally robust DPO: pairs of high loss, probably flipped, count less (Wu et al. 2024, arXiv:2407.07880)."""

from dataclasses import dataclass, replace

from torch import Tensor

from algorithms.dpo import DPO, differences, log_ratios
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class DrDPO(DPO):
    """loss = -beta' log mean over pairs of exp(-l / beta'), l being DPO's; beta' without end is DPO.

    Its gradient is that of DPO with pairs weighed by softmax(-l / beta'). The weights are taken over the whole step
    before its first update, and kept: so they do not depend on the cut into micro-batches, as the published loss does.
    On a step's first update the gradient is the same. That needs the policy's own log-probabilities of what it
    sampled, so `preferences` is refused. The default of beta' is that of the authors' commands.
    """

    beta_prime: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preferences:
            raise ValueError("pairs are weighed by what the policy sampled; leave preferences out, or use dpo")
        if self.beta_prime <= 0:
            raise ValueError(f"beta_prime must be above 0, not {self.beta_prime}")

    def credit(self, step: Step) -> Batch:
        """DPO's batch, its pairs weighed anew; they still add up to the number of groups that have one."""
        batch = super().credit(step)
        return replace(batch, pair_weights=self.weighed(batch))

    def weighed(self, batch: Batch) -> Tensor:
        """(B, G) pairs -> (B, G)."""
        assert batch.pair_weights is not None and batch.sampled_logps is not None
        h = differences(self.scores(log_ratios(batch.sampled_logps, batch), batch.mask), batch.pair_weights.shape[1])
        tilted = batch.pair_weights * (-self.pair_loss(h) / self.beta_prime).exp()
        return tilted * batch.pair_weights.sum() / tilted.sum().clamp(min=1e-30)
