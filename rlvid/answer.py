"""The one form of question and the one parser of replies; every reward and every evaluation uses these."""

from __future__ import annotations

import re
from collections.abc import Sequence

# SEED-Bench-R1's own wording (TencentARC/SEED-Bench-R1, grpo.py and infer.py).
REQUEST = (
    "Output the thinking process in <think> </think> and final answer in <answer> </answer> tags, "
    "i.e., <think> reasoning process here </think><answer> answer here </answer>. "
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_TAG = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
_ONE_ANSWER = re.compile(r"(?:(?:</?think>)*</think>)?<answer></answer>")  # tags alone: all reasoning is over before it
_LETTERED = re.compile(r"[(\[*]*([a-z])\b[)\]*.:]*\s*(.*)")  # "(b)", "b.", "b**: open tap"


def ask(question: str, options: Sequence[str]) -> str:
    """The user's text: the question, one lettered line per option, the request for tags."""
    lines = [question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))]
    return "\n".join(lines) + "\n " + REQUEST


def thought(text: str) -> str | None:
    """The stripped text of the only `<think>` block, or None."""
    if text.count("<think>") != 1 or text.count("</think>") != 1:
        return None
    found = re.search(r"<think>(.*)</think>", text, re.DOTALL)
    return found[1].strip() if found else None


def parse(text: str, options: Sequence[str]) -> str | None:
    """The letter of the one option that `text` answers with, or None.

    The answer is the only `<answer>` block, and no think tag stands open before it or at all after it. A reply
    without reasoning may still answer: whether it should have reasoned is `rewards/format.py`'s question. Tags are
    lower-case, as requested; one in another case spoils the reply, as a second block does.

    The block names an option by its letter, bare or decorated ("B", "b.", "(B)", "**B**"), by its full text, or by
    both where they agree ("B. open tap"). Case, white space, a closing period, quotes and emphasis do not count.
    Anything else is prose and names nothing: "Answer: B", "A or B", "A cup is empty", "Add oil". So do a letter
    beyond the options and a look-alike (Cyrillic, full-width). Where the readings name two options, because two
    have the same text or one's text is another's letter, the answer is None.

    >>> parse("<think>The tap runs.</think><answer>B. close tap</answer>", ("open tap", "close tap"))
    'B'
    """
    if not _ONE_ANSWER.fullmatch("".join(_TAG.findall(text))):
        return None
    said = _plain(text.partition("<answer>")[2].partition("</answer>")[0])
    named = [letter for letter, option in zip(LETTERS, options, strict=False) if _names(said, letter, option)]
    return named[0] if said and len(named) == 1 else None


def _names(said: str, letter: str, option: str) -> bool:
    """Whether plain words are this option's text, its letter, or its letter and then its text."""
    text = _plain(option)
    lettered = _LETTERED.fullmatch(said)
    return said == text or bool(lettered and lettered[1] == letter.lower() and _plain(lettered[2]) in ("", text))


def _plain(text: str) -> str:
    """Lower case, single spaces, no quotes or emphasis around it, no period at its end."""
    return " ".join(text.casefold().split()).lstrip("*_`\"' ").rstrip("*_`\"' .")
