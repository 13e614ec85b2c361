"""From a reply to the letter that it answers with, in each of the ways that published code does it.

The same reply can be right in one and wrong in another: `rlvid audit` shows the accuracy under each, side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlvid.answer import LETTERS, block, option_letter, parse, two_answers
from rlvid.protocols import harness

_FIRST_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@dataclass(frozen=True)
class Extraction:
    """A way to read a letter from a reply: `(reply, options) -> letter or None`."""

    read: Callable[[str, Sequence[str]], str | None]
    text: str


def extract(name: str, reply: str, options: Sequence[str]) -> str | None:
    """Return the letter that a reply answers with, or None; a letter beyond the options is None."""
    letter = EXTRACTIONS[name].read(reply, options) if options else None
    return letter if letter in tuple(LETTERS[: len(options)]) else None


def lenient(reply: str, options: Sequence[str]) -> str | None:
    """Return the first letter that stands alone after the last `<answer>`, or without that tag the last one."""
    _, tag, after = reply.rpartition("<answer>")  # without the tag, `after` is the whole reply
    letters = re.findall(rf"\b[{LETTERS[: max(8, len(options))]}]\b", after)
    return letters[0 if tag else -1] if letters else None


def first_character(reply: str, options: Sequence[str]) -> str | None:
    """Return the first character of the first `<answer>` block: SEED-Bench-R1's, so "Add oil" is A and "(B)" nothing.

    The published code asks math-verify first. It reads no expression in a gold letter, so that it never decides.
    """
    match = _FIRST_BLOCK.search(reply)
    return match[1].strip()[:1] if match else None


def last_of_two(reply: str, options: Sequence[str]) -> str | None:
    """Return the letter of the answer after the reasoning, in tags or a box; without reasoning, of the only one."""
    return option_letter(two_answers(reply)[1] or "", options)


def whole_block(reply: str, options: Sequence[str]) -> str | None:
    """Return the first `<answer>` block, or without one the whole reply: Video-R1's, so "B." names no option."""
    return _video_r1_text(reply)


def number_of(name: str, reply: str) -> str | None:
    """Return the text of the number that a reply answers with, for `rlvid.answer.parse_number`, or None."""
    if name == "video_r1":
        return _video_r1_text(reply)
    if name == "lmms_eval":
        number = harness.first_number(harness.without_reasoning(reply))
        return None if number is None else repr(number)
    return block(reply)


def text_of(name: str, reply: str) -> str | None:
    """Return the text that a reply to a free-form question answers with, or None; `name` as in `number_of`."""
    return harness.without_reasoning(reply).strip() if name == "lmms_eval" else number_of(name, reply)


def _video_r1_text(reply: str) -> str:
    match = _FIRST_BLOCK.search(reply)
    return (match[1].strip() if match else "") or reply.strip()


EXTRACTIONS: dict[str, Extraction] = {
    "strict": Extraction(parse, "the only <answer> block names one option by letter, text or both (rlvid.answer)"),
    "lenient": Extraction(lenient, "the first lone letter after the last <answer>, without that tag the last one"),
    "seed_bench_r1": Extraction(first_character, "the first character of the first <answer> block"),
    "video_r1": Extraction(whole_block, "the first <answer> block is the letter and nothing else; GRPO-CARE's too"),
    "two_answers": Extraction(last_of_two, "the only <answer> or \\boxed{} after the reasoning names one option"),
    "lmms_eval": Extraction(
        harness.shared(harness.ranked_letter), "lmms-eval's shared parser: letters in ten forms, ranked (videomme)"
    ),
    "lmms_eval_random": Extraction(
        harness.shared(harness.mmmu_letter), "lmms-eval's MMMU parser: no letter found is a random one (video_holmes)"
    ),
    "lmms_eval_first": Extraction(
        harness.shared(harness.first_letter), "the first capital A to E, else a random letter (longvideobench)"
    ),
    "lmms_eval_egoplan": Extraction(
        harness.shared(harness.first_letter_or_none), "the first capital A to D (egoplan, egoplan2)"
    ),
    "lmms_eval_vsibench": Extraction(harness.shared(harness.first_word), "the first word (vsibench)"),
    "lmms_eval_mvbench": Extraction(harness.shared(harness.mvbench_letter), "a letter A to E standing alone (mvbench)"),
    "lmms_eval_tempcompass": Extraction(
        harness.shared(harness.tempcompass_letter),
        "the reply begins with A. or A), or is A; else lmms-eval asks a judge",
    ),
    "lmms_eval_mmvu": Extraction(
        harness.shared(harness.mmvu_letter), "the first lone letter A to E in any case; lmms-eval accepts more (mmvu)"
    ),
}
SHOWN = ("strict", "lenient", "seed_bench_r1", "video_r1", "lmms_eval", "lmms_eval_random")  # side by side in a table
