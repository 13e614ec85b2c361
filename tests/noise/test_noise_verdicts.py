"""Wrong verdicts: rates and J as promised, nested, by hash alone; None stays None."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kstest, norm, t

from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise import apply
from rlvid.noise.verdicts import VERDICTS
from rlvid.trainer.metrics import GroupRecord
from rlvid.trainer.run_folder import Run
from rlvid.types import Completion, Group, Prompt

EACH = {
    "verifier": {"false_positives": 0.3, "false_negatives": 0.2},
    "group_flip": {"rate": 0.3},
    "gaussian": {"sigma": 0.5},
    "heavy_tailed": {"scale": 0.5},
    "judge_confusion": {"rate": 0.3},
    "length_bias": {"kappa": 0.2},
}
KEYS = ("right", "right_paid", "wrong", "wrong_paid")  # what a run counts
OPTIONS = ("open tap", "close tap", "cut onion", "wash pan")


def kind(name, seed=0, **fields):
    return apply.build_noise(NoiseConfig(name, seed, fields))


def groups(count=1000, size=4, rewards=None):
    """Groups whose completions answer A to D in turn, with different texts; "A" is right and earns 1."""
    made = []
    for i in range(count):
        said = [Completion(f"<think>{j}</think><answer>{'ABCD'[j % 4]}</answer>", (7,) * 10 * j) for j in range(size)]
        group = Group(Prompt(f"s{i}", "?", OPTIONS, "A"), said)
        group.columns["accuracy"] = list(rewards) if rewards else [float(c.answer == "A") for c in group]
        group.columns["format"] = [1.0] * size
        made.append(group)
    return made


def counting(name, **fields):
    """What of a run counts verdicts under this noise."""
    return SimpleNamespace(verdicts=dict.fromkeys(KEYS, 0), config=SimpleNamespace(noise=NoiseConfig(name, 0, fields)))


def judged(noise, step=1, **fields):
    """(P, G) what is said of the groups after noise."""
    made = groups(**fields)
    noise.corrupt_verdicts("accuracy", made, step=step)
    assert all(group["format"] == [1.0] * len(group) for group in made)
    return np.array([group["accuracy"] for group in made], dtype=float)


def test_every_kind_is_tried_here():
    assert EACH.keys() == VERDICTS.keys()


@pytest.mark.parametrize("name", EACH)
def test_the_hash_alone_decides(name):
    source = kind(name, **EACH[name])
    there, back = groups(40), groups(40)[::-1]
    source.corrupt_verdicts("accuracy", there, step=3)
    for group in back[1::2] + back[::2]:  # another order, one worker's share at a time
        source.corrupt_verdicts("accuracy", [group], step=3)
    assert [g["accuracy"] for g in there] == [g["accuracy"] for g in back[::-1]]
    if name != "length_bias":
        assert (judged(source) != judged(kind(name, seed=1, **EACH[name]))).any()


@pytest.mark.parametrize("name", EACH)
def test_none_stays_none_and_the_prompts_stay_clean(name):
    source = kind(name, **EACH[name])
    made = groups(50, rewards=[None, 1.0, None, 0.0])
    source.corrupt_verdicts("accuracy", made, step=1)
    assert all([value is None for value in group["accuracy"]] == [True, False, True, False] for group in made)
    prompts = [group.prompt for group in made]
    assert apply.apply_noise(prompts, source) == (prompts, [])


@pytest.mark.parametrize("name", EACH)
def test_without_strength_nothing_changes(name):
    assert (judged(kind(name), count=50) == judged(apply.build_noise(NoiseConfig()), count=50)).all()


@pytest.mark.parametrize("name", [name for name in EACH if name != "length_bias"])
def test_the_expected_verdict_is_j_times_the_true_one(name):
    source = kind(name, **EACH[name])
    means = [judged(source, rewards=[value] * 4, count=5000).mean() for value in (0.0, 1.0)]
    tolerance = 0.05 if name == "heavy_tailed" else 0.03
    assert means[1] - means[0] == pytest.approx(source.youden_j(4), abs=tolerance)


@pytest.mark.parametrize("name", ["verifier", "group_flip"])
def test_the_runs_own_estimates_come_to_the_closed_form(name):
    source, run = kind(name, **EACH[name]), counting(name, **EACH[name])
    for step in range(1, 6):
        made = groups()
        source.corrupt_verdicts("accuracy", made, step=step)
        logged = Run.judged(run, [GroupRecord.of(i, group, [0.0] * 4) for i, group in enumerate(made)])
    assert logged["noise/false_positive_rate"] == pytest.approx(0.3, abs=0.03)
    assert logged["noise/false_negative_rate"] == pytest.approx(0.2 if name == "verifier" else 0.3, abs=0.03)
    assert logged["noise/youden_j"] == pytest.approx(source.youden_j(4), abs=0.04)


def test_the_runs_own_estimates_of_wrong_labels_come_to_the_closed_form():
    source, run = kind("symmetric", rate=0.3), counting("symmetric", rate=0.3)
    noisy, _ = apply.apply_noise([group.prompt for group in groups(4000)], source)
    made = [Group(prompt, groups(1)[0].completions) for prompt in noisy]
    for group in made:
        group.columns["accuracy"] = [float(c.answer == group.prompt.answer) for c in group]
    logged = Run.judged(run, [GroupRecord.of(i, group, [0.0] * 4) for i, group in enumerate(made)])
    assert logged["noise/false_negative_rate"] == pytest.approx(0.3, abs=0.03)
    assert logged["noise/false_positive_rate"] == pytest.approx(0.1, abs=0.02)
    assert logged["noise/youden_j"] == pytest.approx(source.youden_j(4), abs=0.04) == pytest.approx(0.6, abs=0.04)


@pytest.mark.parametrize("column", ["accuracy", "format"])
@pytest.mark.parametrize("name", EACH)
def test_the_changed_verdicts_are_counted_on_the_column_that_the_noise_is_on(name, column):
    """No J of accuracy where accuracy was left alone; only a run can count what became of the rate."""
    fields = EACH[name] | {"column": column}
    source, run, before, after = kind(name, **fields), counting(name, **fields), [], []
    for step in (1, 2):
        made = groups(500)
        before += [value for group in made for value in group[column]]
        source.corrupt_verdicts("accuracy", made, step=step)
        source.corrupt_verdicts("format", made, step=step)
        after += [value for group in made for value in group[column]]
        logged = Run.judged(run, [GroupRecord.of(i, group, [0.0] * 4) for i, group in enumerate(made)])
    assert logged["noise/changed"] == np.mean(np.array(before) != np.array(after)) > 0.1
    assert ("noise/youden_j" in logged) == ("noise/false_positive_rate" in logged) == (column == "accuracy")
    told = apply.realised_rates(source, [group.prompt for group in made], [])
    assert (told["reward"], told["rate"], told["changed"]) == (column, None, None)
    assert told["youden_j"] == source.youden_j(4)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("frames", {"rate": 0.5}), ("wrong_clip", {"rate": 0.5}), ("narrations", {"rate": 0.5}), ("reasoning", {})],
)
def test_bad_evidence_has_no_j(name, fields):
    made = groups(10)
    assert Run.judged(counting(name, **fields), [GroupRecord.of(i, g, [0.0] * 4) for i, g in enumerate(made)]) == {}
    assert apply.realised_rates(kind(name, **fields), [g.prompt for g in made], [])["youden_j"] is None


def test_j_by_hand():
    assert kind("verifier", false_positives=0.1, false_negatives=0.3).youden_j() == pytest.approx(0.6)
    assert kind("group_flip", rate=0.4).youden_j() == pytest.approx(0.2)
    assert kind("judge_confusion", rate=0.5, levels=2).youden_j() == 0
    assert kind("length_bias", kappa=1.0).youden_j() is None


def test_a_verifier_errs_at_its_rates_and_more_at_higher_ones():
    low = judged(kind("verifier", false_positives=0.1, false_negatives=0.2))
    high = judged(kind("verifier", false_positives=0.4, false_negatives=0.2))
    assert low[:, 1:].mean() == pytest.approx(0.1, abs=0.025) and high[:, 1:].mean() == pytest.approx(0.4, abs=0.04)
    assert 1 - low[:, 0].mean() == pytest.approx(0.2, abs=0.05)
    assert (low[:, 1:] <= high[:, 1:]).all() and (low[:, 0] == high[:, 0]).all()


def test_a_persistent_verifier_repeats_itself_and_a_fresh_one_does_not():
    same, fresh = (kind("verifier", false_positives=0.5, fresh=fresh) for fresh in (False, True))
    assert (judged(same, step=1) == judged(same, step=2)).all()
    agree = (judged(fresh, step=1) == judged(fresh, step=2))[:, 1:].mean()
    assert agree == pytest.approx(0.5, abs=0.04)
    twins = Group(Prompt("s", "?", OPTIONS, "A"), [Completion("<answer>B</answer>")] * 8)
    for source in (same, fresh):
        twins.columns["accuracy"] = [0.0] * 8
        source.corrupt_verdicts("accuracy", [twins], step=1)
        assert len(set(twins["accuracy"])) == 1  # equal texts of a step are judged alike


def test_whole_groups_flip_and_not_always_the_same():
    source = kind("group_flip", rate=0.3)
    one, two = judged(source, step=1), judged(source, step=2)
    assert {tuple(row) for row in one} == {(1, 0, 0, 0), (0, 1, 1, 1)}
    flipped = one[:, 0] == 0
    assert flipped.mean() == pytest.approx(0.3, abs=0.06) and (one != two).any()
    assert (flipped <= (judged(kind("group_flip", rate=0.5), step=1)[:, 0] == 0)).all()


@pytest.mark.parametrize(
    ("name", "fields", "law"),
    [("gaussian", {"sigma": 0.3}, norm(0, 0.3)), ("heavy_tailed", {"scale": 0.3, "df": 2.0}, t(2, 0, 0.3))],
)
def test_added_noise_follows_its_law_and_is_fresh(name, fields, law):
    source, true = kind(name, **fields), judged(apply.build_noise(NoiseConfig()))
    one, two = (judged(source, step=step) - true for step in (1, 2))
    assert kstest(one.flatten(), law.cdf).pvalue > 0.01
    assert abs(np.corrcoef(np.argsort(one.flatten()).argsort(), np.argsort(two.flatten()).argsort())[0, 1]) < 0.06


def test_a_confused_judge_gives_every_other_level_as_often():
    said = judged(kind("judge_confusion", rate=0.4, levels=5), rewards=[0.25] * 4)
    counts = Counter(said.flatten())
    assert set(counts) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert counts[0.25] / said.size == pytest.approx(0.6, abs=0.03)
    assert all(counts[level] / said.size == pytest.approx(0.1, abs=0.02) for level in (0.0, 0.5, 0.75, 1.0))
    with pytest.raises(UserError, match=r"gave sample s0 3\.0, off the rubric of 0 to 1"):
        judged(kind("judge_confusion", rate=0.4), rewards=[3.0] * 4, count=1)


def test_length_pays():
    assert judged(kind("length_bias", kappa=0.5), count=1)[0] == pytest.approx([1.0, 0.05, 0.1, 0.15])


def test_only_its_own_column_is_spoilt_and_it_must_be_in_the_mix():
    made = groups(1)
    source = kind("gaussian", sigma=1.0, column="format")
    for column in ("accuracy", "format"):
        source.corrupt_verdicts(column, made, step=1)
    assert made[0]["accuracy"] == [1.0, 0.0, 0.0, 0.0] and made[0]["format"] != [1.0] * 4
    with pytest.raises(UserError, match=r"noise\.column: no reward 'acuracy' in the mix: accuracy, format"):
        kind("gaussian", column="acuracy").check_rewards(["accuracy", "format"])


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("verifier", {"false_positives": 2.0}, r"false_positives must be in \[0, 1\]"),
        ("verifier", {"false_negative": 0.1}, "Did you mean 'false_negatives'"),
        ("group_flip", {"rate": -0.1}, r"rate must be in \[0, 1\]"),
        ("gaussian", {"sigma": -1.0}, "sigma must be 0 or more"),
        ("heavy_tailed", {"df": 1.0}, "df must be above 1"),
        ("heavy_tailed", {"scale": float("nan")}, "scale must be 0 or more"),
        ("judge_confusion", {"levels": 1}, "levels must be 2 or more"),
        ("length_bias", {"kapa": 1.0}, "Did you mean 'kappa'"),
    ],
)
def test_bad_fields_are_refused(name, fields, says):
    with pytest.raises(UserError, match=says):
        kind(name, **fields)
