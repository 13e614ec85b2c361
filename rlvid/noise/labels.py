"""Wrong labels: fixed for each sample, whatever the algorithm, the step or the completion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rlvid.answer import LETTERS
from rlvid.errors import UserError
from rlvid.judges.encoder import DEFAULT, embed
from rlvid.noise.base import Noise, check_rates, pick
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.utils.text import plain_words

PARTICLES = {"away", "back", "down", "in", "off", "on", "out", "over", "up"}


@dataclass(frozen=True)
class LabelNoise(Noise):
    """With probability `rate` a label becomes the one that the kind chooses; with `drop` such samples are left out."""

    rate: float = 0.0
    drop: bool = False  # the oracle that knows every wrong label: a control arm

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The training prompts, each with its label or another; with `drop`, those with another are missing."""
        pairs = [(prompt, self.corrupt_prompt(prompt)) for prompt in prompts]
        return [noisy for clean, noisy in pairs if not (self.drop and noisy.answer != clean.answer)]

    def corrupt_prompt(self, prompt: Prompt) -> Prompt:
        """The prompt, its label flipped or not, as the hash of its id says."""
        letter = self.choose(prompt, wrong_letters(prompt)) if self.u(prompt) < self.rate else None
        return relabel(prompt, letter) if letter else prompt

    def choose(self, prompt: Prompt, wrong: list[str]) -> str | None:
        """Which letter instead, as a rule one of the wrong ones; None leaves the label as it is."""
        raise NotImplementedError

    @property
    def reward(self) -> str:
        """A wrong label misjudges answers."""
        return "accuracy"

    def flipped(self, options: int) -> float:
        """The share of labels that become wrong."""
        return self.rate

    def youden_j(self, options: int = 4) -> float:
        """1 - q C / (C - 1) for a share q of wrong labels: q right answers unpaid, q / (C - 1) wrong ones paid."""
        return 1.0 if self.drop else 1 - self.flipped(options) * options / (options - 1)


@dataclass(frozen=True)
class Symmetric(LabelNoise):
    """A wrong label, each other option as likely (Angluin and Laird 1988, doi:10.1007/BF00116829).

    J = 1 - rate C / (C - 1).
    """

    def choose(self, prompt: Prompt, wrong: list[str]) -> str | None:
        return pick(uniform_hash(self.seed, "symmetric", prompt.id, "to"), wrong)


@dataclass(frozen=True)
class Confusable(LabelNoise):
    """The wrong option that reads most like the right one, by the cosine of their embeddings (ours).

    A cosine from `alike` on counts as the same meaning, and the flip goes to the next option, or nowhere. The default
    is high on purpose: all-MiniLM-L6-v2 gives "open the left drawer" and "open the right drawer" 0.96, and "pick up the
    cup" and "take the cup" 0.81, so a lower one would refuse opposites before paraphrases.
    """

    alike: float = 0.97
    encoder: str = DEFAULT  # or a sentence-transformers folder or hub id

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """The options' embeddings, once `prompts` has asked for them."""
        return {}

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """As above; the options of those whose labels are to be flipped are embedded together."""
        texts = sorted({text for prompt in prompts if self.u(prompt) < self.rate for text in prompt.options})
        self.vectors.update(zip(texts, embed(texts, self.encoder), strict=True))
        return super().corrupt_prompts(prompts)

    def choose(self, prompt: Prompt, wrong: list[str]) -> str | None:
        said = dict(zip(LETTERS, prompt.options, strict=False))
        truth = self.vectors[said[prompt.answer or ""]]
        cosine = {letter: round(float(truth @ self.vectors[said[letter]]), 3) for letter in wrong}
        other = [letter for letter in wrong if cosine[letter] < self.alike]
        return min(other, key=lambda letter: (-cosine[letter], said[letter])) if other else None


@dataclass(frozen=True)
class ClassDependent(LabelNoise):
    """Only labels `of` one letter are flipped, or all go `to` one letter, or both (ours: an annotator's favourite)."""

    of: str = ""
    to: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, letter in (("of", self.of), ("to", self.to)):
            if letter and letter not in tuple(LETTERS):
                raise ValueError(f"{name} must be a letter from A to Z, not {letter!r}")
        if self.of == self.to:
            raise ValueError("name the letter that labels are flipped `of`, `to`, or two different ones")

    def choose(self, prompt: Prompt, wrong: list[str]) -> str | None:
        if self.of not in ("", prompt.answer):
            return None
        if self.to:
            return self.to if self.to in wrong else None
        return pick(uniform_hash(self.seed, "class_dependent", prompt.id, "to"), wrong)

    def flipped(self, options: int) -> float:
        """All labels of one letter, or all but those of one letter."""
        return self.rate * (1 if self.of else options - 1) / options


@dataclass(frozen=True)
class Unproducible(LabelNoise):
    """The letter after the last option's, so that no answer is paid: OLR's inactive noise (arXiv:2604.03993)."""

    def choose(self, prompt: Prompt, wrong: list[str]) -> str | None:
        return chr(ord("A") + len(prompt.options))

    def youden_j(self, options: int = 4) -> float:
        """1 - rate: right answers go unpaid, and no wrong one is paid."""
        return 1.0 if self.drop else 1 - self.rate


def meaning(text: str) -> tuple[list[str], list[str]]:
    """Dictionary forms of the words, in order, and the particles, which may stand anywhere ("put the cup down")."""
    from simplemma import lemmatize

    parted = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", text)  # hyphens within words, no minus
    lemmas = [lemmatize(word, lang="en").casefold() for word in plain_words(parted)]
    return [w for w in lemmas if w not in PARTICLES], sorted(w for w in lemmas if w in PARTICLES)


def wrong_letters(prompt: Prompt) -> list[str]:
    """The options that a flip may go to: none in the same words as the right one, whatever their inflection.

    Nor does it matter where a particle stands: "put down the cup", "puts the cup down". Other orders do: "from the sink
    to the table". What is not caught is other words for the same, "pick up the cup" and "take the cup": `confusable`
    measures those by embeddings, which is no proof either. A label that is not truly wrong tests nothing: Zhu and Kang
    2026 (arXiv:2603.16140) found much "noisy" data clean.
    """
    options = dict(zip(LETTERS, prompt.options, strict=False))
    if prompt.answer not in options:
        raise UserError(f"sample {prompt.id} has no right option, so its label cannot be flipped")
    truth = options[prompt.answer]
    wrong = [letter for letter, text in options.items() if meaning(text) != meaning(truth)]
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


LABELS: dict[str, type[Noise]] = {
    "symmetric": Symmetric,
    "confusable": Confusable,
    "class_dependent": ClassDependent,
    "unproducible": Unproducible,
}
