"""The form of a question and the parser of replies. Every reward and every evaluation uses these.

LETTERS: the letters of the options, in order. A question has at most 26. TAG: the tags of a reply, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import copysign, inf
from struct import pack, unpack

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# The wording of SEED-Bench-R1 (TencentARC/SEED-Bench-R1, grpo.py and infer.py).
INSTRUCTION = (
    "Output the thinking process in <think> </think> and final answer in <answer> </answer> tags, "
    "i.e., <think> reasoning process here </think><answer> answer here </answer>. "
)

TAG = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)

# The tags of a reply with one answer, everything else removed: optional reasoning, which has ended before the answer.
# A `</think>` may come without a `<think>`, because a chat template may open the reasoning.
_ONE_ANSWER = re.compile(r"(?:(?:</?think>)*</think>)?<answer></answer>")

# An answer in a reply with two of them: in tags, or as VideoAuto-R1's \boxed{..}, with one level of inner braces.
_MARK = r"(?:<answer>(?:(?!</?answer>).)*</answer>|\\boxed\{(?:[^{}]|\{[^{}]*\})*\})"
ANSWER_MARK = re.compile(_MARK, re.DOTALL)
_TWO_ANSWERS = re.compile(rf"\s*{_MARK}\s*<think>(?P<thought>(?:(?!</?think>).)*)</think>\s*{_MARK}\s*", re.DOTALL)

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")

# A letter, with brackets or emphasis around it, and the text after it: "(b)", "b.", "b**: open tap".
_LETTER_AND_TEXT = re.compile(r"[(\[*]*([a-z])\b[)\]*.:]*\s*(.*)")


def format_question(question: str, options: Sequence[str]) -> str:
    """Return the text part of a prompt: the question, one lettered line per option, and the instruction on tags."""
    lines = [question]
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join(lines) + "\n " + INSTRUCTION


def extract_thought(text: str) -> str | None:
    """Return the stripped text of the only `<think>` block, or None if there is no block or more than one."""
    if text.count("<think>") != 1 or text.count("</think>") != 1:
        return None
    match = re.search(r"<think>(.*)</think>", text, re.DOTALL)
    return match[1].strip() if match else None


def parse(text: str, options: Sequence[str]) -> str | None:
    """Return the letter of the one option that a reply answers with, or None.

    The answer is the text of the only `<answer>` block. Reasoning must have ended before it: no `<think>` is open
    before the block, and no think tag follows it. A reply without reasoning is accepted here (`rewards/format.py`
    checks the form). Tags are lower-case; a tag in another case, like a second block, makes the reply invalid.

    The block may name an option by its letter, bare or decorated ("B", "b.", "(B)", "**B**"), by its full text, or by
    both if they agree ("B. open tap"). Case, white space, a final period, quotes and emphasis are ignored. Any other
    text names no option: "Answer: B", "A or B", "A cup is empty", "Add oil". A letter beyond the options and a
    look-alike letter (Cyrillic, full-width) name no option either. If the block names two options, because two options
    have the same text or one option's text is the letter of another, the result is None.

    >>> options = ("open tap", "close tap")
    >>> parse("<think>The tap runs.</think><answer>B. close tap</answer>", options)
    'B'
    >>> parse("<answer>close tap</answer>", options)
    'B'
    >>> print(parse("<answer>A or B</answer>", options))
    None
    """
    return option_letter(block(text) or "", options)


def option_letter(answer: str, options: Sequence[str]) -> str | None:
    """Return the letter of the one option that the text of an answer names, or None; see `parse`."""
    answer = _normalize(answer)
    named = [letter for letter, option in zip(LETTERS, options, strict=False) if _names(answer, letter, option)]
    return named[0] if answer and len(named) == 1 else None


def two_answers(text: str) -> tuple[str | None, str | None]:
    """Return the texts of the answers before and after the reasoning of a reply with two answers (VideoAuto-R1).

    An answer is `<answer>..</answer>` or `\\boxed{..}`. The first is the only one before the first `<think>`, the
    second the only one after the last `</think>`; None where there is none, or several. A reply without these tags has
    the same text before and after them, so its only answer is both.

    >>> two_answers("<answer>A</answer><think>The tap runs.</think><answer>B</answer>")
    ('A', 'B')
    """
    before, after = text.partition("<think>")[0], text.rpartition("</think>")[2]
    first, second = (ANSWER_MARK.findall(part) for part in (before, after))
    return (
        inside(first[0]) if len(first) == 1 else None,
        inside(second[0]) if len(second) == 1 else None,
    )


def inside(mark: str) -> str:
    """Return the text of an answer without its tags or its box."""
    return mark.removeprefix("<answer>").removesuffix("</answer>") if mark[0] == "<" else mark[len("\\boxed{") : -1]


def has_two_answers(text: str) -> bool:
    """Return whether a reply is an answer, one thought that is not empty, an answer, and nothing else."""
    match = _TWO_ANSWERS.fullmatch(text)
    return bool(match and match["thought"].strip())


def block(text: str) -> str | None:
    """Return the text of the only `<answer>` block, or None where `parse` would read no answer for its tags."""
    if not _ONE_ANSWER.fullmatch("".join(TAG.findall(text))):
        return None
    return text.partition("<answer>")[2].partition("</answer>")[0]


def parse_number(text: str) -> float | None:
    """Return a text that is one number as a float, or None. Commas between digits, as in "1,000", are removed.

    >>> parse_number(" 1,234.5 "), parse_number("3 m"), parse_number("nan")
    (1234.5, None, None)
    """
    plain = text.strip().replace(",", "")
    return float(plain) if _NUMBER.fullmatch(plain) else None


def mean_relative_accuracy(number: float, gold: float, inequality: str = "<=") -> float:
    """Return the mean relative accuracy (MRA) of a number, as VSI-Bench defines it (arXiv:2412.14171), from 0 to 1.

    It is the share of the thresholds 0.5, 0.55, .., 0.95 for which the relative error is within 1 - threshold. Video-R1
    requires `error < 1 - threshold` in single precision, lmms-eval `error <= 1 - threshold` in double precision; both
    are computed as their code does, so that rounding falls on the same side.

    Args:
        number: the answer.
        gold: the true number.
        inequality: "<" for Video-R1's, "<=" for lmms-eval's.

    >>> mean_relative_accuracy(7.5, 10, "<"), mean_relative_accuracy(7.5, 10, "<=")
    (0.5, 0.6)
    """
    if inequality == "<":
        error = _single(_single(abs(_single(number) - _single(gold))) / _single(abs(_single(gold)) + _single(1e-8)))
        return sum(error < _single(1 - _single(0.5 + 0.05 * i)) for i in range(10)) / 10
    if gold == 0:  # lmms-eval divides by zero here
        return float(number == 0)
    error = abs(number - gold) / abs(gold)
    return sum(error <= 1 - (i * ((0.95 - 0.5) / 9) + 0.5) for i in range(10)) / 10


def _single(value: float) -> float:
    """Return a number rounded to single precision; one that is too large for it is infinite."""
    try:
        return float(unpack("f", pack("f", value))[0])
    except OverflowError:
        return copysign(inf, value)


def _names(answer: str, letter: str, option: str) -> bool:
    """Whether a normalized answer is the text of this option, its letter, or its letter followed by its text."""
    option_text = _normalize(option)
    if answer == option_text:
        return True
    match = _LETTER_AND_TEXT.fullmatch(answer)
    if match is None or match[1] != letter.lower():
        return False
    return _normalize(match[2]) in ("", option_text)


def _normalize(text: str) -> str:
    """Lower-case a text, collapse white space, and remove surrounding quotes and emphasis and a final period."""
    collapsed = " ".join(text.casefold().split())
    return collapsed.lstrip("*_`\"' ").rstrip("*_`\"' .")
