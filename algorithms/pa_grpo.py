"""PA-GRPO: what a completion observes and what it concludes get credit apart (VideoP2R, 2025, arXiv:2511.11113)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from algorithms._split_rewards import CREDIT_OF_PARTS, require_both_kinds, split_rewards
from algorithms.grpo import GRPO
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class PAGRPO(GRPO):
    """GRPO with two advantages: of the rewards in `perception` at the tokens of <tag>, of the others everywhere else.

    Each is the z-score of its own rewards within the group. Tags belong to their block. A completion without the block
    has no tokens that perception is paid at. A mix without rewards of both kinds is refused before the run.

    In the paper the block is <observation>, and its reward a judge's 0 or 1 for "sufficient to answer", given the right
    answer; both segments also earn for their form and for a length that it prefers. Here any reward can be paid for the
    block: `perception_judge` is the paper's, and `grounding_narrations`, which knows the clip and not the answer, is a
    stand-in without an endpoint; format and length are rewards of their own. On the embedded model, whose thoughts
    describe the clip, use tag = "think". The paper's code is not published.
    """

    tag: str = "observation"
    perception: tuple[str, ...] = (
        "perception_judge",
        "grounding_narrations",
        "grounding_moves",
        "grounding_timestamps",
    )

    @property
    def needs(self) -> frozenset[str]:
        """The reference's log-probs with a KL, and which tokens are of the block."""
        return super().needs | {f"tag_mask:{self.tag}"}

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: two sums of rewards are compared."""
        return CREDIT_OF_PARTS

    def check_rewards(self, weights: Mapping[str, float]) -> None:
        """Raise ValueError unless the mix pays both a reward of `perception` and another one."""
        require_both_kinds(weights, self.perception, "perception", "grounding_narrations")

    def credit(self, step: Step) -> Batch:
        """Return the step's batch with the advantages of perception at the block, and those of the rest elsewhere.

        Without rewards of one kind, as for the share of advantages that a single reward makes, it is that of `grpo`.
        """
        parts = split_rewards(step, self.perception)
        if parts is None:
            return super().credit(step)
        perceived, concluded = (super(PAGRPO, self).credit(part) for part in parts)
        in_block = step.batch.tag_masks[self.tag] > 0.5
        return replace(concluded, advantages=torch.where(in_block, perceived.advantages, concluded.advantages))

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """Return `credit/perception`: the share of learnt tokens in the block; 0 if no reply has one."""
        in_block = (batch.tag_masks[self.tag] * batch.mask).sum()
        return {"credit/perception": (in_block / batch.mask.sum().clamp(min=1)).item()}
