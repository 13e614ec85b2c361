"""STRIVE: a group spans several spatio-temporal variants of the clip, normalized together (2026, arXiv:2604.01824)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._robust import center
from algorithms._view_rollouts import ViewRollouts, deal
from algorithms.grpo import OWN_SCALE
from rlvid.algorithm import OWN_ADVANTAGES


@dataclass(frozen=True)
class Strive(ViewRollouts):
    """GRPO with groups of completions under several variants of the clip.

    The completions are dealt evenly to the `variants`, which are views of the clip; "" is the clip itself. With
    `normalize` "joint" mean and standard deviation are those of all completions, as the paper's abstract says. A
    variant that is simply harder then becomes credit: rewards 1, 1 under one variant and 0, 0 under another give +-.87,
    though no text is better than its sibling. As a control, "variant" normalizes each variant apart: there they give 0.
    The metric `views/variance_between` says how much of the rewards' variance is of this kind. Compare it with plain
    GRPO at the same `num_generations`.

    We know the paper's abstract and third-party notes only, and of no code. What they do not say is ours: the
    number of variants; how variants are made (here random windows in time and space, view `crop`, redrawn each step);
    that the loss reads each completion's own variant, which keeps it on-policy; that the standard deviation is joint,
    too. The paper prefers frames that matter to the question, by a relevance model; ours has no such model.
    """

    loss_pixels: str = "sampled"
    variants: tuple[str, ...] = ("", "crop:0.9", "crop:0.8", "crop:0.7")
    normalize: str = "joint"  # or "variant": each variant is a group of its own

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.variants) < 2 or len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants must be two or more different views, not {self.variants}")
        if self.normalize not in ("joint", "variant"):
            raise ValueError(f'normalize must be "joint" or "variant", not {self.normalize!r}')

    @property
    def ignored_by_gdpo(self) -> str:
        """Advantages within each variant; those over all completions of a prompt are GRPO's."""
        if self.normalize == "variant":
            return OWN_ADVANTAGES
        return "" if self.scale_rewards == "group" else OWN_SCALE

    def sampling_views(self, number: int, max_steps: int, num_generations: int) -> Mapping[str, int]:
        """Return the count of completions of each variant. Raises ValueError if there are too few."""
        counts = deal(self.variants, num_generations)
        if self.normalize == "variant" and min(counts.values()) < 2:
            raise ValueError(
                'normalize = "variant" compares two or more completions of a variant: raise num_generations'
            )
        return counts

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) z-scores of (P, G) rewards, over all completions of a prompt or over those of a variant.

        >>> Strive(normalize="variant", variants=("", "crop:0.8")).advantages(torch.tensor([[1.0, 1.0, 0.0, 1.0]]))
        tensor([[ 0.0000,  0.0000, -0.7070,  0.7070]])
        """
        if self.normalize == "joint":
            return super().advantages(rewards)
        parts = rewards.split(list(deal(self.variants, rewards.shape[-1]).values()), dim=-1)
        if self.scale_rewards == "batch":  # all variants of all prompts
            return torch.cat([center(part) for part in parts], dim=-1) / (rewards.std() + 1e-4)
        return torch.cat([super(Strive, self).advantages(part) for part in parts], dim=-1)
