"""The base class of algorithms: pure functions of tensors that define reward, credit, token weight and objective.

Published variants of policy optimization differ along these axes. A subclass overrides only what its paper changes:

    rewards     (P, G) what each completion earned: the weighted sum of its reward columns
    advantages  (P, G) -> (P, G) the credit of a completion relative to the others of its prompt
    weights     (B, T) each token's share of the loss
    surrogate   (B, T) the objective to maximize

The fields of the dataclass are the algorithm's options in the config; `rlvid list algorithms NAME` prints them. Shapes
are explained in rlvid/types.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlvid.types import Batch, Step
from rlvid.utils.fields import check_method_names

Losses = tuple[Tensor, dict[str, Tensor]]  # (B, T) per-token values, and (B, T) quantities to log
OWN_ADVANTAGES = "the algorithm's own advantages have no place: leave it out, or use grpo"


@dataclass(frozen=True)
class Algorithm:
    """REINFORCE with the group's mean as baseline; all tokens of a minibatch have the same weight."""

    beta: float = 0.0  # KL coefficient; at 0 no reference is loaded
    kl: str = "k3"  # a loss "k2", "k3" or "k3_is" (k3 * ratio), or "k1_reward", which is subtracted from the reward
    entropy_coef: float = 0.0  # weight of an entropy bonus, with the token weights of the loss (TRL: all equal)
    num_iterations: int = 1  # passes over each step's batch
    num_minibatches: int = 1  # optimizer steps per pass
    multi_objective_aggregation: str = "sum_then_normalize"  # or "normalize_then_sum": z-score each reward (GDPO)
    max_num_gen_batches: int = 1  # rounds of sampling until no group is flat (DAPO's dynamic sampling); 1: one round
    mask_truncated_completions: bool = False  # True: completions cut off at the length limit are not learnt from

    def __init_subclass__(cls, **options: Any) -> None:
        """Raise TypeError for a method whose name is nearly one of this class's: nothing would ever call it."""
        super().__init_subclass__(**options)
        check_method_names(cls, Algorithm)

    def __post_init__(self) -> None:
        if self.kl not in (*KL, "k1_reward"):
            raise ValueError(f"kl must be one of {', '.join(KL)}, k1_reward, not {self.kl!r}")
        if self.multi_objective_aggregation not in ("sum_then_normalize", "normalize_then_sum"):
            raise ValueError(
                'multi_objective_aggregation must be "sum_then_normalize" or "normalize_then_sum", '
                f"not {self.multi_objective_aggregation!r}"
            )
        if self.multi_objective_aggregation == "normalize_then_sum" and self.ignored_by_gdpo:
            raise ValueError(
                'multi_objective_aggregation = "normalize_then_sum" sums z-scores and whitens the sum over the step, '
                f"where {self.ignored_by_gdpo}"
            )
        if self.beta < 0:
            raise ValueError(f"beta must be 0 or more, not {self.beta}: a negative one would pay for divergence")
        for name in ("num_iterations", "num_minibatches", "max_num_gen_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.max_num_gen_batches > 1 and self.flat_group_credit:
            raise ValueError(
                "max_num_gen_batches must be 1: flat groups are replaced by further rounds of sampling, but can have "
                f"credit here: {self.flat_group_credit}"
            )

    @property
    def completion_source(self) -> str:
        """Where completions come from: "policy" (sampled) or "data" (read from the data set)."""
        return "policy"

    @property
    def ignored_by_gdpo(self) -> str:
        """What "normalize_then_sum" would silently ignore, and how to fix it, for the message; "" if nothing.

        Its advantages take the place of `advantages`: an algorithm with its own is refused, unless it overrides this.
        """
        return "" if type(self).advantages is Algorithm.advantages else OWN_ADVANTAGES

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit; "" if it cannot.

        An algorithm in which it can overrides this: dynamic sampling, which replaces such groups, is then refused.
        """
        if self.multi_objective_aggregation == "normalize_then_sum":
            return "equal sums of rewards can be unequal sums of z-scores"
        return "the KL in the reward differs between completions" if self.kl == "k1_reward" and self.beta else ""

    def sampling_views(self, number: int, max_steps: int, num_generations: int) -> Mapping[str, int]:
        """Return how many of the completions of each prompt are sampled under which view of the clip, in this order.

        Args:
            number: of the step, from 1; strengths may follow a schedule.
            max_steps: the number of the run's last step.
            num_generations: G, to which the counts add up.

        Returns:
            The name of a view (`rlvid list views`), such as "noise:450", or "" for the clip itself -> its completions.
        """
        return {"": num_generations}

    @property
    def loss_pixels(self) -> str:
        """What the loss of a completion under an altered view reads: "clean" for the clip, "sampled" for its view."""
        return "clean"

    @property
    def needs(self) -> frozenset[str]:
        """What to read about each token (rlvid/trainer/token_inputs.py): `ref_logps` with a KL penalty."""
        return frozenset({"ref_logps"} if self.beta else ())

    @property
    def needs_all_tokens(self) -> str:
        """Why completions must be sampled without `train.top_p`, for the message; "" if they need not.

        Where only the most likely tokens are sampled, `sampled_logps` are not the probabilities that they had.
        """
        return ""

    @property
    def critic_settings(self) -> tuple[str, float] | None:
        """The kind of critic (rlvid/policy/critic.py) and its learning rate, or None without a critic."""
        return None

    def check_rewards(self, weights: Mapping[str, float]) -> None:
        """Raise ValueError if what sets the algorithm apart has no effect on a mix of rewards, name -> weight.

        Called once, before the run: an algorithm that does what another one does is refused, not run under its name.
        """

    def observe(self, step: Step) -> None:
        """Update `step.memory` from a step; nothing else may change.

        Called once per step, before `credit`. So when `credit` reads `step.memory`, it contains this step already: a
        running mean kept there includes the rewards that it is the baseline of.
        """

    def labels(self, step: Step) -> Sequence[str | None]:
        """Return (P,) the letter that counts as right for each prompt: the data set's, unless it was refined."""
        return step.labels

    def rewards(self, step: Step) -> Tensor:
        """Return (P, G) total rewards: the weighted sum of the columns, where NaN (does not apply) counts as 0."""
        weighted = [weight * step.columns[name].nan_to_num() for name, weight in step.reward_weights.items()]
        return torch.stack(weighted).sum(0)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G) advantages for (P, G) rewards.

        >>> Algorithm().advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
        tensor([[ 0.5000, -0.5000, -0.5000,  0.5000]])
        """
        return rewards - rewards.mean(-1, keepdim=True)

    def credit(self, step: Step) -> Batch:
        """Return the step's batch with (B, T) advantages: each completion's advantage at all of its tokens.

        With "normalize_then_sum", a KL in the reward is centered in its group and subtracted from the sum of z-scores
        before that is whitened: `beta` is in units of the z-scores, and the KL keeps its size. TRL has no such pair
        (its GRPOTrainer has GDPO with the KL in the loss), and verl's GDPO ignores a KL in the reward.
        """
        penalty = self.kl_penalty(step)
        if self.multi_objective_aggregation == "normalize_then_sum":
            normalized = {name: zscore(column) for name, column in step.columns.items()}
            totals = self.rewards(replace(step, columns=normalized))
            advantages = whiten(totals - (penalty - penalty.mean(-1, keepdim=True)))
        else:
            advantages = self.advantages(self.rewards(step) - penalty)
        return with_advantages(step, advantages)

    def kl_penalty(self, step: Step) -> Tensor:
        """Return (P, G) beta times the log-ratio to the reference summed over tokens; 0 unless `kl` is "k1_reward"."""
        shape = next(iter(step.columns.values())).shape
        if self.kl != "k1_reward" or not self.beta:
            return torch.zeros(shape, dtype=torch.float64)
        if step.batch.off_view is not None:
            raise ValueError(
                'kl "k1_reward" compares log-probs under a view with those under the clip: take another kl'
            )
        return self.beta * k1(step.batch).sum(-1).double().reshape(shape)

    def weights(self, mask: Tensor) -> Tensor:
        """Return each token's share of the loss, (B, T), for the (B, T) mask of a whole minibatch."""
        return mask / mask.sum().clamp(min=1)

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """Return the (B, T) objective to maximize, for (B, T) log-probs, and (B, T) quantities to log."""
        return logps * batch.advantages, {}

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """Return the (B, T) loss before the sum weighted by `batch.weights`, and (B, T) quantities to log.

        loss = -(surrogate + entropy_coef * entropy - beta * kl), for (B, T) log-probs.
        """
        returned: object = self.surrogate(logps, batch)
        if not isinstance(returned, tuple) or len(returned) != 2 or getattr(returned[0], "shape", 0) != logps.shape:
            shape = tuple(logps.shape)
            raise TypeError(f"surrogate must return a pair: an objective of shape {shape}, and a dictionary to log")
        objective, log = returned
        if self.entropy_coef and batch.entropy is not None:
            objective = objective + self.entropy_coef * batch.entropy
        if self.beta and self.kl == "k1_reward":
            log["kl"] = k1(batch)
        elif self.beta:
            log["kl"] = KL[self.kl](logps, batch)
            objective = objective - self.beta * log["kl"]
        return -objective, log

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """Return further metrics of the whole step's batch, after `credit`."""
        return {}


