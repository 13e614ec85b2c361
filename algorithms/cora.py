"""CORA's split of advantages: task and consistency are normalised apart (HRAS, 2026, arXiv:2606.14691)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from algorithms._split_rewards import CREDIT_OF_PARTS, require_both_kinds, split_rewards
from algorithms.grpo import GRPO
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class CORA(GRPO):
    """GRPO with the advantage A = A_task + c A_consistency, each the z-score of its own rewards within the group.

    A_consistency is of the rewards in `consistency`, with their weights; A_task of all others together, such as
    accuracy and format. c rises linearly from 0 to `coef` over the first `warmup` share of the run's steps, and falls
    linearly to 0 over its last `decay` share. The weight of a single reward of a kind cancels in its z-score: `coef`
    says how much it counts. A mix without rewards of both kinds is refused before the run.

    `grpo` with multi_objective_aggregation = "normalize_then_sum" is near: it takes a z-score of each reward, so that
    accuracy and format are apart as well, it has no schedule, and it whitens the sum over the step.

    After third-party notes on the paper, since we know of no code of its authors: the two z-scores are from there, and
    that the weight warms up and decays. We do not know the paper's shares and coefficients; ours are not tuned. Its
    reward is a classifier that was trained on labelled replies; `consistency_nli` is the nearest. Where all answers of
    a group are wrong, A_consistency alone is learnt from, and it may prefer a consistent way to be wrong; rewards that
    are gated by accuracy, as ours are by default, have nothing to say there.
    """

    coef: float = 1.0
    warmup: float = 0.1  # share of the run's steps
    decay: float = 0.0  # share of the run's steps
    consistency: tuple[str, ...] = (
        "consistency_nli",
        "consistency_judge",
        "consistency_embedding",
        "consistency_likelihood",
        "consistency_reanswer",
        "consistency_rule",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.warmup, self.decay) < 0 or self.warmup + self.decay > 1:
            raise ValueError(f"warmup and decay are shares of the run: {self.warmup} and {self.decay} are not")
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError("CORA has an aggregation of its own: leave out multi_objective_aggregation")
        if self.kl == "k1_reward":
            raise ValueError("kl = k1_reward would be subtracted from both advantages; take a KL in the loss")

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: two sums of rewards are compared."""
        return CREDIT_OF_PARTS

    def check_rewards(self, weights: Mapping[str, float]) -> None:
        """Raise ValueError unless the mix pays both a reward of `consistency` and another one."""
        require_both_kinds(weights, self.consistency, "consistency", "consistency_rule")

    def coefficient(self, step: Step) -> float:
        """Return c of a step."""
        done = step.number / step.max_steps
        rise = min(1.0, done / self.warmup) if self.warmup else 1.0
        fall = min(1.0, (1 - done) / self.decay) if self.decay else 1.0
        return self.coef * min(rise, fall)

    def credit(self, step: Step) -> Batch:
        """Return the step's batch with A_task + c A_consistency at all tokens of a completion.

        Without rewards of one kind, as for the share of advantages that a single reward makes, it is that of `grpo`.
        """
        parts = split_rewards(step, self.consistency)
        if parts is None:
            return super().credit(step)
        consistent, task = (super(CORA, self).credit(part) for part in parts)
        return replace(task, advantages=task.advantages + self.coefficient(step) * consistent.advantages)
