"""Label noise: wrong answers in the training data, the same in every step, for every algorithm and completion."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rlvid.answer import LETTERS
from rlvid.errors import UserError
from rlvid.judges.encoder import DEFAULT_ENCODER, embed
from rlvid.noise.base import Noise, check_rates, pick_at
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.utils.text import plain_words

PARTICLES = {"away", "back", "down", "in", "off", "on", "out", "over", "up"}
# The words of every question of SEED-Bench-R1, besides the goal: they name no option.
QUESTION_FORM = (
    "Considering the progress shown in the video and my current observation shown in the image, "
    "what action should I take next in order to"
)


@dataclass(frozen=True)
class LabelNoise(Noise):
    """With probability `rate` a label becomes a letter that the kind chooses; with `drop` such samples are left out."""

    rate: float = 0.0
    drop: bool = False  # an oracle that knows every wrong label, as a control arm

    def __post_init__(self) -> None:
        check_rates(rate=self.rate)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the training prompts with noisy labels; with `drop`, without those whose label changed."""
        noisy = [self.corrupt_prompt(prompt) for prompt in prompts]
        if not self.drop:
            return noisy
        return [after for before, after in zip(prompts, noisy, strict=True) if after.answer == before.answer]

    def corrupt_prompt(self, prompt: Prompt) -> Prompt:
        """Return the prompt, with another label if its threshold is below the rate."""
        if self.corruption_threshold(prompt) >= self.rate:
            return prompt
        letter = self.choose_letter(prompt, wrong_letters(prompt))
        return relabel(prompt, letter) if letter else prompt

    def choose_letter(self, prompt: Prompt, wrong: list[str]) -> str | None:
        """Return the new label, or None to keep the true one.

        Args:
            prompt: the prompt with its true label.
            wrong: the letters of its wrong options.
        """
        raise NotImplementedError

    @property
    def noisy_reward(self) -> str:
        """The accuracy reward, which compares answers with the label."""
        return "accuracy"

    @property
    def errs_for_whole_groups(self) -> bool:
        """Whether any label is wrong."""
        return self.rate > 0 and not self.drop

    def flip_rate(self, num_options: int) -> float:
        """Return the expected share of labels that become wrong."""
        return self.rate

    def youden_j(self, num_options: int = 4) -> float:
        """1 - q C / (C - 1) for a share q of wrong labels and C options.

        A share q of right answers is not paid, and a share q / (C - 1) of wrong answers is. With `drop` J is 1.
        """
        return 1.0 if self.drop else 1 - self.flip_rate(num_options) * num_options / (num_options - 1)


@dataclass(frozen=True)
class Symmetric(LabelNoise):
    """A wrong label, each other option as likely (Angluin and Laird 1988, doi:10.1007/BF00116829).

    J = 1 - rate C / (C - 1) for C options.
    """

    def choose_letter(self, prompt: Prompt, wrong: list[str]) -> str | None:
        return pick_at(uniform_hash(self.seed, "symmetric", prompt.id, "to"), wrong)


@dataclass(frozen=True)
class Confusable(LabelNoise):
    """The wrong option whose text is most similar to the right one, by the cosine of their embeddings (ours).

    A cosine of `alike` or more counts as the same meaning: the label flips to the next option, or not at all. The
    default is high on purpose. all-MiniLM-L6-v2 gives "open the left drawer" and "open the right drawer" 0.96, but
    "pick up the cup" and "take the cup" 0.81, so that a lower limit would exclude opposites before paraphrases.
    """

    alike: float = 0.97
    encoder: str = DEFAULT_ENCODER  # or a sentence-transformers folder or hub id

    @cached_property
    def embeddings(self) -> dict[str, np.ndarray]:
        """Option text -> its embedding of length 1; `corrupt_prompts` fills it."""
        return {}

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Embed the options of all prompts to be flipped in one batch, then flip the labels."""
        to_flip = [prompt for prompt in prompts if self.corruption_threshold(prompt) < self.rate]
        texts = sorted({text for prompt in to_flip for text in prompt.options})
        self.embeddings.update(zip(texts, embed(texts, self.encoder), strict=True))
        return super().corrupt_prompts(prompts)

    def choose_letter(self, prompt: Prompt, wrong: list[str]) -> str | None:
        option_texts = dict(zip(LETTERS, prompt.options, strict=False))
        truth = self.embeddings[option_texts[prompt.answer or ""]]
        cosines = {letter: round(float(truth @ self.embeddings[option_texts[letter]]), 3) for letter in wrong}
        unlike = [letter for letter in wrong if cosines[letter] < self.alike]
        if not unlike:
            return None
        return min(unlike, key=lambda letter: (-cosines[letter], option_texts[letter]))  # a tie: in alphabetic order


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

    def choose_letter(self, prompt: Prompt, wrong: list[str]) -> str | None:
        if self.of not in ("", prompt.answer):
            return None
        if self.to:
            return self.to if self.to in wrong else None
        return pick_at(uniform_hash(self.seed, "class_dependent", prompt.id, "to"), wrong)

    def flip_rate(self, num_options: int) -> float:
        """`rate` times the share of labels that can flip: those of one letter, or all but those of one letter."""
        return self.rate * (1 if self.of else num_options - 1) / num_options


@dataclass(frozen=True)
class FirstNamed(LabelNoise):
    """The option that the question names first, if it is wrong; ours, after arXiv:2012.05458.

    An annotator who reads the goal and skips the video errs so. It is instance-dependent noise: all wrong labels follow
    one rule, so they do not average out, and a policy that answers by the rule is paid for it. In the kitchen the
    option is the first step of the recipe. A label stays where this option is right, or where the question names none
    (`first_named`).

    `drop_suspects` leaves out every sample whose label is then the option named first, right or wrong: a filter that
    knows the rule, and no label, as adversarial filters leave out what a shortcut predicts (arXiv:2002.04108).

    J = 1 - rate for any number of options, if the option named first is right as often as any other.
    """

    drop_suspects: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drop and self.drop_suspects:
            raise ValueError("drop leaves out wrong labels and drop_suspects more than these: set one of the two")

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the training prompts with noisy labels; with `drop` or `drop_suspects`, without some of them."""
        noisy = super().corrupt_prompts(prompts)
        return [prompt for prompt in noisy if prompt.answer != first_named(prompt)] if self.drop_suspects else noisy

    def choose_letter(self, prompt: Prompt, wrong: list[str]) -> str | None:
        letter = first_named(prompt)
        return letter if letter in wrong else None

    @property
    def errs_for_whole_groups(self) -> bool:
        """Whether any label is wrong."""
        return super().errs_for_whole_groups and not self.drop_suspects

    def flip_rate(self, num_options: int) -> float:
        """`rate` times the share of labels that are not the option named first."""
        return self.rate * (num_options - 1) / num_options

    def youden_j(self, num_options: int = 4) -> float:
        """1 - rate: a share rate (C - 1) / C of right answers is not paid. With `drop` or `drop_suspects` J is 1."""
        return 1.0 if self.drop_suspects else super().youden_j(num_options)


