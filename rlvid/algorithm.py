"""What an algorithm is: pure functions that say what a completion earned, what that is worth, and what to increase.

Published variants of policy optimisation differ on these axes; a subclass overrides only what its paper changes.

    rewards     what each completion earned: the weighted sum of its reward columns
    advantages  credit: what that is worth, next to the others of its prompt
    weights     share: how much of the step each token gets
    gain        surrogate: what to increase

Its fields are its config, its help and its row in `rlvid list algorithms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlvid.types import Batch, Step

Losses = tuple[Tensor, dict[str, Tensor]]  # (B, T), and (B, T) quantities to log


@dataclass(frozen=True)
class Algorithm:
    """REINFORCE with the group's mean as baseline; every token of the step has the same share.

    Shapes: P prompts, G completions of each, B = P*G rows, T tokens.
    """

    beta: float = 0.0  # pull towards the reference; at 0 no reference is loaded
    kl: str = "k3"  # how it pulls: a loss of "k2", "k3" or "k3_is" (k3 times the ratio), or "k1_reward", off the reward
    entropy_coef: float = 0.0  # a bonus for undecided tokens, by each token's share (TRL: all alike)
    num_iterations: int = 1  # passes over each step's batch
    num_minibatches: int = 1  # optimiser steps in each pass
    multi_objective_aggregation: str = "sum_then_normalize"  # or "normalize_then_sum": each reward z-scored (GDPO)
    max_num_gen_batches: int = 1  # rounds of sampling until no group is flat (DAPO's dynamic sampling); 1 is plain
    mask_truncated_completions: bool = False  # True: nothing is learnt from a reply cut off by the length limit

    def __post_init__(self) -> None:
        if self.kl not in (*KL, "k1_reward"):
            raise ValueError(f"kl must be one of {', '.join(KL)}, k1_reward, not {self.kl!r}")
        if self.multi_objective_aggregation not in ("sum_then_normalize", "normalize_then_sum"):
            raise ValueError(
                'multi_objective_aggregation must be "sum_then_normalize" or "normalize_then_sum", '
                f"not {self.multi_objective_aggregation!r}"
            )
        if self.max_num_gen_batches < 1:
            raise ValueError(f"max_num_gen_batches must be 1 or more, not {self.max_num_gen_batches}")

    @property
    def completion_source(self) -> str:
        """Who acts: "policy" samples; with "data" the data set demonstrates."""
        return "policy"

    @property
    def needs(self) -> frozenset[str]:
        """What the loop has to provide: `ref_logps` where the reference pulls."""
        return frozenset({"ref_logps"} if self.beta else ())

    @property
    def critic_settings(self) -> tuple[str, float] | None:
        """The kind of critic that values states (`rlvid/policy/critic.py`) and its learning rate; None is none."""
        return None

    def observe(self, step: Step) -> None:
        """Take note of a step in `step.memory`, once, before credit is given; nothing else may be changed."""

    def labels(self, step: Step) -> Sequence[str | None]:
        """(P,) the letter that each prompt's completions are judged by; the data set's, unless refined."""
        return step.labels

    def rewards(self, step: Step) -> Tensor:
        """(P, G): what each completion earned, a reward that does not apply counting as nothing."""
        return torch.stack([weight * step.columns[name].nan_to_num() for name, weight in step.reward_weights.items()]).sum(0)

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G) credit."""
        return rewards - rewards.mean(-1, keepdim=True)

    def credit(self, step: Step) -> Batch:
        """The step's batch with (B, T) advantages: a completion's credit at each of its tokens."""
        if self.multi_objective_aggregation == "normalize_then_sum":
            advantages = whiten(self.rewards(replace(step, columns={k: zscore(c) for k, c in step.columns.items()})))
        else:
            advantages = self.advantages(self.rewards(step) - self.kl_penalty(step))
        return replace(step.batch, advantages=advantages.reshape(-1, 1).float() * step.batch.mask)

    def kl_penalty(self, step: Step) -> Tensor:
        """(P, G): beta times the log-ratio to the reference, summed over a completion, where `kl` is "k1_reward"."""
        shape = next(iter(step.columns.values())).shape
        if self.kl != "k1_reward" or not self.beta:
            return torch.zeros(shape, dtype=torch.float64)
        return self.beta * k1(step.batch).sum(-1).double().reshape(shape)

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) mask of the whole minibatch -> (B, T) each token's share of it."""
        return mask / mask.sum().clamp(min=1)

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """(B, T) log-probs -> (B, T) what to increase, and (B, T) quantities to log."""
        return logps * batch.advantages, {}

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """(B, T) log-probs -> (B, T) what to decrease, before the weighted sum, and (B, T) quantities to log."""
        gain, log = self.surrogate(logps, batch)
        if self.entropy_coef and batch.entropy is not None:
            gain = gain + self.entropy_coef * batch.entropy
        if self.beta and self.kl == "k1_reward":
            log["kl"] = k1(batch)
        elif self.beta:
            log["kl"] = KL[self.kl](logps, batch)
            gain = gain - self.beta * log["kl"]
        return -gain, log

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """What else is worth a line in the step's metrics, of the whole credited step."""
        return {}


def zscore(column: Tensor) -> Tensor:
    """(P, G) -> (P, G) a reward's z-scores within the group, passing over `None` (GDPO 2026, arXiv:2601.05242)."""
    known = ~column.isnan()
    count = known.sum(-1, keepdim=True)
    centred = column - column.nansum(-1, keepdim=True) / count
    spread = (centred.nan_to_num().square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return centred / (spread + 1e-4)


def whiten(values: Tensor) -> Tensor:
    """Values with mean 0 and, over the whole step, (Bessel's) standard deviation 1."""
    return (values - values.mean()) / (values.std() + 1e-4)


def old_logps(logps: Tensor, batch: Batch) -> Tensor:
    """(B, T) log-probabilities that ratios are taken against: those from before the batch's first step."""
    return logps.detach() if batch.old_logps is None else batch.old_logps


def k1(batch: Batch) -> Tensor:
    """(B, T) log-ratio of the sampling policy to the reference: KL's plainest estimate, for use in the reward."""
    assert batch.sampled_logps is not None and batch.ref_logps is not None
    return (batch.sampled_logps - batch.ref_logps) * batch.mask


def k2(logps: Tensor, batch: Batch) -> Tensor:
    """Half the squared log-ratio: biased as a value of KL(policy || reference), right on-policy as its gradient."""
    return 0.5 * (logps - _reference(batch)).square()


def k3(logps: Tensor, batch: Batch) -> Tensor:
    """Schulman's unbiased exp(d) - d - 1, d = ref - policy; its gradient is that of KL(reference || policy)."""
    gap = (_reference(batch) - logps).clamp(-20, 20)
    return gap.exp() - gap - 1


def k3_is(logps: Tensor, batch: Batch) -> Tensor:
    """k3 times the ratio to the old policy: value and gradient are both KL(policy || reference)'s (TRL's default)."""
    return (logps - old_logps(logps, batch)).exp() * k3(logps, batch)


def _reference(batch: Batch) -> Tensor:
    assert batch.ref_logps is not None
    return batch.ref_logps


KL = {"k2": k2, "k3": k3, "k3_is": k3_is}
