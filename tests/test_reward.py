"""The mix of rewards: named columns, weights, and what is refused."""

import pytest

from rlvid.config import Plugin
from rlvid.errors import UserError
from rlvid.reward import Mix, each
from rlvid.types import Completion, Group, Prompt


@each
def length(completion, prompt):
    return len(completion.text)


@each
def only_long(completion, prompt):
    return 1.0 if len(completion.text) > 2 else None


def groups():
    return [Group(Prompt(i, "?"), [Completion("a"), Completion("abc")]) for i in ("one", "two")]


def test_totals_are_weighted_and_none_adds_nothing():
    asked = groups()
    totals = Mix({"length": length, "only_long": only_long}, {"length": 0.5, "only_long": 2.0})(asked)
    assert totals == [[0.5, 3.5], [0.5, 3.5]]
    assert asked[0]["only_long"] == [None, 1.0] and asked[1]["length"] == [1.0, 3.0]


def test_a_mix_is_built_from_the_config():
    mix = Mix.build([Plugin("accuracy"), Plugin("format", 0.2, {"partial": True})])
    assert mix.weights == {"accuracy": 1.0, "format": 0.2}
    prompt = Prompt("q", "?", ("up", "down"), "B")
    assert mix([Group(prompt, [Completion("<think>x</think><answer>B</answer>")])]) == [[1.2]]


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (lambda groups: [[1.0, 1.0]], "returned 1 rows for 2 groups"),
        (lambda groups: [[1.0], [1.0]], "returned 1 numbers for the 2 completions of one"),
        (lambda groups: [[1.0, 1.0], [1.0, float("nan")]], "returned nan for a completion of sample two"),
        (lambda groups: [[float("inf"), 1.0], [1.0, 1.0]], "returned inf for a completion of sample one"),
    ],
)
def test_a_column_of_the_wrong_form_names_reward_and_sample(reward, says):
    with pytest.raises(UserError, match=says):
        Mix({"mine": reward}, {"mine": 1.0})(groups())


def test_a_need_that_nobody_meets_is_refused_before_the_first_step():
    length.needs = frozenset({"ref_logps"})
    try:
        with pytest.raises(UserError, match="needs ref_logps"):
            Mix({"length": length}, {"length": 1.0})
    finally:
        del length.needs
