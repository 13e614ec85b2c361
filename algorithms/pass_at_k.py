"""Pass@k training: credit for what a completion adds to the best of k (Chen et al. 2025, arXiv:2508.10751)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from algorithms._unused import refuse_unused
from algorithms.grpo import GRPO


@dataclass(frozen=True)
class PassAtK(GRPO):
    """A = (E[M | completion] - E[M]) / (std[M] + 1e-4), where M is the largest R of k completions of the group.

    All choices of k are equally likely, and "| completion" are those that contain it; both means and the standard
    deviation over choices are exact. With verdicts of 0 and 1 this is the paper's analytic credit. A group of which
    more than G - k completions succeed then has none, as every choice contains a success; a rare success has much. So a
    habit that is often right is paid less than by GRPO. With k = 1 this is GRPO, divided by the standard deviation
    without Bessel's correction.

    Ours: the maximum of any total, of which the paper has verdicts only, as in Walder and Karkhanis 2025
    (arXiv:2505.15201), who do not divide by std[M]; 1e-4 as in `grpo`, where the released code has 1e-6. The paper
    anneals from pass@k to pass@1 in some runs; here k is constant.
    """

    k: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unused(self, ["scale_rewards"], "credit is divided by the standard deviation of the largest reward")
        if self.k < 1:
            raise ValueError(f"k must be 1 or more, not {self.k}")

    def sampling_views(self, number: int, max_steps: int, num_generations: int) -> Mapping[str, int]:
        """Sample all completions with the clip itself. Raises ValueError if they are fewer than k."""
        if self.k > num_generations:
            raise ValueError(f"k = {self.k} of train.num_generations = {num_generations} completions: lower k")
        return super().sampling_views(number, max_steps, num_generations)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) advantages for (P, G) rewards.

        >>> PassAtK(k=2).advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]))
        tensor([[ 0.9998, -0.3333, -0.3333, -0.3333],
                [ 0.0000,  0.0000,  0.0000,  0.0000]])
        """
        lowest = rewards.amin(-1, keepdim=True)
        ordered, order = (rewards - lowest).sort(-1)  # in a flat group all are exactly 0
        of_all, of_those_with = (weights.to(rewards) for weights in chances_of_largest(rewards.shape[-1], self.k))
        mean = (ordered @ of_all)[..., None]
        std = ((ordered - mean).square() @ of_all)[..., None].sqrt()
        credit = (ordered @ of_those_with.T - mean) / (std + 1e-4)
        return torch.empty_like(rewards).scatter(-1, order, credit)


def chances_of_largest(size: int, k: int) -> tuple[Tensor, Tensor]:
    """Return how likely each of `size` ordered rewards is the largest of k that are chosen of them.

    Returns:
        (G,) of all choices, and (G, G), in row i of those that contain reward i.
    """
    of_all = [comb(j, k - 1) / comb(size, k) for j in range(size)]  # the other k - 1 are among the j below
    choices = comb(size - 1, k - 1)  # that contain reward i
    of_those_with = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        of_those_with[i, i] = comb(i, k - 1) / choices  # all others are below it
        for j in range(i + 1, size) if k > 1 else ():
            of_those_with[i, j] = comb(j - 1, k - 2) / choices  # a larger one: the k - 2 others are below it
    return torch.tensor(of_all, dtype=torch.float64), of_those_with
