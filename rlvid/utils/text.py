"""Compare short texts, such as answer options, regardless of case, white space and punctuation."""

from __future__ import annotations

ARTICLES = ("a", "an", "the")


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
