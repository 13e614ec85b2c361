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
    """The letter of the one option that `text` answers with, or None."""
    raise NotImplementedError
