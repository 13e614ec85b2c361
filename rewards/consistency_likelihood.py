"""A bonus for right answers that their own reasoning makes likely under the reference (GRPO-CARE, arXiv:2506.16141).

c = min(p(answer | prompt, thought), `ceiling`) under the reference. A completion is a candidate if its accuracy is over
0.1 and at least the group's mean. A candidate earns `bonus` times accuracy if c >= (mean c of the candidates) -
`margin`, and 0 otherwise; so do all other completions.

Known flaws of the published form, which ours keeps. The reference sees the video too, so it may find the answer likely
whatever the thought says. The threshold is relative, so if no thought is worth anything, the better half is still paid.
At the ceiling all right answers are paid alike, which a group's normalization cancels.

`gain` replaces c by log p(answer | thought, no pixels) - log p(answer | prompt, no thought), both p bounded to
[1e-6, `ceiling`], and pays no gain below 0: a thought must carry at least the information of the pixels. Known hack
that remains: "the answer is B" carries it.

The published code takes the geometric mean over the answer's tokens, and the batch instead of the group; its reference
is a moving average of the policy. Ours takes the probability of one letter among the options' letters, from the policy
before training (or `evidence.reference`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import ClassVar

from rewards._consistency import record_agreement
from rlvid.answer import LETTERS
from rlvid.reward import Column
from rlvid.types import Group, Likelihood

_MIN_PROB = 1e-6  # lower bound of a probability before its logarithm is taken


@dataclass(frozen=True)
class ConsistencyLikelihood:
    """`bonus` times accuracy, or 0; 0 without a thought or an answer."""

    bonus: float = 0.5
    margin: float = 0.0  # 0.01 in the paper's runs on general videos
    ceiling: float = 0.95
    gain: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"answer_likelihood", "column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [self.score(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        """Return the row of a group."""
        accuracies = [accuracy or 0.0 for accuracy in group["accuracy"]]
        mean_accuracy = fmean(accuracies)
        supports = [
            self.support(likelihood, completion.answer) if likelihood and completion.answer else None
            for completion, likelihood in zip(group, group.evidence["answer_likelihood"], strict=True)
        ]
        record_agreement(self, group, [self.agreement(support) for support in supports])

        candidates = [accuracy > 0.1 and accuracy >= mean_accuracy for accuracy in accuracies]
        candidate_supports = [s for s, ok in zip(supports, candidates, strict=True) if ok and s is not None]
        threshold = fmean(candidate_supports or [0.0])
        if self.gain:
            threshold = max(threshold, 0.0)
        threshold -= self.margin + 1e-9  # because the mean of equal numbers may round to a larger one
        return [
            self.bonus * accuracy if ok and support is not None and support >= threshold else 0.0
            for accuracy, ok, support in zip(accuracies, candidates, supports, strict=True)
        ]

    def agreement(self, support: float | None) -> float:
        """Return the value for audits, for right and wrong answers: c, or with `gain` whether there is a gain."""
        if support is None:
            return 0.0
        return float(support > 0) if self.gain else support

    def support(self, likelihood: Likelihood, answer: str) -> float:
        """Return how likely the thought makes the answer: c, or with `gain` the gain in log-probability."""
        index = LETTERS.index(answer)
        if not self.gain:
            return min(likelihood.full[index], self.ceiling)
        thought_only = max(min(likelihood.no_video[index], self.ceiling), _MIN_PROB)
        pixels_only = max(min(likelihood.no_reasoning[index], self.ceiling), _MIN_PROB)
        return log(thought_only) - log(pixels_only)
