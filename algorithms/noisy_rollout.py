"""NoisyRollout: half of a group is sampled under noised frames, less and less noised (2025, arXiv:2504.13055)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from algorithms._view_rollouts import ViewRollouts, require_noisy_view, view_at
from rlvid.algorithm import Algorithm


@dataclass(frozen=True)
class NoisyRollout(ViewRollouts):
    """GRPO over `num_generations` completions of a prompt, a share of which are sampled under diffusion noise.

    Clean and noisy completions are one group: mean and standard deviation are joint. The loss reads the clean clip for
    all of them, by default without a correction. At step t of T the noise is that of step int(1000 e) of 1,000 of a
    diffusion (view `noise`), e = extent (1 - sigmoid(steepness (t / T - midpoint))): with the published numbers 499
    from the first step on, 250 at the midpoint, 3 at 5/6 of the run, so more of a switch than a slope. Compare it with
    GRPO at the same `num_generations`, since the noisy completions come on top of the clean ones in the paper.

    As the released code (John-AI-Lab/NoisyRollout 000b58d, Geometry3K): half of the completions noisy, one noised copy
    per prompt and step, no KL, an entropy bonus of 1e-3, a mean over tokens. Ours differs: the noise comes after the
    resizing and on the frames of videos, too; the mean over tokens is that of the minibatch, theirs of a micro-batch;
    its midpoint is a step, ours a share of the run (40 of 60; for K12 40 of 120, extent 0.45, steepness 60).
    """

    beta: float = 0.0
    entropy_coef: float = 0.001
    noisy_share: float = 0.5  # of the completions of each prompt, rounded down
    view: str = "noise"  # or "patches": squares that are black, with probability e
    extent: float = 0.5  # e without annealing; 0.5 is step 500 of the noise
    steepness: float = 30.0
    midpoint: float = 0.6667  # the share of the run after which e is half of `extent`

    weights = Algorithm.weights  # 1 / (number of tokens in the minibatch)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_noisy_view(self.view)
        if not 0 <= self.noisy_share <= 1:
            raise ValueError(f"noisy_share must be in [0, 1], not {self.noisy_share}")
        if not 0 < self.extent < 1:
            raise ValueError(f"extent must be in (0, 1), not {self.extent}")

    def extent_at(self, number: int, max_steps: int) -> float:
        """Return e at a step.

        >>> [int(1000 * NoisyRollout().extent_at(t, 60)) for t in (1, 30, 35, 40, 45, 50, 60)]
        [499, 496, 462, 250, 37, 3, 0]
        """
        exponent = self.steepness * (number / max_steps - self.midpoint)
        return self.extent / (1 + math.exp(min(exponent, 700.0)))  # e^710 overflows

    def sampling_views(self, number: int, max_steps: int, num_generations: int) -> Mapping[str, int]:
        """Return the counts of clean and of noisy completions; the clean ones come first.

        Raises ValueError if a share above 0 is less than one completion.
        """
        noisy = int(self.noisy_share * num_generations)
        if self.noisy_share and not noisy:
            raise ValueError(
                f"noisy_share = {self.noisy_share:g} of train.num_generations = {num_generations} is less than one "
                "completion: raise either, or set noisy_share to 0 for a control without noise"
            )
        return {"": num_generations - noisy, view_at(self.view, self.extent_at(number, max_steps)): noisy}