@dataclass(frozen=True)
class Unproducible(LabelNoise):
    """The letter after the last option's, so that no answer is paid: OLR's inactive noise (arXiv:2604.03993)."""

    def choose_letter(self, prompt: Prompt, wrong: list[str]) -> str | None:
        return chr(ord("A") + len(prompt.options))

    def youden_j(self, num_options: int = 4) -> float:
        """1 - rate: right answers are not paid, and wrong ones are not either. With `drop` J is 1."""
        return 1.0 if self.drop else 1 - self.rate


def meaning(text: str) -> tuple[list[str], list[str]]:
    """Return the dictionary forms of a text's words in their order, and its sorted particles.

    The particles are separate because they may stand anywhere: "put down the cup", "put the cup down".
    """
    from simplemma import lemmatize

    split = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", text)  # hyphens within words, but no minus signs
    lemmas = [lemmatize(word, lang="en").casefold() for word in plain_words(split)]
    return [w for w in lemmas if w not in PARTICLES], sorted(w for w in lemmas if w in PARTICLES)


def first_named(prompt: Prompt) -> str | None:
    """Return the letter of the option that the question names first, or None if it names no option.

    A word names an option if no other option has it, in its dictionary form. Words of `QUESTION_FORM` name none.

    >>> options = ("put the corn in the pot", "put the beet in the pot")
    >>> first_named(Prompt("1", "What should I do next in order to make a soup of beet, then corn?", options))
    'B'
    """
    words = [set(meaning(option)[0]) for option in prompt.options]
    counts = Counter(word for option in words for word in option)
    form = set(meaning(QUESTION_FORM)[0])
    naming = (word for word in meaning(prompt.question)[0] if counts[word] == 1 and word not in form)
    first = next(naming, None)
    return None if first is None else LETTERS[[first in option for option in words].index(True)]


def wrong_letters(prompt: Prompt) -> list[str]:
    """Return the letters of the options to which a label may flip: those whose words differ from the right option's.

    Inflection and the position of particles make no difference: "put down the cup", "puts the cup down". Word order
    does: "from the sink to the table". Other words for the same thing are not recognised: "pick up the cup" and "take
    the cup". `confusable` compares those by embeddings, which is no proof either. A label that is not truly wrong tests
    nothing: Zhu and Kang 2026 (arXiv:2603.16140) found much "noisy" data clean.

    Raises UserError if the prompt has no right option, or no wrong one.
    """
    options = dict(zip(LETTERS, prompt.options, strict=False))
    if prompt.answer not in options:
        raise UserError(f"sample {prompt.id} has no right option, so its label cannot be flipped")
    truth = options[prompt.answer]
    wrong = [letter for letter, text in options.items() if meaning(text) != meaning(truth)]
    if not wrong:
        raise UserError(f"sample {prompt.id}: every option means {truth!r}, so its label cannot be flipped")
    return wrong


def relabel(prompt: Prompt, letter: str) -> Prompt:
    """Return the prompt with another label; the clean one is in `meta["clean_answer"]`, for diagnostics only.

    The `<answer>` of a demonstration becomes the new letter. Its reasoning stays: this is a wrong label, not a wrong
    argument.
    """
    demonstration = prompt.demonstration and re.sub(
        "<answer>.*?</answer>", f"<answer>{letter}</answer>", prompt.demonstration, flags=re.DOTALL
    )
    meta = {**prompt.meta, "clean_answer": prompt.answer}
    return replace(prompt, answer=letter, demonstration=demonstration, meta=meta)


LABEL_NOISES: dict[str, type[Noise]] = {
    "symmetric": Symmetric,
    "confusable": Confusable,
    "class_dependent": ClassDependent,
    "first_named": FirstNamed,
    "unproducible": Unproducible,
}