def with_advantages(step: Step, advantages: Tensor) -> Batch:
    """Return the step's batch with (P, G) advantages spread over the tokens of each completion, (B, T).

    Raises ValueError unless they are a tensor of that shape: transposed ones would credit other completions.
    """
    shape = tuple(next(iter(step.columns.values())).shape)
    if not isinstance(advantages, Tensor) or advantages.shape != shape:
        given = tuple(advantages.shape) if isinstance(advantages, Tensor) else type(advantages).__name__
        raise ValueError(f"advantages must be a tensor of shape {shape}, prompts times completions, not {given}")
    return replace(step.batch, advantages=advantages.reshape(-1, 1).float() * step.batch.mask)


def per_completion_weights(mask: Tensor) -> Tensor:
    """Return (B, T) token weights, for a (B, T) mask: 1/B per completion, spread evenly over its tokens."""
    return mask / mask.sum(-1, keepdim=True).clamp(min=1) / len(mask)


def zscore(column: Tensor) -> Tensor:
    """Return the z-scores of a (P, G) reward within each group, ignoring NaN (GDPO 2026, arXiv:2601.05242)."""
    known = ~column.isnan()
    count = known.sum(-1, keepdim=True)
    centered = column - column.nansum(-1, keepdim=True) / count
    variance = centered.nan_to_num().square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return centered / (variance.sqrt() + 1e-4)


