"""The parsers of lmms-eval 0.7.3 (github.com/EvolvingLMMs-Lab/lmms-eval, MIT), written again.

`python -m rlvid.bench.lmms_eval` compares them with lmms-eval's own code on the same replies. Where lmms-eval draws a
random letter without a seed, the letter here is a hash of the reply and the options, so that it is the same each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rlvid.answer import LETTERS
from rlvid.utils.hashing import uniform_hash

Parser = Callable[[str, Sequence[str]], "str | None"]

THINK_TAGS = (("<think>", "</think>"), ("<thinking>", "</thinking>"))
PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
ANSWERS = ("The best answer is", "The correct answer is", "The answer is", "The answer")
UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
NUMBER_WORDS = {word: value for value, word in enumerate(UNITS)} | {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
NUMBER_WORDS |= {"hundred": 100, "thousand": 1000}


def shared(parser: Parser) -> Parser:
    """Return a parser of what lmms-eval passes on: the reply without its reasoning. Answer tags stay in the text."""

    def read(reply: str, options: Sequence[str]) -> str | None:
        return parser(without_reasoning(reply), options)

    return read


def without_reasoning(reply: str) -> str:
    """Return a reply without `<think>` and `<thinking>` blocks, as lmms-eval's filter does by default."""
    for start, end in THINK_TAGS:
        while start in reply and end in reply:
            first = reply.find(start)
            last = reply.find(end, first)
            if last == -1:
                break
            reply = reply[:first] + reply[last + len(end) :]
        if end in reply and start not in reply:
            reply = reply.rsplit(end, 1)[-1]
    return reply.strip()


def random_letter(reply: str, options: Sequence[str]) -> str:
    """Return a letter that depends on the reply and the options alone."""
    return LETTERS[int(uniform_hash("letter", reply, *options) * len(options))]


def ranked_letter(reply: str, options: Sequence[str]) -> str | None:
    """Return the letter in the best form, and among equal forms the last one (`_task_utils/mcq_extract.py`)."""
    text = reply.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "
    letters = LETTERS[: len(options)]
    found: list[tuple[int, int, str]] = []  # (rank of the form, position, letter)
    for form, rank in (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2)):
        found += [(rank, at, a) for a in letters if (at := text.rfind(form.format(a))) != -1]
    for phrase in PHRASES:
        if (start := text.lower().find(phrase)) != -1:
            found += [(7, at, a) for a in letters if (at := text.find(a, start + len(phrase))) != -1]
    for a in letters:
        if bare.startswith(a) and not bare[1:2].isalpha():
            found.append((10, 0, a))
        if bare.endswith(a) and (len(bare) == 1 or not bare[-2].isalpha()):
            found.append((9, len(text) - 1, a))
    if not found:
        found = [(0, text.rfind(a), a) for a in letters if a in text]
    return max(found, key=lambda item: item[:2])[2] if found else None


def mmmu_letter(reply: str, options: Sequence[str]) -> str:
    """Return the last letter in brackets, else before a space, else before a period, else an option's text.

    A reply without any of these gets a random letter (`video_holmes/utils.py`, from MMMU).
    """
    for mark in ",.!?;:'":
        reply = reply.strip(mark)
    text, letters = f" {reply} ", LETTERS[: len(options)]
    for form, last in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        if named := [a for a in letters if form.format(a) in text]:
            return max(named, key=lambda a: text.rfind(last.format(a)))
    lower = text.lower()
    quoted = [a for a, option in zip(letters, options, strict=True) if option.lower() in lower]
    if quoted and len(text.split()) > 5:
        return max(quoted, key=lambda a: lower.rfind(options[LETTERS.index(a)].lower()))
    return random_letter(reply, options)


def first_letter(reply: str, options: Sequence[str]) -> str:
    """Return the first capital A to E, else a random letter (`longvideobench/utils.py`)."""
    more = ("The best option is", "The correct option is", "Best answer:", "Best option:")
    return _first_of("ABCDE", reply, (*ANSWERS, *more)) or random_letter(reply, options)


def first_letter_or_none(reply: str, options: Sequence[str]) -> str | None:
    """Return the first capital A to D (`egoplan/utils.py`)."""
    return _first_of("ABCD", reply, ANSWERS)


def _first_of(letters: str, reply: str, phrases: Sequence[str]) -> str | None:
    for phrase in phrases:
        reply = reply.replace(phrase, "")
    match = re.search(f"[{letters}]", reply)
    return match[0] if match else None


def first_word(reply: str, options: Sequence[str]) -> str:
    """Return the first word without a period, in capitals (`vsibench/utils.py`). Tags are part of a word."""
    return reply.split(" ")[0].rstrip(".").strip().upper()


def mvbench_letter(reply: str, options: Sequence[str]) -> str | None:
    """Return a letter A to E that stands alone, in any case, after punctuation is removed (`mvbench/utils.py`)."""
    if match := re.match(r"([A-E])\.\s*(.+)$", reply.strip(), re.IGNORECASE):
        return match[1].upper()
    text = reply.replace("\n", " ").replace("\t", " ").strip()
    out = text
    digits = re.search(r"(\d)(\,)(\d)", text) is not None
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        out = out.replace(mark, "" if f"{mark} " in text or f" {mark}" in text or digits else " ")
    out = re.sub(r"(?!<=\d)(\.)(?!\d)", "", out, count=int(re.UNICODE))  # so it stands there: the flag is the count
    out = out.strip("'").strip('"').strip(")").strip("(").strip().lower()
    match = re.search(r"\b([A-E])\b", out, re.IGNORECASE)
    return match[1].upper() if match else None


def tempcompass_letter(reply: str, options: Sequence[str]) -> str | None:
    """Return the letter of a reply "A", "A. ..", "A) .." (`tempcompass/utils.py`); lmms-eval asks a judge otherwise."""
    return reply[0] if re.match(r"[A-D](?:[.)]|\Z)", reply) else None


def mmvu_letter(reply: str, options: Sequence[str]) -> str | None:
    """Return the first letter A to E that stands alone, in any case (`mmvu/utils.py`, its first rule).

    lmms-eval also counts a reply as right if the right letter stands anywhere, or if it holds the right option's text.
    """
    match = re.search(r"\b([A-E])\b", reply, re.IGNORECASE)
    return match[1].upper() if match else None


def first_number(text: str) -> float | None:
    """Return the first number, in digits or English words (`vsibench/utils.py`).

    >>> first_number("one apple, room 2"), first_number("three hundred and twenty-one"), first_number("none")
    (1.0, 321.0, None)
    """
    text = text.strip().lower()
    digits = re.search(r"-?\d+(?:\.\d+)?", text)
    start, words = None, []
    for match in re.finditer(r"[a-z]+", text):
        if match[0] in NUMBER_WORDS:
            start = match.start() if start is None else start
            words.append(NUMBER_WORDS[match[0]])
        elif start is not None and match[0] != "and":
            break
    if digits and (start is None or digits.start() < start):
        return float(digits[0])
    if start is None:
        return None
    total = current = 0
    for value in words:
        if value == 1000:
            total, current = total + max(current, 1) * 1000, 0
        else:
            current = max(current, 1) * 100 if value == 100 else current + value
    return float(total + current)
