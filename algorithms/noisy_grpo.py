"""NoisyGRPO: rollouts at several noise levels, which are a prior of their credit (2025, arXiv:2510.21122)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._view_rollouts import ViewRollouts, deal, require_noisy_view, view_at
from rlvid.algorithm import with_advantages
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class NoisyGRPO(ViewRollouts):
    """A = z(s + K (n - s)) with s = z(R), n = z(1 - extent), K = P / (P + R0) and P = alpha / (std(R)^2 + alpha).

    A completion's extent, from 0 to 1, is how noisy its clip was when it was sampled: credit mixes what a completion
    earned with how clearly it saw. z is the z-score in the group with Bessel's standard deviation, R the total reward,
    R0 the `noise_variance`. The completions are dealt evenly to the `extents`, the first of which get one more where
    that is not possible; extent e is step 1,000 e of 1,000 of a diffusion (view `noise`), and 0 the clip itself. The
    loss reads the clean clip for all of them, by default without a correction. The less the rewards of a group differ,
    the more its credit is that of the noise levels.

    In a flat group K is 1 / (1 + R0), and the last z-score enlarges what is left: with the extents 0, .3, .6, .9 the
    credit is 1.16, .39, -.39, -1.16 by the noise level alone. A right answer is punished for having been sampled under
    noise, and a wrong one paid for having seen the clip. That is how the method is published. With `credit_flat_groups`
    false such groups have no credit.

    As the released code (Artanic30/NoisyGRPO 1c92ccf): one completion at each of four extents, a KL of 0.04 on clean
    pixels. Ours differs: the noise comes after the resizing, is cut to the range of colours before it is rounded
    (theirs is not cut, so that bytes overflow), and is not applied at extent 0 (theirs: step 0).
    """

    view: str = "noise"  # or "patches": squares that are black, with probability `extent`
    extents: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9)
    alpha: float = 0.01
    noise_variance: float = 0.1  # R0: how little the noise level says about a completion
    credit_flat_groups: bool = True  # False: groups whose completions all earned the same are not learnt from

    def __post_init__(self) -> None:
        super().__post_init__()
        require_noisy_view(self.view)
        if len(set(self.extents)) < 2 or len(set(self.extents)) < len(self.extents):
            raise ValueError(f"extents must be two or more different ones, not {self.extents}")
        if not all(0 <= extent < 1 for extent in self.extents):
            raise ValueError(f"extents must be in [0, 1), not {self.extents}")
        if len(self.extent_of_view) < len(self.extents):
            views = ", ".join(self.extent_of_view)
            raise ValueError(f"extents must be different views, not {self.extents}: {views}")
        if self.alpha <= 0 or self.noise_variance <= 0:
            raise ValueError("alpha and noise_variance must be above 0")
        if self.scale_rewards != "group" or self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                'the noise is weighed against z-scores of the total reward: scale_rewards must be "group", '
                'and multi_objective_aggregation "sum_then_normalize"'
            )

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: by noise, unless `credit_flat_groups` is off."""
        if self.credit_flat_groups:
            return "noise levels decide where rewards do not, unless credit_flat_groups is false"
        return super().flat_group_credit

    def sampling_views(self, number: int, max_steps: int, num_generations: int) -> Mapping[str, int]:
        """Return the count of completions at each extent. Raises ValueError if there are fewer than extents."""
        return deal([*self.extent_of_view], num_generations)

    @property
    def extent_of_view(self) -> dict[str, float]:
        """The view of each extent -> the extent."""
        return {view_at(self.view, extent) if extent else "": extent for extent in self.extents}

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages: rewards and noise levels mixed, times importance weights."""
        rewards = self.rewards(step) - self.kl_penalty(step)
        extents = torch.zeros_like(rewards)
        if step.views:
            extents = torch.tensor([[self.extent_of_view[view] for view in row] for row in step.views]).double()
        return self.corrected(with_advantages(step, self.mix(rewards, extents)))

    def mix(self, rewards: Tensor, extents: Tensor) -> Tensor:
        """Return (P, G) advantages for (P, G) rewards and extents.

        >>> NoisyGRPO().mix(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.3, 0.6, 0.9]]))
        tensor([[ 1.4742, -0.2658, -0.4914, -0.7170]])
        """
        semantic, prior = self.advantages(rewards), self.advantages(1 - extents)
        trust = self.alpha / (rewards.var(-1, keepdim=True) + self.alpha)  # P
        gain = trust / (trust + self.noise_variance)  # K
        mixed = self.advantages(semantic + gain * (prior - semantic))
        if self.credit_flat_groups:
            return mixed
        return mixed.where(rewards.std(-1, keepdim=True) > 1e-9, torch.zeros_like(mixed))
