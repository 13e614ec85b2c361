"""Means of other rewards, on evaluations whose numbers are known."""

import json

import numpy as np
import pytest

from rlvid.study.measures import measure_difference_rows, measure_keys, measure_rows
from rlvid.study.report import build_report
from rlvid.study.seed_model import SeedModel
from rlvid.study.study import read_study
from rlvid.utils.files import write_text
from tests.helpers.reports import edit_answers, printed_report, write_grid, write_run


def write_measured_run(folder, values):
    """Write a run on 200 questions of L1 with `values[i % len(values)]` as the reward `grounding` of question i.

    Its reward `consistency_x` is 0 behind its gate, and its agreement is 0.9.
    """
    id = write_run(folder, f"seed={folder.name[-1]}", right=("10" * 100,))
    consistency = {"rewards/consistency_x": 0.0, "evidence": {"agreement/consistency_x": [0.9]}}
    edit_answers(
        folder / "eval/L1.jsonl",
        lambda i, row: row | {"video": f"v{i}", "rewards/grounding": values[i % len(values)]} | consistency,
    )
    return id


@pytest.fixture
def study(tmp_path):
    cells = []
    for arm, values in (("plain", [0.2, 0.4, None]), ("grounded", [0.6, 0.8, None])):
        for seed in (0, 1):
            folder = tmp_path / f"{arm}{seed}"
            cells.append((arm, seed, folder.name, write_measured_run(folder, values)))
    write_grid(tmp_path, cells, [["grounded", "plain"]])
    return read_study(tmp_path)


def test_means_leave_out_questions_to_which_a_reward_does_not_apply(study):
    assert measure_keys(study) == ["rewards/grounding", "rewards/consistency_x"]
    plain, grounded = measure_rows(study, "rewards/grounding")
    assert (plain.measure, plain.arm, plain.level) == ("grounding", "plain", "L1")
    assert (plain.mean.value, grounded.mean.value) == pytest.approx((0.3, 0.7))
    half_width = 1.96 * 0.1 / 134**0.5
    assert (plain.mean.low, plain.mean.high) == pytest.approx((0.3 - half_width, 0.3 + half_width), abs=0.002)


def test_differences_from_the_control_have_the_interval_of_the_model_of_seeds(study):
    [row] = measure_difference_rows(study, "rewards/grounding")
    assert (row.arm, row.control) == ("grounded", "plain")
    ends = (row.difference.value, row.difference.low, row.difference.high)
    asked = [i for i in range(200) if i % 3 < 2]  # questions to which the reward applies
    scores = {
        arm: {"L1": np.array([[values[i % 3] for i in asked]] * 2)}
        for arm, values in (("plain", (0.2, 0.4)), ("grounded", (0.6, 0.8)))
    }
    model = SeedModel.fit(scores)
    assert ends == pytest.approx((0.4, *model.contrast({"grounded": 1, "plain": -1}).interval(0.05)))
    assert 0.01 < row.difference.low < 0.39, "two runs that agree do not show that the next ones do"


def test_other_runs_move_the_interval_of_a_difference(study, tmp_path):
    """Runs of one arm that lie 0.2 apart widen it: the bootstrap of two seeds that share ids did not see new seeds."""
    [before] = measure_difference_rows(study, "rewards/grounding")
    edit_answers(
        tmp_path / "grounded1/eval/L1.jsonl",
        lambda i, row: row if row["rewards/grounding"] is None else row | {"rewards/grounding": 0.5},
    )
    [after] = measure_difference_rows(read_study(tmp_path), "rewards/grounding")
    assert after.difference.value == pytest.approx(0.3)
    assert after.difference.high - after.difference.low > 1.5 * (before.difference.high - before.difference.low)


def test_values_on_another_scale_have_another_interval_and_the_same_shape(study, tmp_path):
    """Ten times the values are ten times the difference, and an interval beyond 1 is not cut."""
    for path in tmp_path.glob("*/eval/L1.jsonl"):
        edit_answers(path, lambda i, row: row | {"rewards/grounding": (row["rewards/grounding"] or 0) * 10})
    [row] = measure_difference_rows(read_study(tmp_path), "rewards/grounding")
    assert row.difference.value == pytest.approx(4 * 134 / 200, rel=0.01)
    assert row.difference.high - row.difference.value == pytest.approx(row.difference.value - row.difference.low)


def test_a_reward_for_consistency_is_reported_without_its_gate(study):
    means = [row.mean.value for row in measure_rows(study, "rewards/consistency_x")]
    assert means == pytest.approx([0.9, 0.9]), "behind the gate it is 0"


def test_a_run_that_answered_other_questions_does_not_break_the_difference(study, tmp_path):
    edit_answers(tmp_path / "plain1" / "eval/L1.jsonl", lambda i, row: row | {"id": f"{row['id']}x"})
    [row] = measure_difference_rows(read_study(tmp_path), "rewards/grounding")
    assert row.difference.value == pytest.approx(0.4)


def test_the_printed_report_shows_the_difference(study, tmp_path):
    text = printed_report(tmp_path, width=100)
    assert "all levels, minus plain" in text and "+0.40" in text
    assert "plain 95 % interval of the model of seeds" in " ".join(text.split())


def test_an_endpoint_leaves_out_the_questions_that_no_run_has_a_value_for(study, tmp_path):
    """A third of the questions has none: as zeros they would make the difference 0.27 instead of 0.4."""
    about = json.loads((tmp_path / "grid.json").read_text())
    write_text(tmp_path / "grid.json", json.dumps(about | {"endpoint": "grounding"}))
    report = build_report(read_study(tmp_path))
    [row], [measured] = report.comparisons, [x for x in report.measure_differences if x.measure == "grounding"]
    assert row.difference.value == pytest.approx(0.4) == measured.difference.value
    assert [(x.arm, x.reason) for x in report.missing] == [
        ("grounding", "66 questions of L1 left out: no run has a value")
    ]
    assert "66 questions of L1 left out: no run has a value" in printed_report(tmp_path)


def test_a_value_that_only_some_runs_lack_counts_as_0(study, tmp_path):
    about = json.loads((tmp_path / "grid.json").read_text())
    write_text(tmp_path / "grid.json", json.dumps(about | {"endpoint": "grounding"}))
    for seed in (0, 1):
        path = tmp_path / f"grounded{seed}/eval/L1.jsonl"
        edit_answers(path, lambda i, row: row | {"rewards/grounding": None if i % 3 == 0 else row["rewards/grounding"]})
    [row] = build_report(read_study(tmp_path)).comparisons
    assert row.difference.value == pytest.approx((0 + 0.8) / 2 - (0.2 + 0.4) / 2, abs=0.01)


def test_a_reward_that_applies_to_no_question_in_all_runs_has_no_mean(study, tmp_path):
    for seed in (0, 1):
        path = tmp_path / f"grounded{seed}/eval/L1.jsonl"
        edit_answers(path, lambda i, row, seed=seed: row | {"rewards/grounding": 0.5 if i % 2 == seed else None})
    means = {row.arm: row.mean for row in measure_rows(read_study(tmp_path), "rewards/grounding")}
    assert means["grounded"] is None and means["plain"]
