"""EMA-GRPO: divide by a running standard deviation of each kind of task (OneThinker 2025, arXiv:2512.03043)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.algorithm import with_advantages
from rlvid.types import Batch, Step

FLOOR = 1e-3  # of the standard deviation


@dataclass(frozen=True)
class EMAGRPO(GRPO):
    """A = (R - mean of the group) / (s + 1e-6), s = sqrt(m2 - m1^2) of the prompt's kind of task, at least 1e-3.

    m1 and m2 are running means of R and R^2 over the completions of a task's groups, updated once per step before they
    are used: m <- decay m + (1 - decay) mean of the step, and the mean itself at a task's first step. Flat groups are
    left out: the released code filters them. If an |A| of a group exceeds `max_advantage`, the group is divided by its
    own standard deviation (over G, not G - 1). s contains the spread between prompts.

    The kind of task is the prompt's domain; without domains there is one kind. Ours differs from the released code in
    that all processes share m1 and m2, and that checkpoints hold them. Its loss differs, too: a mean over all tokens,
    an upper clip at 1.3 (`epsilon_high = 0.3`) and a dual clip at 3 (`delta = 3.0`, the same formula for a `delta`
    above the upper clip). Ours keeps that of `grpo`, a mean over completions, so that the two differ in the credit
    alone.
    """

    beta: float = 0.0
    decay: float = 0.99
    max_advantage: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), not {self.decay}")
        if self.scale_rewards != "group" or self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                'the running standard deviation is that of the total reward: scale_rewards must be "group", '
                'and multi_objective_aggregation "sum_then_normalize"'
            )

    def observe(self, step: Step) -> None:
        """Update the moments of each kind of task in `step.memory["moments"]`."""
        moments = step.memory.setdefault("moments", {})
        rewards = self.total(step)
        for domain, rows in by_domain(step).items():
            informative = [i for i in rows if rewards[i].std(correction=0) > 1e-9]
            if informative:
                new = rewards[informative].mean().item(), rewards[informative].square().mean().item()
                old = moments.get(domain, new)
                moments[domain] = [self.decay * m + (1 - self.decay) * n for m, n in zip(old, new, strict=True)]

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages."""
        moments, rewards = step.memory.get("moments", {}), self.total(step)
        advantages = torch.zeros_like(rewards)
        for domain, rows in by_domain(step).items():
            if domain in moments:  # else all groups so far were flat
                advantages[rows] = self.scale(rewards[rows], *moments[domain])
        return with_advantages(step, advantages)

    def total(self, step: Step) -> Tensor:
        """Return (P, G) total rewards, a KL in the reward subtracted."""
        return self.rewards(step) - self.kl_penalty(step)

    def scale(self, rewards: Tensor, m1: float, m2: float) -> Tensor:
        """Return (P, G) advantages of the groups of one task, for (P, G) rewards and the task's moments.

        >>> EMAGRPO().scale(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.5, 0.5)
        tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
        """
        centered = rewards - rewards.mean(-1, keepdim=True)
        advantages = centered / (max(m2 - m1**2, FLOOR**2) ** 0.5 + 1e-6)
        own = centered / (rewards.std(-1, keepdim=True, correction=0) + 1e-6)
        is_large = advantages.abs().amax(-1, keepdim=True) > self.max_advantage
        return own.where(is_large, advantages)


def by_domain(step: Step) -> dict[str, list[int]]:
    """Return the groups of each domain, by their positions in the step."""
    domains = step.domains or [""] * len(step.ids)
    return {domain: [i for i, other in enumerate(domains) if other == domain] for domain in sorted(set(domains))}
