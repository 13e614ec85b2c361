"""Steps of verdicts and answers made by hand, for tests of the noise-robust algorithms."""

import torch
from torch import Tensor

from rlvid.registry import build
from rlvid.types import Step
from tests.helpers import toy

RATES = {"false_positives": 0.1, "false_negatives": 0.2}
J = 0.7  # 1 - false positives - false negatives
NOISE_CHANNELS = ["s_grpo", "backward", "forward", "noise_corrected_grpo", "noise_corrected_dr_grpo"]


def success_groups(size: int = 8) -> Tensor:
    """Return (size + 1, size) verdicts: one group for each number of successes, successes first."""
    return (torch.arange(size) < torch.arange(size + 1)[:, None]).double()


def verdict_step(verdicts: Tensor, **fields) -> Step:
    """Return a step of (P, G) verdicts with one token per completion."""
    return toy.make_step(verdicts, torch.ones(verdicts.numel(), 1), **fields)


def answer_step(answers, labels, number=1, memory=None, **fields) -> Step:
    """Return a step of groups with these answers, judged by these labels.

    A group's answers are the letters of a string, with "-" for none: answer_step(["AAB-"], "A").
    """
    letters = [[None if letter == "-" else letter for letter in row] for row in answers]
    right = [[float(letter == label) for letter in row] for row, label in zip(letters, labels, strict=True)]
    return verdict_step(
        torch.tensor(right, dtype=torch.float64), answers=letters, labels=list(labels), number=number,
        memory={} if memory is None else memory, **fields,
    )  # fmt: skip


def advantages_of(name: str, step: Step, **options) -> Tensor:
    """Return the (P, G) advantages that an algorithm gives to a step."""
    algorithm = build("algorithms", name, **options)
    algorithm.observe(step)
    return algorithm.credit(step).advantages.reshape(next(iter(step.columns.values())).shape)


def flip(verdicts: Tensor, false_positives, false_negatives, generator: torch.Generator) -> Tensor:
    """Return clean verdicts as a verifier with these error rates would give them."""
    flipped = torch.rand(verdicts.shape, generator=generator) < torch.where(
        verdicts > 0, false_negatives, false_positives
    )
    return torch.where(flipped, 1 - verdicts, verdicts)
