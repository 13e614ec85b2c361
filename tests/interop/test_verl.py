"""rlvid's rewards in the forms of verl and EasyR1, as these call them."""

import inspect
import json

import numpy as np
import pytest

from rlvid.errors import UserError
from rlvid.interop import easyr1
from rlvid.interop.trl import from_trl
from rlvid.interop.verl import compute_score
from rlvid.types import Completion, Group, Prompt

OPTIONS = ["open tap", "close tap"]


def test_compute_score_takes_what_verl_passes():
    """NaiveRewardManager passes four keywords; `extra_info` comes from a parquet file, and verl adds to it."""
    info = {"options": np.array(OPTIONS), "num_turns": None, "rollout_reward_scores": {}}
    for reply, truth, expected in [
        ("<think>it runs</think><answer>B</answer>", "B", 1.0),
        ("<answer>close tap</answer>", "close tap", 1.0),
        ("<answer>A</answer>", "B", 0.0),
    ]:
        arguments = {"data_source": "sbr1", "solution_str": reply, "ground_truth": truth, "extra_info": info}
        assert compute_score(**arguments) == expected
    assert compute_score("d", "<think>x</think> <answer>B</answer>", "B", info, reward="format") == 1.0
    assert list(inspect.signature(compute_score).parameters)[:4] == [
        "data_source",
        "solution_str",
        "ground_truth",
        "extra_info",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"extra_info": {"choices": OPTIONS}}, "needs options .* in extra_info, which has: choices, answer"),
        ({"ground_truth": "E", "extra_info": {"options": OPTIONS}}, "names none of the options"),
        ({"reward": "consistency_likelihood"}, "needs .*, which only rlvid's own loop provides"),
        ({"reward": "grounding_tiou", "extra_info": {"span": None}}, "does not apply to this sample"),
        ({"reward": "acuracy"}, "Did you mean 'accuracy'"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, words):
    given = {"solution_str": "<answer>1 to 2</answer>", "ground_truth": "A", **arguments}
    with pytest.raises(UserError, match=words):
        compute_score("d", **given)


def test_a_reward_that_compares_replies_is_refused(tmp_path):
    (tmp_path / "group.py").write_text("def group(groups):\n    return [[float(len(g)) for _ in g] for g in groups]\n")
    with pytest.raises(UserError, match="compares the replies of a group"):
        compute_score("d", "<answer>A</answer>", "A", {"options": OPTIONS}, reward=f"{tmp_path}/group.py:group")


def test_a_reward_that_applies_to_the_sample_but_not_to_a_reply_adds_nothing(tmp_path):
    """Such as the reward of the README, which reads the thought: a reply without one must not end verl's run."""
    text = "from rlvid.reward import each\n@each\ndef thought(completion, prompt):\n"
    text += "    return None if completion.thought is None else 1.0\n"
    (tmp_path / "thought.py").write_text(text)
    name = f"{tmp_path}/thought.py:thought"
    scores = [compute_score("d", reply, "A", {"options": OPTIONS}, reward=name) for reply in ("<think>x</think>", "A")]
    assert scores == [1.0, 0.0]
    inputs = [{"response": "A", "response_length": 1, "ground_truth": "A"}]
    assert easyr1.compute_score(inputs, {"format": 1.0, name: 0.5}) == [{"overall": 0.0, "format": 0.0, name: 0.0}]


def test_easyr1_scores_a_batch_and_logs_every_reward():
    """Its batch manager calls compute_score(list of dicts, **kwargs) and logs each key."""
    assert (easyr1.REWARD_NAME, easyr1.REWARD_TYPE) == ("rlvid", "batch")
    truth = json.dumps({"answer": "close tap", "options": OPTIONS})
    inputs = [
        {"response": "<think>x</think><answer>close tap</answer>", "response_length": 9, "ground_truth": truth},
        {"response": "<answer>B</answer>", "response_length": 3, "ground_truth": "B"},
        {"response": "<answer>C</answer>", "response_length": 3, "ground_truth": "B"},
    ]
    scores = easyr1.compute_score(inputs, weights={"accuracy": 1.0, "format": 0.5})
    assert [score["accuracy"] for score in scores] == [1.0, 1.0, 0.0]
    assert [score["overall"] for score in scores] == [1.5, 1.0, 0.0]
    assert [one["overall"] for one in easyr1.compute_score(inputs)] == [1.0, 1.0, 0.0]
    with pytest.raises(UserError, match="scores a batch"):
        easyr1.compute_score(inputs[0])


def test_entries_of_meta_are_columns_of_a_trl_function():
    received = {}

    def reward(completions, difficulty, **columns):
        received.update(columns, difficulty=difficulty)
        return [0.0] * len(completions)

    prompts = [Prompt("q", "Which?", meta={"difficulty": 3}), Prompt("r", "Which?", meta={"tag": "x"})]
    from_trl(reward)([Group(prompt, [Completion("a")]) for prompt in prompts])
    assert received["difficulty"] == [3, None] and received["tag"] == [None, "x"] and received["id"] == ["q", "r"]
