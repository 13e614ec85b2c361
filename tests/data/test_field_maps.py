"""Field maps: narrations, and a file of questions that has no map."""

import json

import pytest

from rlvid.data import benchmark
from rlvid.errors import UserError

MAP = """
layout = "multiple_choice"
path = "q.jsonl"
question = "question"
options = "candidates"
answer = "answer"
"""
RECORD = {"question": "What opens?", "candidates": ["a door", "a tap"], "answer": "a tap"}


@pytest.fixture
def narrations(tmp_path):
    """A function that returns the narrations of a record, with a map that names the field "told"."""

    def read(told, line='narrations = "told"'):
        (tmp_path / "mine.toml").write_text(MAP + line)
        (tmp_path / "q.jsonl").write_text(json.dumps(RECORD | told))
        [[prompt]] = benchmark.load_levels(str(tmp_path / "mine.toml")).values()
        return prompt.narrations

    return read


def test_a_field_holds_narrations_as_a_text_or_a_list_of_texts(narrations):
    assert narrations({"told": "opens a tap"}) == ("opens a tap",)
    assert narrations({"told": ["opens a tap", "fills a jar"]}) == ("opens a tap", "fills a jar")
    assert narrations({"told": "opens a tap"}, "") == (), "without a map"


@pytest.mark.parametrize("wrong", [{}, {"told": 3}, {"told": ["opens a tap", 3]}, {"told": None}])
def test_wrong_narrations_are_named(narrations, wrong):
    with pytest.raises(UserError, match=r"q\.jsonl.*told"):
        narrations(wrong)


def test_a_file_of_questions_without_a_map_is_told_from_a_missing_folder(tmp_path):
    (tmp_path / "qa.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"qa\.jsonl: a file of questions needs a TOML map of its fields"):
        benchmark.load_levels(str(tmp_path / "qa.jsonl"))
