"""RewardMix: named columns, weights, the order of computation, and what it refuses."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rlvid.config import Plugin
from rlvid.errors import UserError
from rlvid.reward import RewardMix, each
from rlvid.trainer.records import GroupRecord
from rlvid.types import Completion, Group, Prompt

pytestmark = pytest.mark.fast


@each
def length(completion, prompt):
    return len(completion.text)


@each
def only_long(completion, prompt):
    return 1.0 if len(completion.text) > 2 else None


def two_groups():
    return [Group(Prompt(name, "?"), [Completion("a"), Completion("abc")]) for name in ("one", "two")]


def group_with_a_right_reply():
    prompt = Prompt("q", "?", ("up", "down"), "B")
    return Group(prompt, [Completion("<think>x</think><answer>B</answer>")])


def test_totals_are_weighted_and_none_adds_nothing():
    groups = two_groups()
    totals = RewardMix({"length": length, "only_long": only_long}, {"length": 0.5, "only_long": 2.0})(groups)
    assert totals == [[0.5, 3.5], [0.5, 3.5]]
    assert groups[0]["only_long"] == [None, 1.0] and groups[1]["length"] == [1.0, 3.0]


def test_a_mix_is_built_from_the_config():
    mix = RewardMix.build([Plugin("accuracy"), Plugin("format", 0.2, {"partial": True})])
    assert mix.weights == {"accuracy": 1.0, "format": 0.2}
    assert mix([group_with_a_right_reply()]) == [[1.2]]


@pytest.mark.parametrize(
    "row",
    [np.array([0.5, 1.0], dtype=np.float32), torch.tensor([0.5, 1.0]), [np.float32(0.5), True], (0.5, 1)],
    ids=["array", "tensor", "numbers of numpy and truth values", "tuple"],
)
def test_rows_of_any_numbers_become_lists_that_json_can_hold(row):
    groups = two_groups()
    assert RewardMix({"mine": lambda groups: [row] * 2}, {"mine": 2.0})(groups) == [[1.0, 2.0]] * 2
    record = GroupRecord.of(0, groups[0], [1.0, 2.0])
    assert json.dumps(record.to_row()["columns"]) == '{"mine": [0.5, 1.0]}'


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda groups: [[1.0, 1.0]], "returned 1 rows for 2 groups"),
        (lambda groups: [[1.0], [1.0]], "returned 1 numbers for the 2 completions of sample one"),
        (lambda groups: [[1.0, 1.0], [1.0, float("nan")]], "returned nan for a completion of sample two"),
        (lambda groups: [[float("inf"), 1.0], [1.0, 1.0]], "returned inf for a completion of sample one"),
    ],
)
def test_a_malformed_column_is_refused_with_the_reward_and_the_sample(reward, message):
    with pytest.raises(UserError, match=message):
        RewardMix({"mine": reward}, {"mine": 1.0})(two_groups())


@dataclass(frozen=True)
class Twice:
    """Twice the numbers of another column."""

    column: str = "length"
    needs: frozenset = frozenset({"column:length"})

    def __call__(self, groups):
        return [[2 * value for value in group[self.column]] for group in groups]


def test_a_column_that_is_read_is_computed_first_with_weight_0():
    groups = two_groups()
    twice_format = Twice("format", frozenset({"column:format"}))
    mix = RewardMix({"double": twice_format, "length": length}, {"double": 1.0, "length": 1.0})
    assert list(mix.rewards).index("format") < list(mix.rewards).index("double")
    assert mix.weights == {"format": 0.0, "double": 1.0, "length": 1.0} and mix.required_evidence == []
    mix(groups)
    assert [2 * value for value in groups[0]["format"]] == groups[0]["double"]


def test_noise_changes_a_column_before_another_reward_reads_it():
    groups = two_groups()

    def corrupt(column, groups):
        for group in groups:
            group.columns[column] = [v + 100 if column == "length" else v for v in group[column]]

    RewardMix({"double": Twice(), "length": length}, {"double": 1.0})(groups, corrupt)
    assert groups[0]["length"][0] > 100 and groups[0]["double"][0] == 2 * groups[0]["length"][0]


def test_columns_that_cannot_be_computed_are_refused_before_the_first_step():
    circle = {"a": Twice("b", frozenset({"column:b"})), "b": Twice("a", frozenset({"column:a"}))}
    with pytest.raises(UserError, match=r"columns in a circle: (a -> b -> a|b -> a -> b)"):
        RewardMix(circle, {})
    with pytest.raises(UserError, match=r"no reward 'acuracy'\. Did you mean 'accuracy'"):
        RewardMix({"x": Twice(needs=frozenset({"column:acuracy"}))}, {})


def test_evidence_needs_are_collected_and_text_only_rewards_leave_them_out():
    mix = RewardMix({"needy": Twice(needs=frozenset({"view:shuffled", "column:length"})), "length": length}, {})
    assert mix.required_evidence == ["view:shuffled"] and mix.needs["needy"] == {"view:shuffled"}
    groups = two_groups()
    mix.score_text_only(groups)
    assert list(groups[0].columns) == ["length"]


def test_a_weight_with_anneal_fades():
    mix = RewardMix.build([Plugin("accuracy"), Plugin("format", 0.2, {}, anneal=10.0)])
    groups = [group_with_a_right_reply()]
    assert mix.weights_at(0) == {"accuracy": 1.0, "format": 0.2} and mix(groups) == [[1.2]]
    assert mix(groups, step=10) == [[pytest.approx(1 + 0.2 * 0.36787944)]]


def test_a_measure_has_weight_0_and_replaces_the_reward_of_its_name():
    mix = RewardMix.build([Plugin("accuracy"), Plugin("format", 0.2)])
    measures = mix.with_measures([Plugin("length"), Plugin("format", fields={"partial": True})])
    assert measures.weights == {"accuracy": 1.0, "format": 0.2, "length": 0.0}
    assert "partial" in str(measures.rewards["format"]) and "partial" not in str(mix.rewards["format"])
