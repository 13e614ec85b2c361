"""Comparison of short texts."""

import pytest

from rlvid.utils.text import plain_words


@pytest.mark.parametrize("text", ["Open the tap.", "open tap", " open  a 'tap' ", "OPEN THE TAP!"])
def test_texts_with_the_same_words(text):
    assert plain_words(text) == ["open", "tap"]


@pytest.mark.parametrize(("one", "other"), [("A", "the"), ("1.5 cups", "15 cups"), ("turn on", "turn off"), ("?", "")])
def test_texts_with_different_words(one, other):
    assert plain_words(one) != plain_words(other)
