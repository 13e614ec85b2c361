"""Alarms: each is raised by what it names, and not by less."""

from dataclasses import replace

import pytest

from rlvid.trainer.alarms import detect_alarms, rewards_of_right_answers_only
from rlvid.trainer.metrics import correlation, step_metrics
from rlvid.trainer.records import GroupRecord
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.runs import TINY, stop_after, train

FINE = {"completions/clipped_ratio": 0.0}


def records(thoughts, finished=True):
    """One record per question, whose completions have these thoughts."""
    return [
        GroupRecord.of(
            i, Group(Prompt(f"q{i}", "?", ("a", "b"), "A"), [completion(t, finished) for t in row]), [0.0] * len(row)
        )
        for i, row in enumerate(thoughts)
    ]


def completion(thought, finished):
    return Completion(f"<think>{thought}</think><answer>A</answer>", (1, 2), (), finished)


def test_collapse_is_one_thought_for_most_questions():
    apart = records([[f"{i}", f"{i}"] for i in range(6)])  # a group may agree with itself
    assert detect_alarms(FINE, apart, [], {}) == []
    half = records([["same", f"{i}"] if i < 3 else [f"{i}", "x"] for i in range(6)])
    assert detect_alarms(FINE, half, [], {}) == []
    [alarm] = detect_alarms(FINE, records([["same", f"{i}"] if i else ["0", "1"] for i in range(6)]), [], {})
    assert (alarm.kind, alarm.sample) == ("collapse", "q1") and "5 of 6 questions" in alarm.says
    assert detect_alarms(FINE, records([["same"]] * 3), [], {}) == []  # too few to tell
    one_question = [replace(r, id="q0") for r in records([["same"]] * 4)]
    assert detect_alarms(FINE, one_question, [], {}) == []  # four groups of it
    [alarm] = detect_alarms(FINE, [*one_question, *records([["same"]] * 4)], [], {})
    assert "4 of 4 questions" in alarm.says


def test_truncation_names_a_sample():
    rows = records([[f"{i}"] for i in range(4)], finished=False)
    rows[0] = replace(rows[0], finished=(True,))
    [alarm] = detect_alarms({"completions/clipped_ratio": 0.75}, rows, [], {})
    assert (alarm.kind, alarm.sample) == ("truncation", "q1") and "75%" in alarm.says


@pytest.mark.parametrize(
    ("accuracy", "form", "questions", "raised"),
    [
        (0.50, 0.9, 400, True),  # 10 points are three standard errors of 400 questions
        (0.50, 0.7, 400, False),  # no reward rose
        (0.59, 0.9, 400, False),  # accuracy did not fall
        (0.50, 0.9, 40, False),  # too few questions to tell
    ],
)
def test_hacking_is_a_reward_that_rises_while_accuracy_falls(accuracy, form, questions, raised):
    before = [{"eval/L1/accuracy": a, "eval/L1/form": f} for a, f in ((0.4, 0.9), (0.6, 0.8))] + [{"reward": 1.0}]
    now = {"eval/L1/accuracy": accuracy, "eval/L1/form": form, "eval/L1/blank/accuracy": 1.0}
    found = detect_alarms(now, [], before, {"L1": questions})
    assert [alarm.kind for alarm in found] == ["hacking"] * raised
    assert all("from 60.0% to 50.0% while form rose from 0.80 to 0.90" in alarm.says for alarm in found)


def test_what_a_gate_does_and_a_mean_score_are_no_rewards():
    """Accuracy falls, and the gate ends more replies after their first answer, whose accuracy rises."""
    others = ("gate/skipped", "gate/tokens_saved", "gate/first_accuracy", "score", "blank/accuracy")
    before, now = (
        {"eval/L1/accuracy": a, "eval/L1/form": 0.5, **{f"eval/L1/{name}": value for name in others}}
        for a, value in ((0.6, 0.1), (0.4, 0.9))
    )
    assert detect_alarms(now, [], [before], {"L1": 400}) == []
    [alarm] = detect_alarms(now | {"eval/L1/form": 0.6}, [], [before], {"L1": 400})
    assert "while form rose" in alarm.says


