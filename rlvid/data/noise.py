"""Wrong labels as a property of the data set: whether a label is flipped depends on its sample's id alone.

So the noisy labels are the same for every algorithm, worker, order and resumed run, and those of a lower rate are among
those of a higher one. A kind of noise is a function (prompt, rate, seed) -> prompt, listed in `KINDS`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from rlvid.answer import LETTERS
from rlvid.errors import UserError
from rlvid.resolve import suggest
from rlvid.types import Prompt


def hash01(*parts: object) -> float:
    """A number in [0, 1) that the parts alone decide, everywhere and for ever."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def same(one: str, other: str) -> bool:
    """Whether two option texts are equal but for case and white space."""
    return one.casefold().split() == other.casefold().split()


def symmetric(prompt: Prompt, rate: float, seed: int) -> Prompt:
    """With probability `rate` the label becomes one of the wrong options, each as likely."""
    if hash01(seed, "symmetric", prompt.id) >= rate:
        return prompt
    wrong = wrong_letters(prompt)
    return relabel(prompt, wrong[int(hash01(seed, "symmetric", prompt.id, "to") * len(wrong))])


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


KINDS: dict[str, Callable[[Prompt, float, int], Prompt]] = {"symmetric": symmetric}


def corrupt(prompts: Iterable[Prompt], kind: str, rate: float, seed: int) -> tuple[list[Prompt], list[dict[str, Any]]]:
    """The training prompts under noise, and the manifest: one row for each label that changed.

    A row's `u` is the sample's own hash: the label is wrong at every rate above it. Evaluation prompts are refused.
    """
    if kind not in KINDS:
        raise UserError(f"no kind of noise {kind!r}.{suggest(kind, KINDS)}")
    if not 0 <= rate <= 1:
        raise UserError(f"noise.rate must be in [0, 1], not {rate}")
    noisy: list[Prompt] = []
    manifest: list[dict[str, Any]] = []
    for prompt in prompts:
        if prompt.level != "train":
            raise UserError(f"noise is for training data only, but sample {prompt.id} is of level {prompt.level!r}")
        noisy.append(changed := KINDS[kind](prompt, rate, seed))
        if changed.answer != prompt.answer:
            u = hash01(seed, kind, prompt.id)
            manifest.append({"id": prompt.id, "clean": prompt.answer, "noisy": changed.answer, "kind": kind, "u": u})
    return noisy, manifest
