"""Reasoning noise: the thought of a demonstration is cut, shuffled or replaced; its answer stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlvid.answer import extract_thought
from rlvid.errors import UserError
from rlvid.noise.base import Noise, check_rates, pick_at
from rlvid.registry import suggest
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class Reasoning(Noise):
    """With probability `rate` a demonstration reasons badly: `how` "terse", "shuffled", "wrong" or "none" (ours).

    terse: only the last sentence. shuffled: all sentences in another order. wrong: the thought of another sample. none:
    an empty thought. What the policy samples itself is never changed.
    """

    rate: float = 1.0
    how: str = "wrong"

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)
        if self.how not in THOUGHT_CHANGES:
            raise ValueError(f"no way {self.how!r} to reason badly.{suggest(self.how, THOUGHT_CHANGES)}")

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the training prompts; a share `rate` of the demonstrations reasons badly."""
        thoughts = (extract_thought(prompt.demonstration or "") for prompt in prompts)
        known = sorted({thought for thought in thoughts if thought})
        return [
            self.replace_thought(prompt, known)
            if prompt.demonstration and self.corruption_threshold(prompt) < self.rate
            else prompt
            for prompt in prompts
        ]

    def replace_thought(self, prompt: Prompt, known: Sequence[str]) -> Prompt:
        """Return the prompt with another thought in its demonstration.

        Args:
            prompt: a prompt with a demonstration.
            known: the thoughts of all demonstrations, sorted.

        Raises:
            UserError: the demonstration does not have exactly one `<think>` block, or there is no other thought.
        """
        assert prompt.demonstration is not None
        thought = extract_thought(prompt.demonstration)
        if thought is None:
            raise UserError(
                f"reasoning: the demonstration of sample {prompt.id} does not have exactly one <think> block"
            )
        change = THOUGHT_CHANGES[self.how]
        new_thought = change(thought, known, uniform_hash(self.seed, "reasoning", prompt.id, self.how))
        if not thought:
            return prompt
        return replace(prompt, demonstration=prompt.demonstration.replace(thought, new_thought, 1))


# A thought change gets the thought, the sorted thoughts of all demonstrations, and a uniform random number.


def _split_sentences(thought: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", thought)


def _terse(thought: str, known: Sequence[str], u: float) -> str:
    return _split_sentences(thought)[-1]


def _shuffled(thought: str, known: Sequence[str], u: float) -> str:
    """The sentences in another order, if there are two different ones."""
    sentences = _split_sentences(thought)
    order = np.random.default_rng(int(u * 2**53)).permutation(len(sentences))
    shuffled = [sentences[i] for i in order]
    if shuffled == sentences:
        shuffled = [*sentences[1:], *sentences[:1]]
    return " ".join(shuffled)


def _wrong(thought: str, known: Sequence[str], u: float) -> str:
    other = pick_at(u, known, lambda candidate: candidate != thought)
    if other is None:
        raise UserError("reasoning: all demonstrations have the same thought, so there is no other one to use")
    return other


def _none(thought: str, known: Sequence[str], u: float) -> str:
    return ""


THOUGHT_CHANGES: Mapping[str, Callable[[str, Sequence[str], float], str]] = {
    "terse": _terse,
    "shuffled": _shuffled,
    "wrong": _wrong,
    "none": _none,
}
REASONING_NOISES: dict[str, type[Noise]] = {"reasoning": Reasoning}
