"""What an algorithm is: credit, share and gain, three pure functions of tensors.

Published variants of policy optimisation differ on these three axes; a subclass overrides only what its paper changes.
Its fields are its config, its help and its row in `rlvid list algorithms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlvid.types import Batch


@dataclass(frozen=True)
class Algorithm:
    """REINFORCE with the group's mean as baseline; every token of the step has the same share.

    Shapes: P prompts, G completions of each, B = P*G rows, T tokens.
    """

    completions: ClassVar[str] = "policy"  # who acts: the policy samples, or "data": the data set demonstrates

    beta: float = 0.0  # pull towards the reference; at 0 no reference is loaded
    kl: str = "k3"  # how the pull is estimated: "k2", "k3", or "k3_is", which is k3 times the ratio to the old policy
    num_iterations: int = 1  # passes over each step's batch
    num_minibatches: int = 1  # optimiser steps in each pass

    def __post_init__(self) -> None:
        if self.kl not in KL:
            raise ValueError(f"kl must be one of {', '.join(KL)}, not {self.kl!r}")

    @property
    def needs(self) -> frozenset[str]:
        """Evidence that the loop has to provide: `ref_logps` where the reference pulls."""
        return frozenset({"ref_logps"} if self.beta else ())

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G) credit."""
        return rewards - rewards.mean(-1, keepdim=True)

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) mask of the whole step -> (B, T) each token's share of it."""
        return mask / mask.sum().clamp(min=1)

    def gain(self, logps: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, T) log-probs -> (B, T) what to increase, and (B, T) quantities to log."""
        return logps * batch.advantages, {}

    def loss(self, logps: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, T) log-probs -> (B, T) what to decrease, before the weighted sum, and (B, T) quantities to log."""
        gain, log = self.gain(logps, batch)
        if batch.ref_logps is None or not self.beta:
            return -gain, log
        kl = KL[self.kl](logps, batch)
        return self.beta * kl - gain, log | {"kl": kl}


def old(logps: Tensor, batch: Batch) -> Tensor:
    """(B, T) log-probabilities that ratios are taken against: those from before the batch's first step."""
    return logps.detach() if batch.old_logps is None else batch.old_logps


def k2(logps: Tensor, batch: Batch) -> Tensor:
    """Half the squared log-ratio: biased as a value of KL(policy || reference), right on-policy as its gradient."""
    return 0.5 * (logps - _reference(batch)).square()


def k3(logps: Tensor, batch: Batch) -> Tensor:
    """Schulman's unbiased exp(d) - d - 1, d = ref - policy; its gradient is that of KL(reference || policy)."""
    gap = (_reference(batch) - logps).clamp(-20, 20)
    return gap.exp() - gap - 1


def k3_is(logps: Tensor, batch: Batch) -> Tensor:
    """k3 times the ratio to the old policy: value and gradient are both KL(policy || reference)'s (TRL's default)."""
    return (logps - old(logps, batch)).exp() * k3(logps, batch)


def _reference(batch: Batch) -> Tensor:
    assert batch.ref_logps is not None
    return batch.ref_logps


KL = {"k2": k2, "k3": k3, "k3_is": k3_is}
