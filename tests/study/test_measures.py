"""Means of other rewards, on evaluations whose numbers are known."""

import pytest

from rlvid.study.measures import measure_difference_rows, measure_keys, measure_rows
from rlvid.study.study import read_study
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


def test_differences_from_the_control_are_paired(study):
    [row] = measure_difference_rows(study, "rewards/grounding")
    ends = (row.difference.value, row.difference.low, row.difference.high)
    assert (row.arm, row.control) == ("grounded", "plain")
    assert ends == pytest.approx((0.4, 0.4, 0.4)), "the same questions, each 0.4 more"


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