def whiten(values: Tensor) -> Tensor:
    """Return values shifted and scaled to mean 0 and standard deviation 1 (Bessel's) over all entries."""
    return (values - values.mean()) / (values.std() + 1e-4)


def old_logps(logps: Tensor, batch: Batch) -> Tensor:
    """Return (B, T) the denominator of probability ratios: the log-probs before the batch's first optimizer step.

    If the batch has only one optimizer step, these are the current log-probs, detached: the ratio is exactly 1.
    """
    return logps.detach() if batch.old_logps is None else batch.old_logps


def k1(batch: Batch) -> Tensor:
    """Return (B, T) log(sampling policy / reference): the plainest estimate of the KL, for use in the reward."""
    assert batch.sampled_logps is not None and batch.ref_logps is not None
    return (batch.sampled_logps - batch.ref_logps) * batch.mask


def k2(logps: Tensor, batch: Batch) -> Tensor:
    """Return (B, T) half the squared log-ratio to the reference.

    As a value of KL(policy || reference) it is biased; on-policy, its gradient is unbiased.
    """
    return 0.5 * (logps - _ref_logps(batch)).square()


def k3(logps: Tensor, batch: Batch) -> Tensor:
    """Return (B, T) exp(d) - d - 1 with d = reference - policy log-prob: Schulman's unbiased KL estimator.

    Its gradient is that of KL(reference || policy). The exponential is `bounded_exp`.
    """
    difference = _ref_logps(batch) - logps
    return bounded_exp(difference) - difference - 1


def bounded_exp(values: Tensor) -> Tensor:
    """Return exp, above 20 continued by its tangent: it cannot overflow, and the gradient stays at its value there."""
    return values.clamp(max=20).exp() * (1 + (values - 20).relu())


def k3_is(logps: Tensor, batch: Batch) -> Tensor:
    """Return (B, T) k3 times the ratio to the old policy (TRL's default).

    Value and gradient are both those of KL(policy || reference).
    """
    return (logps - old_logps(logps, batch)).exp() * k3(logps, batch)


def _ref_logps(batch: Batch) -> Tensor:
    assert batch.ref_logps is not None
    return batch.ref_logps


KL = {"k2": k2, "k3": k3, "k3_is": k3_is}
