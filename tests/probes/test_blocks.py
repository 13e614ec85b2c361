"""The parts of a probe against numbers computed by hand, and its tables against the documents."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import rlvid.probes
from rlvid.api.listing import list_names
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.probes import search
from rlvid.probes.counterfactuals import draw_twin, judge_counterfactuals
from rlvid.probes.edits import TAG_EDITS, THOUGHT_EDITS, edited, split_sentences
from rlvid.probes.false_alarms import Alarms, rates
from rlvid.probes.groups import HEAVIER, advantage_shares, measure_groups, rescue
from rlvid.probes.information import judge_information, measure_information
from rlvid.probes.render import report, rescue_text, value_parts
from rlvid.probes.replies import shipped_replies, split_options
from rlvid.probes.result import FAIL, PASS, Block, Finding, ProbeResult
from rlvid.probes.statistics import auroc, correlation, correlation_within, permutation_p_values, sign_p_value
from rlvid.probes.subject import Scored, Subject, score_all
from rlvid.probes.table import MARK, WITH_MODELS, probe_shipped, probed_rewards, row, with_rows
from rlvid.probes.value import measure_value
from rlvid.probes.verdicts import THRESHOLDS, Checks, false_alarms, thresholds_with
from rlvid.types import Completion, Group, Prompt
from tests.helpers.tables import README, rows

PROMPT = Prompt("q", "What next?", ("put the corn in the pot", "put the beet in the pot"), "B")
REPLY = Completion(
    "<think>The onion went in, the corn went in. Now the pot shows the corn. Next is the beet.</think>"
    "<answer>B</answer>",
    tokens=tuple(range(20)),
)


def test_auroc_is_that_of_sklearn_and_leaves_out_what_is_unknown():
    rng = np.random.default_rng(0)
    values, right = rng.integers(5, size=200).astype(float), rng.integers(2, size=200).astype(float)
    assert auroc(values, right) == pytest.approx(roc_auc_score(right, values))
    values[:50] = np.nan
    assert auroc(values, right) == pytest.approx(roc_auc_score(right[50:], values[50:]))
    assert auroc(values, np.ones(200)) is None


def test_correlations_are_pearsons_and_within_classes_the_class_means_do_not_count():
    a, b = np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 4.0, 6.0, 1.0])
    assert correlation(a, b) == pytest.approx(1) and correlation(a, np.ones(4)) is None
    classes = np.array([0.0, 0.0, 1.0, 1.0])
    assert correlation_within(np.array([0.0, 1.0, 10.0, 11.0]), np.array([1.0, 0.0, 1.0, 0.0]), classes) == -1


def test_p_values_of_small_samples_are_those_of_counting():
    above, same = np.array([2.0, 2.0, 2.0]), np.array([0.0, 0.0, 0.0])
    p_above, p_same = permutation_p_values([above, same], np.zeros(3))
    assert p_above == pytest.approx(1 / 20, abs=0.005) and p_same == 1  # one of C(6, 3) = 20 ways
    assert sign_p_value(np.array([1.0, 1.0, 1.0, 0.0])) == 1 / 8 and sign_p_value(np.zeros(3)) == 1


def test_edits_do_what_their_names_say_and_keep_the_answer():
    texts = {edit: edited(edit, REPLY, PROMPT).text for edit in (*THOUGHT_EDITS, *TAG_EDITS)}
    assert "Next is not the beet." in texts["negate the conclusion"]
    assert "Next is the corn." in texts["conclude another option"]
    assert texts["drop the evidence"] == "<think>Next is the beet.</think><answer>B</answer>"
    assert texts["reverse the steps"].startswith(
        "<think>Now the pot shows the corn. The corn went in, the onion went in. Next is the beet."
    )
    assert texts["answer before thinking"].startswith("<answer>B</answer><think>")
    assert "<denken>" in texts["translate the tags"]
    assert all("<answer>B</answer>" in text for edit, text in texts.items() if edit != "translate the tags")
    padded = edited("pad with filler", REPLY, PROMPT)
    assert (
        len(padded.tokens) > 5 * len(REPLY.tokens) and edited("negate the conclusion", Completion("B"), PROMPT) is None
    )
    assert split_sentences("One. Two? Three") == ["One.", "Two?", "Three"]


def test_advantage_shares_are_those_of_a_run():
    accuracy = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    shares = advantage_shares(accuracy, 0.3 * accuracy, 1.0)
    assert shares["group"] == pytest.approx(0, abs=1e-6), "the standard deviation of the group cancels it"
    assert shares["none"] == pytest.approx((0.3 / 1.3) ** 2)
    assert set(advantage_shares(accuracy, np.ones((2, 4)), 1.0).values()) == {0.0}


def scored(column, right):
    """Groups with a column, and accuracy."""
    groups = [Group(PROMPT, [Completion("B" if one else "A") for one in row]) for row in right]
    return Scored(groups, column, {"accuracy": right}, seconds=0.0)


def test_groups_count_what_is_flat_between_and_rescued():
    values = [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, None]]
    numbers = measure_groups(scored(values, [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), with_interval=False)
    assert (numbers["flat"], numbers["flat_accuracy"], numbers["rescued"]) == (0.75, 0.5, 0.25)
    within = np.array([[1, 1], [0, 1], [0, 0], [0, 0]], float)
    assert numbers["between_groups"] == pytest.approx(within.mean(1).var() / within.var())
    pairs = measure_groups(scored([[1.0, 0.0]] * 3, [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), with_interval=False)
    assert pairs["agreement"] == pytest.approx(2 / 3)
    assert measure_groups(scored([[1.0]], [[1.0]]))["size"] == 1


def test_a_cancelled_reward_is_told_apart_from_a_small_one():
    right = np.array([[1.0, 1.0, 0.0, 0.0]] * 2)
    bonus = 0.3 * right  # the same for all right replies, as in T-GRPO: any weight only rescales the advantages
    assert rescue(right, bonus, 1.0) == {"weight": None, "share": None, "alike": 1.0}
    split = rescue(right, np.array([[0.05, 0.0, 0.0, 0.0]] * 2), 1.0)  # tells right replies apart, too softly
    assert split["weight"] in HEAVIER and split["share"] >= 0.01 and split["alike"] == 0.0
    assert rescue(right, np.array([[0.1, 0.0, 0.0, 0.0]] * 2), 0.5)["weight"] == split["weight"] / 2
    assert rescue(np.zeros((2, 4)), bonus, 1.0)["alike"] is None, "no right replies, none alike"


def test_the_words_say_which_weight_would_keep_a_reward():
    assert rescue_text({"weight": 2.0, "share": 0.014, "alike": None}) == (
        "under scale_rewards=group a weight of 2 (share 0.01)"
    )
    words = rescue_text({"weight": None, "share": None, "alike": 1.0})
    assert words.startswith("under scale_rewards=group no weight") and words.endswith("pay what differs among them")


def test_the_distribution_is_shown_overall_by_right_and_wrong_and_by_level():
    numbers = measure_value(scored([[0.0, 1.0], [1.0, None]], [[0.0, 1.0], [1.0, 1.0]]))
    histogram = numbers["histogram"]
    assert (sum(histogram["all"]), sum(histogram["right"]), sum(histogram["wrong"])) == (3, 2, 1)
    assert list(map(sum, histogram["levels"].values())) == [3] and histogram["all"][-1] == 2
    table, quotes, _ = value_parts(numbers)
    assert table.row_count == 4, "all, right, wrong and the axis: one level is no comparison"
    assert quotes.row_count == 4, "two texts, the best first and the worst first"


def test_information_finds_the_reward_that_it_is():
    numbers = measure_information(scored([[2.0, 0.0]] * 4, [[1.0, 0.0]] * 4))
    assert numbers["correlations"]["accuracy"] == pytest.approx(1) and numbers["auroc_interval"] == (1, 1)


@pytest.mark.parametrize(("sign", "what"), [(1, "length"), (-1, "shortness")])
def test_paying_for_length_names_its_direction(sign, what):
    numbers = {"auroc": None, "correlations": {}, "length_given_right": 0.7 * sign, "largest_relation": 0.7}
    block = judge_information(numbers, Checks(thresholds_with()))
    assert (
        block.text
        == f"it pays for {what}: correlation {0.7 * sign:+.2f} with length among right and among wrong replies"
    )


@pytest.mark.parametrize(
    ("right", "words"),
    [
        (0.4, "right replies earn 0.40 instead of 0.80"),
        (0.8, "right replies earn 0.80 instead of 0.80: not less, though values move by 30% of the range"),
        (None, "moves values by 30% of the range; no reply is right"),
    ],
)
def test_a_twin_that_costs_right_replies_nothing_is_pointed_out(right, words):
    fall = 0.8 - right if right else 0.0
    twin = {"right": right, "wrong": 0.5, "moved": 0.6, "size": 0.3, "fall_right": fall, "p_rise": 1.0}
    numbers = {"groups": 1, "true": {"right": 0.8, "wrong": 0.5}, "conditions": {"twin": twin}}
    block = judge_counterfactuals(numbers, frozenset({"narrations"}), Checks(thresholds_with()))
    assert block.verdict == PASS and block.text.endswith(words)


@pytest.mark.parametrize(
    ("need", "is_judged"), [("view:blank", True), ("view_logps:shuffled", True), ("answer_probs", False)]
)
def test_rewards_that_read_a_view_of_the_clip_are_judged_by_the_twin(need, is_judged):
    twin = {"right": 0.8, "wrong": 0.5, "moved": 0.0, "size": 0.0, "fall_right": 0.0, "p_rise": 1.0}
    numbers = {"groups": 1, "true": {"right": 0.8, "wrong": 0.5}, "conditions": {"twin": twin}}
    block = judge_counterfactuals(numbers, frozenset({need}), Checks(thresholds_with()))
    assert ("does not react to the video" in block.text) is is_judged


@pytest.mark.parametrize(("groups", "is_rough"), [(2, True), (24, False)])
def test_few_groups_are_called_rough(groups, is_rough):
    lines = [str(part) for part in report(ProbeResult("mine", "", {}, "samples", "tokens", groups, 8, 0.1, ()))]
    assert any(line.startswith("few groups: all numbers are rough") for line in lines) == is_rough


def test_a_twin_has_another_right_option_and_the_same_question():
    for group in shipped_replies().groups[::9]:
        twin = draw_twin(group.prompt)
        assert twin.question == group.prompt.question and twin.options == group.prompt.options
        assert twin.letter != group.prompt.answer
        assert bool(twin.scene.filmed) == bool(group.prompt.narrations)
        assert twin.response == draw_twin(group.prompt).response, "the same twin each time"


def test_options_are_read_from_the_text_of_a_prompt():
    for group in shipped_replies().groups[::20]:
        assert split_options(group.prompt.text) == (group.prompt.question, list(group.prompt.options))
    assert split_options("Which?\nB. a cup") == ("Which?\nB. a cup", [])


@pytest.mark.parametrize("threshold", ["value.min_applied", "value.min_distinct", "tricks.max_gain"])
@pytest.mark.parametrize("source", [shipped_replies().source, "samples of a run"])
def test_a_reward_that_is_empty_on_the_shipped_replies_is_sent_to_others(threshold, source):
    value = Block("value", FAIL, "", (Finding(threshold, 2, 1, True, ""),))
    result = ProbeResult("length", "", {}, source, "tokens", 1, 1, 0.1, (value,))
    lines = [str(part) for part in report(result)]
    is_expected = threshold.startswith("value") and source == shipped_replies().source
    assert any("rlvid probe length --on" in line for line in lines) == is_expected


def test_the_search_counts_what_it_tried(monkeypatch):
    subject = Subject.read("format", {}, load("nano"), 30)
    scored, counts, original = score_all(subject, shipped_replies().groups[:1]), [], search.score_each

    def counting(subject, replies, compares):
        counts.append(len(replies))
        return original(subject, replies, compares)

    monkeypatch.setattr(search, "score_each", counting)
    found = search.search(subject, scored, np.array([0.0, 1.0]), 1.0, compares=False)
    assert counts[0] < search.STARTS, "one group does not give all climbs"
    assert found["tried"] == sum(counts[1:])


def test_a_threshold_that_never_fails_is_refused():
    with pytest.raises(UserError, match=r"threshold tricks\.max_gain: nan never fails"):
        thresholds_with(["tricks.max_gain=nan"])


def test_the_documented_thresholds_are_those_of_the_code():
    shown = rows((Path(rlvid.probes.__path__[0]) / "README.md").read_text())
    for name, (default, meaning) in THRESHOLDS.items():
        assert shown[f"`{name}`"][:2] == [f"{default:g}", meaning]
        rates = false_alarms()[name]
        assert shown[f"`{name}`"][2:] == [rates["honest"], rates["random"]], "its false alarms are measured"
        assert all(rates.values())


def test_false_alarms_are_shares_of_the_probes_that_compare_a_threshold():
    """A reward that does not read the video says nothing about the thresholds of that block."""
    shared, video = "tricks.max_search_gain", "video.min_move"
    probes = {
        "blind": Alarms(Counter(), Counter({shared: 10})),
        "seeing": Alarms(Counter({shared: 2, video: 1}), Counter({shared: 10, video: 10})),
        "random": Alarms(Counter(), Counter({shared: 5})),
    }
    honest = {"blind": Counter({"groups.max_flat": 3}), "seeing": Counter()}
    found = rates(honest, 200, Counter({"groups.max_flat": 6}), 100, probes)
    assert found[shared] == {"honest": "2 of 20 (seeing 2 of 10)", "random": "0 of 5"}
    assert found[video] == {"honest": "1 of 10 (seeing 1 of 10)", "random": "not compared"}
    assert found["groups.max_flat"] == {"honest": "3 of 400 (blind 3 of 200)", "random": "6%"}


def test_a_failed_threshold_is_shown_with_its_false_alarms():
    finding = Finding("groups.min_agreement", 0.5, 0.4, True, "")
    result = ProbeResult("mine", "", {}, "samples", "tokens", 1, 1, 0.1, (Block("groups", FAIL, "", (finding,)),))
    shown = str(report(result)[-1])
    assert shown.startswith("1 of 1 blocks failed")
    assert (
        "threshold groups.min_agreement=0.5, here 0.4; false alarms on honest rewards: 26 of 1000 (format 16 of 200)"
        in shown
    )
    assert [row.usage for row in list_names("thresholds", "video.min_move")] == [
        "rlvid probe REWARD --threshold video.min_move=0.02"
    ]


@pytest.mark.parametrize("name", ["format", "consistency_rule", "grounding_moves", "length", "random"])
def test_the_table_of_probes_in_the_readme_is_reproduced(name):
    assert_row(name)


@pytest.mark.soak
@pytest.mark.parametrize("name", probed_rewards())
def test_the_whole_table_of_probes_is_reproduced(name):
    assert_row(name)


def assert_row(name):
    """Compare a reward's row in rewards/README.md, number for number, with its probe now."""
    table = README.read_text().partition("<!-- probes -->")[2].partition("<!-- end of probes -->")[0]
    shown, computed = rows(table)[f"`{name}`"], row(probe_shipped(name))[1:]
    for old, new in zip(shown, computed, strict=True):
        old_numbers, new_numbers = (
            [float(number) for number in re.findall(r"\d+(?:\.\d+)?", cell)] for cell in (old, new)
        )
        assert re.sub(r"[\d.]+", "#", old) == re.sub(r"[\d.]+", "#", new)
        assert old_numbers == pytest.approx(new_numbers, abs=0.02 if max(new_numbers, default=0) <= 1 else 2)


def test_the_table_holds_every_reward_that_can_be_probed():
    table = README.read_text().partition("<!-- probes -->")[2].partition("<!-- end of probes -->")[0]
    names = [first for first in rows(table) if first not in ("reward", "---")]
    marked = {f"`{name}`{MARK}" for name in WITH_MODELS}
    assert names == sorted(names) and {*names} - marked == {f"`{name}`" for name in probed_rewards()}
    assert marked & {*names}, "some rewards are probed with models that do not come with rlvid"


def test_new_rows_replace_those_of_the_same_rewards_and_keep_the_others():
    head = "| reward | mean |\n| --- | --- |\n"
    old = f"\n{head}| `a` | 1 |\n| `c` † | 3 |\n"
    assert with_rows(old, f"{head}| `b` | 2 |\n| `a` | 9 |") == f"{head}| `a` | 9 |\n| `b` | 2 |\n| `c` † | 3 |"
