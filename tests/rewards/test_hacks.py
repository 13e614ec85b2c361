"""What rewards pay for tricks: the table in rewards/README.md is what is computed here, and its bold cells are known.

python -m pytest tests/test_hacks.py -s    # shows the table
"""

import re

import pytest

from rlvid.types import Completion
from tests.helpers import hacks
from tests.helpers.reward_audit import PAID, hack_table
from tests.helpers.tables import README, rows


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    """The table as it comes out today."""
    text = hack_table()
    print(f"\n{text}")
    return rows(text)


def number(cell: str) -> float:
    """A cell without its emphasis."""
    return float(cell.strip("*"))


def paid(table: dict[str, list[str]], trick: str, column: str) -> float:
    """One cell."""
    return number(table[trick][1 + list(PAID).index(column)])


def test_there_are_many_tricks_in_prose_for_every_question() -> None:
    texts = [text for replies in hacks.HACKS.values() for _, text in replies]
    assert len(texts) == len({*texts}) >= 60
    assert min(len(replies) for replies in hacks.HACKS.values()) >= 5
    assert {name for replies in [*hacks.HACKS.values(), hacks.HONEST] for name, _ in replies} == {*hacks.PROMPTS}


def test_all_answers_are_right_unless_the_answer_is_the_trick() -> None:
    for trick, replies in {**hacks.HACKS, "honest": hacks.HONEST}.items():
        right = [g.prompt.answer == c.answer for g in hacks.groups(replies) for c in g]
        assert all(right) or trick in ("several answers", "play with the tags"), trick


def test_repeated_words_are_repeated_tokens() -> None:
    assert hacks.completion("so it is so it is").tokens == (3, 4, 5, 3, 4, 5)
    assert isinstance(hacks.completion(""), Completion)


def test_the_readmes_table_is_this_one(table: dict[str, list[str]]) -> None:
    shown = rows(README.read_text())
    for trick, cells in table.items():
        if trick not in ("replies", "---"):
            assert list(map(number, shown[trick])) == pytest.approx(list(map(number, cells)), abs=0.02), trick


def test_what_is_stopped_stays_stopped(table: dict[str, list[str]]) -> None:
    meaning, words = "consistency_ embedding", "grounding_ narrations"
    honest = {column: paid(table, "honest", column) for column in PAID}
    for trick in ("empty reasoning", "therefore the answer is B", "conclude another option", "speak to the judge"):
        assert paid(table, trick, meaning) < honest[meaning] / 2, trick
    for trick in ("parrot the question", "enumerate the options", "assert the option", "make up what happened", "pad"):
        assert paid(table, trick, words) < honest[words] / 5, trick
        assert paid(table, trick, "the same, by embedding") < honest["the same, by embedding"] / 5, trick
    assert paid(table, "several answers", "accuracy") == paid(table, "play with the tags", "format") == 0
    assert paid(table, "pad", "repetition") < -0.5


def test_what_gets_through_is_bold_in_the_readme() -> None:
    shown = rows(README.read_text())
    place = 1 + list(PAID).index("consistency_ embedding")
    bold = {trick for trick, cells in shown.items() if trick in hacks.HACKS and re.match(r"\*\*", cells[place])}
    assert bold == {"assert the option", "make up what happened", "deny the option"}
