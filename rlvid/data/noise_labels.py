"""Wrong labels: fixed for each sample, whatever the algorithm, the step or the completion."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rlvid.answer import LETTERS
from rlvid.data.corruption import Corruption, hash01
from rlvid.errors import UserError
from rlvid.types import Prompt


@dataclass(frozen=True)
class LabelNoise(Corruption):
    """With probability `rate` a label becomes the one that the kind chooses."""

    rate: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be in [0, 1], not {self.rate}")

    def prompt(self, prompt: Prompt) -> Prompt:
        """The prompt, its label flipped or not, as the hash of its id says."""
        if self.u(prompt) >= self.rate:
            return prompt
        return relabel(prompt, self.choose(prompt, wrong_letters(prompt)))

    def choose(self, prompt: Prompt, wrong: list[str]) -> str:
        """Which of the wrong letters."""
        raise NotImplementedError


@dataclass(frozen=True)
class Symmetric(LabelNoise):
    """A wrong label, each of the other options as likely; J = 1 - rate C / (C - 1)."""

    def choose(self, prompt: Prompt, wrong: list[str]) -> str:
        return wrong[int(hash01(self.seed, "symmetric", prompt.id, "to") * len(wrong))]


def same(one: str, other: str) -> bool:
    """Whether two option texts are equal but for case and white space."""
    return one.casefold().split() == other.casefold().split()


def wrong_letters(prompt: Prompt) -> list[str]:
    """The options that a flip may go to: none that says the same as the right one."""
    options = dict(zip(LETTERS, prompt.options, strict=False))
    if prompt.answer not in options:
        raise UserError(f"sample {prompt.id} has no right option, so its label cannot be flipped")
    truth = options[prompt.answer]
    wrong = [letter for letter, text in options.items() if not same(text, truth)]
    if not wrong:
        raise UserError(f"sample {prompt.id}: every option says {truth!r}, so its label cannot be flipped")
    return wrong


def relabel(prompt: Prompt, letter: str) -> Prompt:
    """The prompt with another label; the clean one stays in `meta["clean_answer"]`, for diagnostics only.

    A demonstration's `<answer>` is rewritten and its reasoning is not: a wrong label, not a wrong argument.
    """
    shown = prompt.demonstration and re.sub(
        "<answer>.*?</answer>", f"<answer>{letter}</answer>", prompt.demonstration, flags=re.DOTALL
    )
    return replace(prompt, answer=letter, demonstration=shown, meta={**prompt.meta, "clean_answer": prompt.answer})


LABELS: dict[str, type[Corruption]] = {"symmetric": Symmetric}
