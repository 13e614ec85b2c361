"""What rewards that read texts share: words, sentences, clauses, and how much two sequences have in common."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import eq
from typing import TypeVar

T = TypeVar("T")

# Words that name no action and no thing.
_FUNCTION = (
    " a an the this that these those it its he she they his her their i we you my our your and or but so then than of "
    "in on at to into onto from with by for as be have do will would can could should may might must not no there here "
    "what which who when where now "
)


@lru_cache(maxsize=65536)
def _lemma(word: str) -> str:
    from simplemma import lemmatize

    return lemmatize(word, lang="en").casefold()


def lemmas(text: str) -> list[str]:
    """The dictionary forms of a text's content words, in order: "She took the onions" -> ["take", "onion"]."""
    found = (_lemma(word) for word in re.findall(r"[a-z]+|\d+", text.casefold()))
    return [lemma for lemma in found if f" {lemma} " not in _FUNCTION]


def common(a: Sequence[T], b: Sequence[T], same: Callable[[T, T], bool] = eq) -> int:
    """The length of the longest common subsequence: how many things of `a` stand in `b`, too, in the same order."""
    longest = [0] * (len(b) + 1)
    for x in a:
        reached = (max(kept, before + same(x, y)) for kept, before, y in zip(longest[1:], longest, b, strict=False))
        longest = [*accumulate(reached, max, initial=0)]
    return longest[-1]


def ordered_f1(a: Sequence[T], b: Sequence[T], same: Callable[[T, T], bool] = eq) -> float:
    """2 common / (len(a) + len(b)), from 0 to 1: ROUGE-L's F (Lin 2004) on whatever the sequences hold."""
    return 2 * common(a, b, same) / (len(a) + len(b)) if a and b else 0.0


def strays(a: Sequence[T], b: Sequence[T], same: Callable[[T, T], bool] = eq) -> int:
    """How many things of `a` stand nowhere in `b`, in whatever order."""
    return sum(not any(same(x, y) for y in b) for x in a)


def answered(text: str) -> str | None:
    """What stands in the one answer block, or None: for answers that are not an option."""
    said = re.findall(r"<answer>(.*?)</answer>", text, re.S)
    return said[0].strip() if len(said) == 1 else None


def sentences(text: str) -> list[str]:
    """A text cut after full stops, question and exclamation marks, and at line ends."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def clauses(text: str) -> list[str]:
    """A text cut at punctuation and before "then" and "and"."""
    parts = re.split(r"[.,;:!?\n]+|\b(?:and then|then|and)\b", text, flags=re.IGNORECASE)
    return [part.strip() for part in parts if part.strip()]
