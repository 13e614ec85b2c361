"""PA-GRPO: perception and reasoning are credited apart, each by its own rewards (VideoP2R 2025, arXiv:2511.11113)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from algorithms.grpo import GRPO
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class PAGRPO(GRPO):
    """A token's advantage is that of its segment: z-scores of the segment's own rewards within the group.

    Perception is the tokens of `<tag>...</tag>`, its tags included, and is credited by the rewards that `perception`
    names. All other tokens are reasoning, and are credited by all other rewards. A reply without the tag has no
    perception tokens: its perception rewards still count in the mean and the deviation of its group, and nothing else.
    Perception tokens without a reward to credit them by are refused.

    The paper's reward of perception is `perception_judge`: a language model says whether the observation suffices. A
    stand-in without an endpoint is `grounding_narrations`, F1 of the segment's facts; with embedded models, whose
    replies have no `<observation>`, the thought is the perception and the answer the reasoning:
    algorithm.perception=["grounding_narrations"] algorithm.tag=think

    The paper's code is not public. Ours gives the end token, and text outside of all tags, to reasoning, where the
    paper names the tokens of think and answer; and each completion's tokens share one weight, over both segments.
    """

    perception: tuple[str, ...] = ()  # such as ["perception_judge"]: the rewards of the perception segment
    tag: str = "observation"

    @property
    def needs(self) -> frozenset[str]:
        """The tokens of the perception segment, and the reference's log-probs with a KL."""
        return super().needs | {f"tag_mask:{self.tag}"}

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, T) advantages: those of perception on its tokens, those of reasoning elsewhere."""
        if unknown := sorted({*self.perception} - step.reward_weights.keys()):
            known = ", ".join(step.reward_weights)
            raise ValueError(f"algorithm.perception names {', '.join(unknown)}, and the run's rewards are {known}")
        is_perception = step.batch.tag_masks[self.tag]
        if is_perception.any() and not self.perception:
            raise ValueError(
                f"replies have perception tokens in <{self.tag}>, and no reward credits them: set algorithm.perception "
                'to some of the rewards, such as ["perception_judge"]'
            )
        perception, reasoning = (self.segment_advantages(step, of_perception) for of_perception in (True, False))
        return replace(step.batch, advantages=torch.where(is_perception > 0, perception, reasoning))

    def segment_advantages(self, step: Step, of_perception: bool) -> Tensor:
        """Return (B, T) advantages by the rewards of one segment alone."""
        weights = {
            name: weight if (name in self.perception) is of_perception else 0.0
            for name, weight in step.reward_weights.items()
        }
        return super().credit(replace(step, reward_weights=weights)).advantages

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """Return `credit/perception`: the share of tokens in the perception segment."""
        return {"credit/perception": ((batch.tag_masks[self.tag] * batch.mask).sum() / batch.mask.sum()).item()}
