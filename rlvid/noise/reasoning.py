"""Bad reasoning: the thought of a demonstration is cut, torn apart or another's; its answer stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlvid.answer import extract_thought
from rlvid.errors import UserError
from rlvid.noise.base import Noise, check_rates, pick
from rlvid.registry import suggest
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class Reasoning(Noise):
    """With probability `rate` a demonstration reasons badly: `how` "terse", "shuffled", "wrong" or "none" (ours).

    terse: only the last sentence. shuffled: all sentences in another order. wrong: the thought of another sample. none:
    an empty thought. What an algorithm samples by itself is left alone.
    """

    rate: float = 1.0
    how: str = "wrong"

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)
        if self.how not in HOW:
            raise ValueError(f"no way {self.how!r} to reason badly.{suggest(self.how, HOW)}")

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The training prompts, those with a demonstration reasoning badly."""
        known = sorted({said for prompt in prompts if (said := extract_thought(prompt.demonstration or ""))})
        return [self.spoilt(p, known) if p.demonstration and self.u(p) < self.rate else p for p in prompts]

    def spoilt(self, prompt: Prompt, known: Sequence[str]) -> Prompt:
        """The prompt with another thought in its demonstration."""
        assert prompt.demonstration is not None
        said = extract_thought(prompt.demonstration)
        if said is None:
            raise UserError(f"reasoning: the demonstration of sample {prompt.id} has no one <think> block to change")
        other = HOW[self.how](said, known, uniform_hash(self.seed, "reasoning", prompt.id, self.how))
        return replace(prompt, demonstration=prompt.demonstration.replace(said, other, 1)) if said else prompt


def _sentences(said: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", said)


def _terse(said: str, known: Sequence[str], u: float) -> str:
    return _sentences(said)[-1]


def _shuffled(said: str, known: Sequence[str], u: float) -> str:
    """Another order, where there are two different sentences."""
    there = _sentences(said)
    order = np.random.default_rng(int(u * 2**53)).permutation(len(there))
    moved = [there[i] for i in order]
    return " ".join(moved if moved != there else [*there[1:], *there[:1]])


def _wrong(said: str, known: Sequence[str], u: float) -> str:
    other = pick(u, known, lambda thought: thought != said)
    if other is None:
        raise UserError("reasoning: all demonstrations think the same, so that none has another's thought to take")
    return other


def _none(said: str, known: Sequence[str], u: float) -> str:
    return ""


HOW: Mapping[str, Callable[[str, Sequence[str], float], str]] = {
    "terse": _terse,
    "shuffled": _shuffled,
    "wrong": _wrong,
    "none": _none,
}
REASONING: dict[str, type[Noise]] = {"reasoning": Reasoning}