@pytest.mark.parametrize(("best", "accuracy", "raised"), [(1.0, 0.9, False), (1.0, 0.4, True), (0.6, 0.0, True)])
def test_an_accuracy_of_0_or_100_percent_has_a_standard_error(best, accuracy, raised):
    before, now = ({"eval/L1/accuracy": a, "eval/L1/form": f} for a, f in ((best, 0.8), (accuracy, 0.9)))
    assert bool(detect_alarms(now, [], [before], {"L1": 10})) == raised


def judged(column, answers="AABB", evidence=None):
    """The records of a step: questions with one completion each, A being right."""
    found = []
    for i, (value, answer) in enumerate(zip(column, answers, strict=True)):
        group = Group(
            Prompt(f"q{i}", "?", ("a", "b"), "A"), [Completion(f"<think>{i}</think><answer>{answer}</answer>")]
        )
        group.columns |= {"accuracy": [float(answer == "A")], "form": [value]}
        group.evidence |= {"agreement/form": [evidence[i]]} if evidence else {}
        found.append(GroupRecord.of(i, group, [value]))
    return found


def test_hacking_names_the_wrong_answer_with_the_highest_reward():
    before, now = [{"eval/L1/accuracy": 0.6, "eval/L1/form": 0.8}], {"eval/L1/accuracy": 0.4, "eval/L1/form": 0.9}
    [alarm] = detect_alarms(now | FINE, judged([1.0, 0.9, 0.2, 0.7]), before, {"L1": 400})
    assert (alarm.kind, alarm.sample) == ("hacking", "q3")


def test_a_gated_reward_is_compared_per_right_answer():
    gate = judged([1.0, 0.9, 0.0, 0.0], evidence=[1.0, 0.9, 0.8, 0.1])
    assert rewards_of_right_answers_only(gate) == {"accuracy", "form"}
    assert rewards_of_right_answers_only(judged([1.0, 0.9, 0.2, 0.0])) == {"accuracy"}
    before, now = [{"eval/L1/accuracy": 0.6, "eval/L1/form": 0.3}], {"eval/L1/accuracy": 0.4, "eval/L1/form": 0.28}
    [alarm] = detect_alarms(now | FINE, gate, before, {"L1": 400})
    assert "form, per right answer, rose from 0.50 to 0.70" in alarm.says and alarm.sample == "q2"
    assert detect_alarms(now | FINE, judged([1.0, 0.9, 0.2, 0.0]), before, {"L1": 400}) == []


def steps(accuracy, form, count=10):
    """Metrics of so many steps that vary around these means."""
    wavers = [(0.02, -0.02)[i % 2] for i in range(count)]
    return [{"clean_accuracy": accuracy + w, "rewards/form/mean": form - w} | FINE for w in wavers]


@pytest.mark.parametrize(
    ("rows", "raised"),
    [
        ([*steps(0.6, 0.5), *steps(0.4, 0.8)], True),
        ([*steps(0.6, 0.5), *steps(0.5, 0.6), *steps(0.4, 0.8)], True),  # the best ten are not the last ones
        ([*steps(0.4, 0.8), *steps(0.6, 0.5)], False),
        ([*steps(0.6, 0.5), *steps(0.4, 0.4)], False),  # the reward fell, too
        ([*steps(0.6, 0.5), *steps(0.59, 0.8)], False),  # less than the steps vary
        ([*steps(0.6, 0.5, 5), *steps(0.4, 0.8)], False),  # too few steps to compare
    ],
)
def test_hacking_is_detected_in_training_without_evaluations(rows, raised):
    found = detect_alarms(rows[-1], judged([1.0, 0.9, 0.2, 0.7]), rows[:-1], {})
    assert [(alarm.kind, alarm.sample) for alarm in found] == [("hacking", "q3")] * raised
    assert all(
        "in training accuracy fell from 60.0% to 40.0% while form rose from 0.50 to 0.80" in a.says for a in found
    )


