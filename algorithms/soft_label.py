"""Reward the answer's posterior, from the noisy label and the votes so far (ours, unpublished)."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._robust import OutcomeAlgorithm, answers_by_sample, check_letters
from algorithms.grpo import GRPO
from rlvid.types import Step

SMALLEST = sys.float_info.min  # a share that decays never becomes 0, as its rounded value does


@dataclass(frozen=True)
class SoftLabel(GRPO, OutcomeAlgorithm):
    """GRPO with r = q(answer), where q(c) is proportional to T(label | c) v_c^tau over the C options.

    T is symmetric label noise: 1 - eta if c is the label, eta / (C - 1) otherwise. v is a moving average of the
    prompt's vote shares over its visits and starts at 1 / C each; a prompt that occurs several times in a step is
    visited once, with the answers of all of its groups. With eta = 0 the label alone decides. With eta = (C - 1) / C
    the label carries no information and votes decide, as in `ttrl` but softly. A label that is none of the options
    (noise "unproducible") carries no information either. A completion that names no letter earns 0.
    """

    eta: float = 0.2  # the rate of wrong labels
    tau: float = 1.0  # the exponent of the votes
    decay: float = 0.5  # the weight of the old average at each visit
    options: int = 4  # C; an answer beyond them is refused

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.options <= 26:
            raise ValueError(f"options must be from 2 to 26, not {self.options}")
        if not 0 <= self.eta <= 1 - 1 / self.options:
            raise ValueError(f"eta must be in [0, {1 - 1 / self.options:g}] with {self.options} options")
        if self.tau < 0:
            raise ValueError(f"tau must be 0 or more, not {self.tau}: a negative one would prefer what few voted for")
        if not 0 < self.decay < 1:
            raise ValueError(f"decay must be between 0 and 1, not {self.decay}")

    def observe(self, step: Step) -> None:
        """Average the vote shares of each group into `step.memory["votes"]`: sample id -> {letter: share}.

        Raises ValueError for an answer beyond `options`.
        """
        check_letters(step, self.options)
        votes = step.memory.setdefault("votes", {})
        for sample, answers in answers_by_sample(step).items():
            letters = [letter for letter in answers if letter is not None]
            if letters:
                votes[sample] = {
                    option: self.decay * share + (1 - self.decay) * letters.count(option) / len(letters)
                    for option, share in votes.get(sample, self.uniform()).items()
                }

    def uniform(self) -> dict[str, float]:
        """Return the share of each option before any vote."""
        return {chr(ord("A") + i): 1 / self.options for i in range(self.options)}

    def posteriors(self, step: Step) -> list[dict[str, float]]:
        """Return (P,) the posterior q of each prompt: letter -> probability."""
        votes = step.memory.get("votes", {})
        return [
            self.posterior(label, votes.get(sample, self.uniform()))
            for sample, label in zip(step.ids, step.labels, strict=True)
        ]

    def posterior(self, label: str | None, shares: dict[str, float]) -> dict[str, float]:
        """Return q: letter -> probability, for a label and the average vote shares of the options."""
        is_option = label in shares
        log_joint = {}  # in logs, because powers of small shares underflow
        for option, share in shares.items():
            # T(label | option); the same for every option if the label is none of them
            likelihood = 1 - self.eta if option == label or not is_option else self.eta / (self.options - 1)
            log_share = math.log(max(share, SMALLEST))
            log_joint[option] = (math.log(likelihood) if likelihood else -math.inf) + self.tau * log_share
        largest = max(log_joint.values())
        joint = {option: math.exp(value - largest) for option, value in log_joint.items()}
        return {option: value / sum(joint.values()) for option, value in joint.items()}

    def labels(self, step: Step) -> Sequence[str | None]:
        """Return (P,) the letter with the highest posterior; the data set's if it is among the highest."""
        return [
            max(posterior, key=lambda option: (posterior[option], option == label))
            for posterior, label in zip(self.posteriors(step), step.labels, strict=True)
        ]

    def rewards(self, step: Step) -> Tensor:
        """Return the (P, G) totals, with q(answer) instead of the outcome."""
        rows = [
            [0.0 if letter is None else posterior.get(letter, 0.0) for letter in answers]
            for posterior, answers in zip(self.posteriors(step), step.answers, strict=True)
        ]
        return super().rewards(self.with_outcome(step, torch.tensor(rows, dtype=torch.float64)))
