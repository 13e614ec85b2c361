"""Compare short texts, such as answer options, regardless of case, white space and punctuation; suggest names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

ARTICLES = ("a", "an", "the")
MAX_LISTED = 30  # an error message lists so many of the known names


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: the nearest one, or a short list of all.

    >>> suggest("grop", ["grpo", "sft"])
    " Did you mean 'grpo'?"
    >>> suggest("x", ["grpo", "sft"])
    ' Known: grpo, sft.'
    """
    known = sorted(known)
    if nearest := get_close_matches(word, known, n=1):
        return f" Did you mean {nearest[0]!r}?"
    rest = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
    return f" Known: {', '.join(known[:MAX_LISTED]) or 'none'}{rest}."


def same_text(first: str, second: str) -> bool:
    """Return whether two texts are equal apart from case and white space.

    >>> same_text("Open  tap", "open tap")
    True
    """
    return first.casefold().split() == second.casefold().split()


def plain_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without articles and without punctuation around words.

    A text that holds nothing else keeps its articles.

    >>> plain_words("Open the tap.")
    ['open', 'tap']
    >>> plain_words("A")
    ['a']
    """
    stripped = [word.strip(".,;:!?\"'`*_()[]") for word in text.casefold().split()]
    return [word for word in stripped if word not in ("", *ARTICLES)] or stripped