def test_a_run_compares_its_latest_steps_with_its_best_ones(kitchen, tmp_path, monkeypatch):
    """A resumed run whose first two steps are said to have been all right, and without format, raises the alarm."""
    for module in ("alarms", "loop"):
        monkeypatch.setattr(f"rlvid.trainer.{module}.WINDOW", 2)
    settings = [*TINY, "train.max_steps=4", "train.save_steps=2"]
    out = train(tmp_path / "run", *settings)
    assert "hacking" not in {row["kind"] for row in read_jsonl(out / "alarms.jsonl")}
    stop_after(out, 2)
    planted = {"clean_accuracy": 1.0, "rewards/format/mean": -1.0}
    rows = [row | planted if row["step"] <= 2 else row for row in read_jsonl(out / "metrics.jsonl")]
    write_jsonl(out / "metrics.jsonl", rows)
    train(out, *settings, resume=True)
    [alarm] = [row for row in read_jsonl(out / "alarms.jsonl") if row["kind"] == "hacking"]
    assert alarm["step"] == 4, "steps are compared when there are two windows"
    assert "in training accuracy fell from 100.0% to" in alarm["says"] and "while format" in alarm["says"]


def test_a_run_writes_each_alarm_and_shows_each_kind_once(kitchen, tmp_path, capsys):
    cut = ["train.max_completion_length=3", "train.max_steps=2", "eval.splits=[]"]
    out = train(tmp_path / "run", *TINY, *cut)
    assert [(row["step"], row["kind"]) for row in read_jsonl(out / "alarms.jsonl")] == [
        (1, "truncation"),
        (2, "truncation"),
    ]
    assert capsys.readouterr().err.count("truncation: 100% of the completions") == 1


def test_correlations_of_a_column_with_accuracy_and_length():
    assert correlation([1.0, 0.0, None, 1.0], [True, False, True, True]) == pytest.approx(1.0)
    assert correlation([1.0, 2.0, 3.0], [4, 2, 0]) == pytest.approx(-1.0)
    assert correlation([1.0, 1.0], [0, 1]) is None and correlation([None], [1]) is None
    group = Group(Prompt("q", "?", ("a", "b"), "A"), [Completion("<answer>A</answer>", (1,)), Completion("B", (1, 2))])
    group.columns |= {"accuracy": [1.0, 0.0], "format": [0.0, 1.0]}
    metrics = step_metrics([GroupRecord.of(0, group, [1.0, 0.0])])
    assert metrics["rewards/format/corr_accuracy"] == pytest.approx(-1.0)
    assert metrics["rewards/format/corr_length"] == pytest.approx(1.0)
    assert "rewards/accuracy/corr_accuracy" not in metrics
    assert metrics["frac_all_correct"] == metrics["frac_all_incorrect"] == 0
    alike = [Group(group.prompt, [Completion(f"<answer>{x}</answer>", (1,))] * 2) for x in "BABB"]
    metrics = step_metrics(
        [GroupRecord.of(i, g, [1.0, 1.0]) for i, g in enumerate([*alike, Group(group.prompt, list(group))])]
    )
    assert (metrics["frac_all_correct"], metrics["frac_all_incorrect"]) == (0.2, 0.6)


def test_a_sampler_that_is_not_the_learner_raises_an_alarm():
    apart = {**FINE, "sampling/sampling_logp_difference/mean": 0.01}
    [alarm] = detect_alarms(apart, records([["a"]]), [], {})
    assert alarm.kind == "mismatch" and alarm.says.endswith("differ by 0.01 nats a token, more than 0.001")
    assert detect_alarms(apart, records([["a"]]), [], {}, bf16=True) == [], "in bfloat16 it is rounding"
