"""Wrong verdicts: their rates and J are those of the closed form, the hash alone decides, and None stays None."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import kstest, norm, t

from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise.apply import apply_noise, build_noise, summarize_noise
from rlvid.noise.verdicts import VERDICT_NOISES
from rlvid.trainer.counters import Counters
from rlvid.trainer.records import GroupRecord
from rlvid.types import Completion, Group, Prompt

STRONG = {  # kind -> fields with which it changes many verdicts
    "verifier": {"false_positives": 0.3, "false_negatives": 0.2},
    "group_flip": {"rate": 0.3},
    "gaussian": {"sigma": 0.5},
    "heavy_tailed": {"scale": 0.5},
    "judge_confusion": {"rate": 0.3},
    "length_bias": {"kappa": 0.2},
}
OPTIONS = ("open tap", "close tap", "cut onion", "wash pan")


def make_noise(kind, seed=0, **fields):
    return build_noise(NoiseConfig(kind, seed, fields))


def make_groups(count=1000, size=4, verdicts=None):
    """Groups whose completions answer A to D in turn, with different texts and lengths.

    "A" is right. The accuracy column holds `verdicts`, or else 1 for the right answer; the format column holds 1.
    """
    groups = []
    for i in range(count):
        texts = [f"<think>{j}</think><answer>{'ABCD'[j % 4]}</answer>" for j in range(size)]
        completions = [Completion(text, (7,) * 10 * j) for j, text in enumerate(texts)]
        group = Group(Prompt(f"s{i}", "?", OPTIONS, "A"), completions)
        group.columns["accuracy"] = list(verdicts) if verdicts else [float(c.answer == "A") for c in group]
        group.columns["format"] = [1.0] * size
        groups.append(group)
    return groups


def noisy_verdicts(noise, step=1, **fields):
    """(P, G): the accuracy verdicts of `make_groups(**fields)` under noise."""
    groups = make_groups(**fields)
    noise.corrupt_rewards("accuracy", groups, step=step)
    assert all(group["format"] == [1.0] * len(group) for group in groups)
    return np.array([group["accuracy"] for group in groups], dtype=float)


def make_records(groups):
    return [GroupRecord.of(i, group, [0.0] * len(group)) for i, group in enumerate(groups)]


def test_every_kind_has_a_test_here():
    assert STRONG.keys() == VERDICT_NOISES.keys()


@pytest.mark.parametrize("name", STRONG)
def test_the_hash_alone_decides(name):
    noise = make_noise(name, **STRONG[name])
    forward, backward = make_groups(40), make_groups(40)[::-1]
    noise.corrupt_rewards("accuracy", forward, step=3)
    for group in backward[1::2] + backward[::2]:  # another order, and one group at a time
        noise.corrupt_rewards("accuracy", [group], step=3)
    assert [group["accuracy"] for group in forward] == [group["accuracy"] for group in backward[::-1]]
    if name != "length_bias":
        assert (noisy_verdicts(noise) != noisy_verdicts(make_noise(name, seed=1, **STRONG[name]))).any()


@pytest.mark.parametrize("name", STRONG)
def test_none_stays_none_and_the_prompts_stay_clean(name):
    noise = make_noise(name, **STRONG[name])
    groups = make_groups(50, verdicts=[None, 1.0, None, 0.0])
    noise.corrupt_rewards("accuracy", groups, step=1)
    assert all([value is None for value in group["accuracy"]] == [True, False, True, False] for group in groups)
    prompts = [group.prompt for group in groups]
    assert apply_noise(prompts, noise) == (prompts, [])


@pytest.mark.parametrize("name", STRONG)
def test_with_default_fields_nothing_changes(name):
    clean = noisy_verdicts(build_noise(NoiseConfig()), count=50)
    assert (noisy_verdicts(make_noise(name), count=50) == clean).all()


@pytest.mark.parametrize("name", [name for name in STRONG if name != "length_bias"])
def test_the_expected_verdict_rises_by_j_from_a_true_0_to_a_true_1(name):
    noise = make_noise(name, **STRONG[name])
    means = [noisy_verdicts(noise, verdicts=[value] * 4, count=5000).mean() for value in (0.0, 1.0)]
    tolerance = 0.05 if name == "heavy_tailed" else 0.03
    assert means[1] - means[0] == pytest.approx(noise.youden_j(4), abs=tolerance)


@pytest.mark.parametrize("name", ["verifier", "group_flip"])
def test_the_rates_that_a_run_counts_agree_with_the_closed_form(name):
    noise, counters = make_noise(name, **STRONG[name]), Counters()
    for step in range(1, 6):
        groups = make_groups()
        noise.corrupt_rewards("accuracy", groups, step=step)
        metrics = counters.update_verdicts(make_records(groups), noise.noisy_reward)
    assert metrics["noise/false_positive_rate"] == pytest.approx(0.3, abs=0.03)
    assert metrics["noise/false_negative_rate"] == pytest.approx(0.2 if name == "verifier" else 0.3, abs=0.03)
    assert metrics["noise/youden_j"] == pytest.approx(noise.youden_j(4), abs=0.04)


def test_the_rates_that_a_run_counts_under_wrong_labels_agree_with_the_closed_form():
    noise = make_noise("symmetric", rate=0.3)
    noisy, _ = apply_noise([group.prompt for group in make_groups(4000)], noise)
    groups = [Group(prompt, make_groups(1)[0].completions) for prompt in noisy]
    for group in groups:
        group.columns["accuracy"] = [float(c.answer == group.prompt.answer) for c in group]
    metrics = Counters().update_verdicts(make_records(groups), noise.noisy_reward)
    assert metrics["noise/false_negative_rate"] == pytest.approx(0.3, abs=0.03)
    assert metrics["noise/false_positive_rate"] == pytest.approx(0.1, abs=0.02)
    assert metrics["noise/youden_j"] == pytest.approx(noise.youden_j(4), abs=0.04) == pytest.approx(0.6, abs=0.04)


@pytest.mark.parametrize("column", ["accuracy", "format"])
@pytest.mark.parametrize("name", STRONG)
def test_changed_verdicts_are_counted_in_the_noisy_column(name, column):
    """J of accuracy is logged only where accuracy is noisy; the summary leaves rates to the run."""
    fields = STRONG[name] | {"column": column}
    noise, counters, before, after = make_noise(name, **fields), Counters(), [], []
    for step in (1, 2):
        groups = make_groups(500)
        before += [value for group in groups for value in group[column]]
        noise.corrupt_rewards("accuracy", groups, step=step)
        noise.corrupt_rewards("format", groups, step=step)
        after += [value for group in groups for value in group[column]]
        metrics = counters.update_verdicts(make_records(groups), noise.noisy_reward)
    assert metrics["noise/changed"] == np.mean(np.array(before) != np.array(after)) > 0.1
    assert ("noise/youden_j" in metrics) == ("noise/false_positive_rate" in metrics) == (column == "accuracy")
    summary = summarize_noise(noise, [group.prompt for group in groups], [])
    assert (summary["reward"], summary["rate"], summary["changed"]) == (column, None, None)
    assert summary["youden_j"] == noise.youden_j(4)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("frames", {"rate": 0.5}), ("wrong_clip", {"rate": 0.5}), ("narrations", {"rate": 0.5}), ("reasoning", {})],
)
def test_evidence_noise_has_no_j(name, fields):
    noise, groups = make_noise(name, **fields), make_groups(10)
    assert Counters().update_verdicts(make_records(groups), noise.noisy_reward) == {}
    assert summarize_noise(noise, [group.prompt for group in groups], [])["youden_j"] is None


def test_j_by_hand():
    assert make_noise("verifier", false_positives=0.1, false_negatives=0.3).youden_j() == pytest.approx(0.6)
    assert make_noise("verifier", false_positives=0.8, first_named=True).youden_j() == pytest.approx(0.8)
    assert make_noise("group_flip", rate=0.4).youden_j() == pytest.approx(0.2)
    assert make_noise("judge_confusion", rate=0.5, levels=2).youden_j() == 0
    assert make_noise("length_bias", kappa=1.0).youden_j() is None


def test_a_verifier_errs_at_its_rates_and_a_higher_rate_adds_errors():
    low = noisy_verdicts(make_noise("verifier", false_positives=0.1, false_negatives=0.2))
    high = noisy_verdicts(make_noise("verifier", false_positives=0.4, false_negatives=0.2))
    assert low[:, 1:].mean() == pytest.approx(0.1, abs=0.025) and high[:, 1:].mean() == pytest.approx(0.4, abs=0.04)
    assert 1 - low[:, 0].mean() == pytest.approx(0.2, abs=0.05)
    assert (low[:, 1:] <= high[:, 1:]).all() and (low[:, 0] == high[:, 0]).all()


def test_a_verifier_with_a_rule_pays_only_wrong_answers_with_the_option_named_first():
    noise = make_noise("verifier", false_positives=1.0, first_named=True)
    texts = [f"<answer>{letter}</answer>" for letter in "ABCD"] + ["no answer"]
    for question, paid in (("Close it, then open it.", [1, 1, 0, 0, 0]), ("What now?", [1, 0, 0, 0, 0])):
        group = Group(Prompt("s", question, OPTIONS, "A"), [Completion(text) for text in texts])
        group.columns["accuracy"] = [1.0, 0.0, 0.0, 0.0, 0.0]
        noise.corrupt_rewards("accuracy", [group], step=1)
        assert group["accuracy"] == paid
    rejecting = make_noise("verifier", false_negatives=0.2, first_named=True)
    assert (noisy_verdicts(rejecting) == noisy_verdicts(make_noise("verifier", false_negatives=0.2))).all()


def test_a_persistent_verifier_repeats_its_errors_and_a_fresh_one_does_not():
    persistent, fresh = (make_noise("verifier", false_positives=0.5, fresh=fresh) for fresh in (False, True))
    assert (noisy_verdicts(persistent, step=1) == noisy_verdicts(persistent, step=2)).all()
    assert make_noise("verifier", false_positives=0.5) == persistent, "errors repeat by default"
    repeated = (noisy_verdicts(fresh, step=1) == noisy_verdicts(fresh, step=2))[:, 1:].mean()
    assert repeated == pytest.approx(0.5, abs=0.04)
    equal_texts = Group(Prompt("s", "?", OPTIONS, "A"), [Completion("<answer>B</answer>")] * 8)
    for noise in (persistent, fresh):
        equal_texts.columns["accuracy"] = [0.0] * 8
        noise.corrupt_rewards("accuracy", [equal_texts], step=1)
        assert len(set(equal_texts["accuracy"])) == 1  # equal texts of a step get equal verdicts


def test_group_flip_flips_all_verdicts_of_a_group_and_other_groups_in_each_step():
    noise = make_noise("group_flip", rate=0.3)
    first, second = noisy_verdicts(noise, step=1), noisy_verdicts(noise, step=2)
    assert {tuple(row) for row in first} == {(1, 0, 0, 0), (0, 1, 1, 1)}
    flipped = first[:, 0] == 0
    assert flipped.mean() == pytest.approx(0.3, abs=0.06) and (first != second).any()
    flipped_at_higher_rate = noisy_verdicts(make_noise("group_flip", rate=0.5), step=1)[:, 0] == 0
    assert (flipped <= flipped_at_higher_rate).all()


@pytest.mark.parametrize(
    ("name", "fields", "distribution"),
    [("gaussian", {"sigma": 0.3}, norm(0, 0.3)), ("heavy_tailed", {"scale": 0.3, "df": 2.0}, t(2, 0, 0.3))],
)
def test_added_noise_has_its_distribution_and_is_drawn_anew_in_each_step(name, fields, distribution):
    noise, clean = make_noise(name, **fields), noisy_verdicts(build_noise(NoiseConfig()))
    first, second = ((noisy_verdicts(noise, step=step) - clean).flatten() for step in (1, 2))
    assert kstest(first, distribution.cdf).pvalue > 0.01
    first_ranks, second_ranks = (values.argsort().argsort() for values in (first, second))
    assert abs(np.corrcoef(first_ranks, second_ranks)[0, 1]) < 0.06


def test_a_confused_judge_gives_every_other_level_equally_often():
    verdicts = noisy_verdicts(make_noise("judge_confusion", rate=0.4, levels=5), verdicts=[0.25] * 4)
    counts = Counter(verdicts.flatten())
    assert set(counts) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert counts[0.25] / verdicts.size == pytest.approx(0.6, abs=0.03)
    assert all(counts[level] / verdicts.size == pytest.approx(0.1, abs=0.02) for level in (0.0, 0.5, 0.75, 1.0))
    with pytest.raises(UserError, match=r"gave sample s0 3\.0, off the rubric of 0 to 1"):
        noisy_verdicts(make_noise("judge_confusion", rate=0.4), verdicts=[3.0] * 4, count=1)


def test_length_bias_adds_kappa_for_every_100_tokens():
    assert noisy_verdicts(make_noise("length_bias", kappa=0.5), count=1)[0] == pytest.approx([1.0, 0.05, 0.1, 0.15])


def test_only_the_column_of_the_noise_is_corrupted_and_it_must_be_in_the_mix():
    [group] = make_groups(1)
    noise = make_noise("gaussian", sigma=1.0, column="format")
    for column in ("accuracy", "format"):
        noise.corrupt_rewards(column, [group], step=1)
    assert group["accuracy"] == [1.0, 0.0, 0.0, 0.0] and group["format"] != [1.0] * 4
    with pytest.raises(UserError, match=r"noise\.column: no reward 'acuracy' in the mix: accuracy, format"):
        make_noise("gaussian", column="acuracy").check_rewards(["accuracy", "format"])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("verifier", {"false_positives": 2.0}, r"false_positives must be in \[0, 1\]"),
        ("verifier", {"false_negative": 0.1}, "Did you mean 'false_negatives'"),
        ("group_flip", {"rate": -0.1}, r"rate must be in \[0, 1\]"),
        ("gaussian", {"sigma": -1.0}, "sigma must be 0 or more"),
        ("heavy_tailed", {"df": 1.0}, "df must be above 1"),
        ("heavy_tailed", {"scale": float("nan")}, "scale must be a finite number, not nan"),
        ("judge_confusion", {"levels": 1}, "levels must be 2 or more"),
        ("length_bias", {"kapa": 1.0}, "Did you mean 'kappa'"),
    ],
)
def test_bad_fields_are_refused(name, fields, message):
    with pytest.raises(UserError, match=message):
        make_noise(name, **fields)
