"""What rewards pay for tricks: the table in rewards/README.md is reproduced here, and its bold cells are known.

python -m pytest tests/rewards/test_hacks.py -s    # prints the table
"""

import re

import pytest

from rlvid.probes.trick_replies import TrickSet, completion, next_steps, other_domains
from rlvid.types import Completion
from tests.helpers.reward_audit import HACK_COLUMNS, hack_table
from tests.helpers.tables import README, rows


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    """The table as computed now."""
    text = hack_table()
    print(f"\n{text}")
    return rows(text)


def to_number(cell: str) -> float:
    """Return the number of a cell, without its emphasis."""
    return float(cell.strip("*"))


def mean_reward(table: dict[str, list[str]], trick: str, column: str) -> float:
    """Return one cell of the table."""
    return to_number(table[trick][1 + list(HACK_COLUMNS).index(column)])


@pytest.mark.parametrize("tricks", [next_steps(), other_domains()], ids=["next steps", "other domains"])
def test_there_are_many_tricks_in_prose_for_every_question(tricks: TrickSet) -> None:
    texts = [text for replies in tricks.tricks.values() for _, text in replies]
    assert len(texts) == len({*texts}) == 78
    assert {len(replies) for replies in tricks.tricks.values()} == {6} and len(tricks.honest) == 8
    assert tricks.replies.keys() == next_steps().replies.keys()
    assert {name for replies in tricks.replies.values() for name, _ in replies} == {*tricks.prompts}


@pytest.mark.parametrize("tricks", [next_steps(), other_domains()], ids=["next steps", "other domains"])
def test_all_answers_are_right_unless_the_answer_is_the_trick(tricks: TrickSet) -> None:
    for trick, replies in tricks.replies.items():
        right = [group.prompt.answer == c.answer for group in tricks.groups(replies) for c in group]
        assert all(right) or trick in ("several answers", "misuse the tags"), trick


def test_repeated_words_are_repeated_tokens() -> None:
    assert completion("so it is so it is").tokens == (3, 4, 5, 3, 4, 5)
    assert isinstance(completion(""), Completion)


def test_the_table_in_the_readme_is_reproduced(table: dict[str, list[str]]) -> None:
    shown = rows(README.read_text())
    for trick, cells in table.items():
        if trick not in ("replies", "---"):
            computed = list(map(to_number, cells))  # without the last columns, which need a model
            assert list(map(to_number, shown[trick][: len(cells)])) == pytest.approx(computed, abs=0.02), trick


def test_tricks_that_earn_little_still_earn_little(table: dict[str, list[str]]) -> None:
    embedding = "consistency_ embedding"
    narrations = "grounding_ narrations", "grounding_ narrations, embedding"
    honest = {column: mean_reward(table, "honest", column) for column in HACK_COLUMNS}
    for trick in ("empty reasoning", "therefore the answer is B", "conclude another option", "address the judge"):
        assert mean_reward(table, trick, embedding) < honest[embedding] / 2, trick
    ungrounded = "repeat the question", "enumerate the options", "assert the option", "invent what happened"
    for trick in (*ungrounded, "pad the thought"):
        for column in narrations:
            assert mean_reward(table, trick, column) < honest[column] / 5, trick
    assert mean_reward(table, "several answers", "accuracy") == 0
    assert mean_reward(table, "misuse the tags", "format") == 0
    assert mean_reward(table, "pad the thought", "repetition") < -0.5


def test_tricks_that_earn_as_much_as_honesty_are_bold_in_the_readme() -> None:
    shown = rows(README.read_text())
    index = 1 + list(HACK_COLUMNS).index("consistency_ embedding")
    bold = {trick for trick, cells in shown.items() if trick in next_steps().tricks and re.match(r"\*\*", cells[index])}
    assert bold == {"assert the option", "invent what happened", "deny the option"}
