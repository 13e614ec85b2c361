"""The mix of rewards: named columns, weights, and what is refused."""

from dataclasses import dataclass

import pytest

from rlvid.config import Plugin
from rlvid.errors import UserError
from rlvid.reward import RewardMix, each
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
    totals = RewardMix({"length": length, "only_long": only_long}, {"length": 0.5, "only_long": 2.0})(asked)
    assert totals == [[0.5, 3.5], [0.5, 3.5]]
    assert asked[0]["only_long"] == [None, 1.0] and asked[1]["length"] == [1.0, 3.0]


def test_a_mix_is_built_from_the_config():
    mix = RewardMix.build([Plugin("accuracy"), Plugin("format", 0.2, {"partial": True})])
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
        RewardMix({"mine": reward}, {"mine": 1.0})(groups())


@dataclass(frozen=True)
class Reads:
    """Twice another column; 10 less where it says so."""

    column: str = "length"
    needs: frozenset = frozenset({"column:length"})

    def __call__(self, groups):
        return [[2 * v for v in group[self.column]] for group in groups]


def test_a_column_that_is_read_is_computed_first_with_no_weight_of_its_own():
    made = groups()
    mix = RewardMix(
        {"double": Reads("format", frozenset({"column:format"})), "length": length}, {"double": 1.0, "length": 1.0}
    )
    assert list(mix.rewards).index("format") < list(mix.rewards).index("double")
    assert mix.weights == {"format": 0.0, "double": 1.0, "length": 1.0} and mix.evidence == []
    mix(made)
    assert [2 * v for v in made[0]["format"]] == made[0]["double"]


def test_noise_comes_before_whoever_reads_the_column():
    made = groups()

    def spoil(column, groups):
        for group in groups:
            group.columns[column] = [v + 100 if column == "length" else v for v in group[column]]

    RewardMix({"double": Reads(), "length": length}, {"double": 1.0})(made, spoil)
    assert made[0]["length"][0] > 100 and made[0]["double"][0] == 2 * made[0]["length"][0]


def test_needs_that_cannot_be_met_are_refused_before_the_first_step():
    circle = {"a": Reads("b", frozenset({"column:b"})), "b": Reads("a", frozenset({"column:a"}))}
    with pytest.raises(UserError, match=r"columns in a circle: (a -> b -> a|b -> a -> b)"):
        RewardMix(circle, {})
    with pytest.raises(
        UserError, match=r"reward 'x' needs 'view:shufled', which is no evidence\. Did you mean 'view:shuffled'"
    ):
        RewardMix({"x": Reads(needs=frozenset({"view:shufled"}))}, {})
    with pytest.raises(UserError, match=r"no reward 'acuracy'\. Did you mean 'accuracy'"):
        RewardMix({"x": Reads(needs=frozenset({"column:acuracy"}))}, {})


def test_an_aid_fades():
    mix = RewardMix.build([Plugin("accuracy"), Plugin("format", 0.2, {}, anneal=10.0)])
    prompt = Prompt("q", "?", ("up", "down"), "B")
    right = [Group(prompt, [Completion("<think>x</think><answer>B</answer>")])]
    assert mix.at(0) == {"accuracy": 1.0, "format": 0.2} and mix(right) == [[1.2]]
    assert mix(right, step=10) == [[pytest.approx(1 + 0.2 * 0.36787944)]]
