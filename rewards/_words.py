"""Shared by rewards that read texts: words, sentences, clauses, and the overlap of two sequences."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import eq
from typing import TypeVar

T = TypeVar("T")

# Words that name neither an action nor a thing.
_FUNCTION_WORDS = frozenset(
    "a an the this that these those it its he she they his her their i we you my our your and or but so "  # noqa: SIM905
    "then than of in on at to into onto from with by for as be have do will would can could should may might must "
    "not no there here what which who when where now".split()
)


@lru_cache(maxsize=65536)
def _lemma(word: str) -> str:
    from simplemma import lemmatize

    return lemmatize(word, lang="en").casefold()


def lemmas(text: str) -> list[str]:
    """Return the dictionary forms of a text's content words, in order.

    >>> lemmas("She took the onions")
    ['take', 'onion']
    """
    words = re.findall(r"[a-z]+|\d+", text.casefold())
    return [lemma for lemma in map(_lemma, words) if lemma not in _FUNCTION_WORDS]


def answer_words(text: str) -> list[str]:
    """Return the dictionary forms of a text's words in any script, in order; only English articles are left out.

    >>> answer_words("Do not open the tap")
    ['do', 'not', 'open', 'tap']
    """
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return [_lemma(word) for word in words if word not in ("a", "an", "the")]


def common_length(a: Sequence[T], b: Sequence[T], same: Callable[[T, T], bool] = eq) -> int:
    """Return the length of the longest common subsequence of `a` and `b`.

    >>> common_length("fridge", "bridge")
    5
    """
    best = [0] * (len(b) + 1)  # best[j]: the result for the items of `a` seen so far and b[:j]
    for x in a:
        previous = best
        best = [0]
        for j, y in enumerate(b):
            best.append(max(previous[j + 1], best[j], previous[j] + bool(same(x, y))))
    return best[-1]


def ordered_f1(a: Sequence[T], b: Sequence[T], same: Callable[[T, T], bool] = eq) -> float:
    """Return 2 * common_length(a, b) / (len(a) + len(b)), from 0 to 1; ROUGE-L's F1 (Lin 2004) on any items.

    >>> ordered_f1(["take", "onion"], ["wash", "take", "onion"])
    0.8
    """
    return 2 * common_length(a, b, same) / (len(a) + len(b)) if a and b else 0.0


def count_missing(a: Sequence[T], b: Sequence[T], same: Callable[[T, T], bool] = eq) -> int:
    """Return how many items of `a` do not occur in `b`, in any order."""
    return sum(not any(same(x, y) for y in b) for x in a)


def answer_text(text: str) -> str | None:
    """Return the text of the only answer block, or None: for answers that are not an option."""
    blocks = re.findall(r"<answer>(.*?)</answer>", text, re.S)
    return blocks[0].strip() if len(blocks) == 1 else None


def sentences(text: str) -> list[str]:
    """Split a text after full stops, question marks and exclamation marks, and at line ends."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def clauses(text: str) -> list[str]:
    """Split a text at punctuation and before "then" and "and"."""
    parts = re.split(r"[.,;:!?\n]+|\b(?:and then|then|and)\b", text, flags=re.IGNORECASE)
    return [part.strip() for part in parts if part.strip()]
