"""The form of a question and the parser of replies. Every reward and every evaluation uses these.

LETTERS: the letters of the options, in order. A question has at most 26. TAG: the tags of a reply, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    tags_only = "".join(TAG.findall(text))
    if not _ONE_ANSWER.fullmatch(tags_only):
        return None
    block = _normalize(text.partition("<answer>")[2].partition("</answer>")[0])
    named = [letter for letter, option in zip(LETTERS, options, strict=False) if _names(block, letter, option)]
    return named[0] if block and len(named) == 1 else None


def _names(block: str, letter: str, option: str) -> bool:
    """Whether a normalized answer is the text of this option, its letter, or its letter followed by its text."""
    option_text = _normalize(option)
    if block == option_text:
        return True
    match = _LETTER_AND_TEXT.fullmatch(block)
    if match is None or match[1] != letter.lower():
        return False
    return _normalize(match[2]) in ("", option_text)


def _normalize(text: str) -> str:
    """Lower-case a text, collapse white space, and remove surrounding quotes and emphasis and a final period."""
    collapsed = " ".join(text.casefold().split())
    return collapsed.lstrip("*_`\"' ").rstrip("*_`\"' .")
