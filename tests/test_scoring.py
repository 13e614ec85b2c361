"""Rewards in a unit test: `@each` functions score one completion, `score` computes any reward without a model."""

import json
import re
from pathlib import Path

import pytest

import rewards
from rewards.grounding_temporal import GroundingTemporal
from rewards.repetition import repetition
from rlvid import Completion, Group, Prompt, UserError, each, score

QUESTION = Prompt("q1", "Which?", options=("a pan", "a cup"), answer="B", video="clip.mp4")
RIGHT, WRONG = "<think>a cup</think><answer>B</answer>", "<think>a pan</think><answer>a pan</answer>"


def test_a_function_under_each_scores_one_completion_and_groups_alike():
    monotone = Completion("", tokens=(0,) * 6)
    assert repetition(monotone, QUESTION) == repetition([Group(QUESTION, [monotone])])[0][0] == -0.75
    assert repetition(monotone, QUESTION, n=6) == 0

    @each
    def letter(completion, prompt, *, bonus=1.0):
        return bonus * "AB".index(completion.answer) if completion.answer else None

    assert letter(RIGHT, QUESTION, bonus=2) == 2.0 and letter("", QUESTION) is None
    assert letter(WRONG, QUESTION) == 0.0, "an answer's text is parsed against the prompt's options"
    assert letter([Group(QUESTION, [Completion(RIGHT), Completion("")])]) == [[1.0, None]]


def test_score_computes_columns_and_takes_views_evidence_and_options_in_one_line():
    assert score("accuracy", QUESTION, [RIGHT, Completion(WRONG)]) == [1.0, 0.0]
    assert score("grounding_temporal", QUESTION, [RIGHT, WRONG], views={"shuffled": [WRONG] * 2}) == [0.3, 0.0]
    assert score("grounding_temporal", QUESTION, [RIGHT], views={"shuffled": [RIGHT]}, margin=True) == [0.0]
    assert score(GroundingTemporal, QUESTION, [RIGHT], views={"shuffled": [WRONG]}, bonus=0.5) == [0.5]
    assert score(GroundingTemporal(bonus=0.7), QUESTION, [RIGHT], views={"shuffled": [WRONG]}) == [0.7]
    assert score("soft_accuracy", QUESTION, [RIGHT], evidence={"answer_probs": [(0.25, 0.75)]}) == [0.75]
    assert score(repetition, QUESTION, [Completion("", tokens=(0,) * 4)]) == [-0.5]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("grounding_temporal", "needs evidence 'view:shuffled': pass views={'shuffled': [texts]}"),
        ("soft_accuracy", "needs evidence 'answer_probs': pass evidence={'answer_probs': [...]}"),
        ("consistency_judge", "needs evidence 'judge': pass evidence={'judge': lambda prompts: [...]}"),
        ("acuracy", "Did you mean 'accuracy'?"),
    ],
)
def test_evidence_that_is_missing_is_named_with_the_argument_that_hands_it_in(reward, message):
    with pytest.raises(UserError, match=re.escape(message)):
        score(reward, QUESTION, [RIGHT])


def test_the_unit_tests_in_the_readme_pass(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (Path(rewards.__path__[0]) / "README.md").read_text(), re.S)
    (reward, *_), (test, shown) = blocks[:1], [block for block in blocks if "question = Prompt(" in block]
    (tmp_path / "my_reward.py").write_text(reward)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {}
    exec(test, names)
    names["test_my_reward"]()
    exec(shown, names)
    for call, value in re.findall(r"^(score\(.*\))  # (.*)$", shown, re.M):
        assert eval(call, names) == eval(value), call
    assert len(re.findall(r"^score\(", shown, re.M)) == 4


@pytest.mark.parametrize("one", [RIGHT, Completion(RIGHT)])
def test_one_reply_instead_of_a_list_is_refused(one):
    """The letters of a text would be scored as completions."""
    with pytest.raises(UserError, match="put it into brackets"):
        score("accuracy", QUESTION, one)
    with pytest.raises(UserError, match="put it into brackets"):
        score("grounding_temporal", QUESTION, [RIGHT], views={"shuffled": one})


def test_the_numbers_of_an_array_or_a_tensor_can_be_saved():
    import numpy as np
    import torch

    for column in (np.ones((1, 2), np.float32), torch.ones(1, 2), [[np.float32(1), True]]):
        values = score(lambda groups, column=column: column, QUESTION, [RIGHT, WRONG])
        assert json.dumps(values) in ("[1.0, 1.0]", "[1.0, true]")
