"""The figure of the endpoint against accuracy."""

import pytest

from rlvid.study.plots import make_figures
from rlvid.study.study import read_study
from rlvid.study.tradeoff import endpoint_and_accuracy, tradeoff_figure
from tests.helpers.reports import edit_answers, grid_cells, write_grid


def test_each_seed_and_each_arm_stands_at_its_means_over_levels(study_folder):
    """Of grpo with seed 0 every second answer has the format on L1, and all that nine in ten have on L2."""
    half_formatted = lambda index, row: row | {"rewards/format": float(index % 2)}  # noqa: E731
    edit_answers(study_folder / "a0" / "eval" / "L1.jsonl", half_formatted)
    write_grid(study_folder, grid_cells(study_folder), endpoint="format")
    study = read_study(study_folder)
    assert endpoint_and_accuracy(study, "base").tolist() == [[pytest.approx(45), pytest.approx(90)]]
    expected = [[pytest.approx(55), pytest.approx(70)], [pytest.approx(57), pytest.approx(90)]]
    assert endpoint_and_accuracy(study, "grpo").tolist() == expected

    panel = tradeoff_figure(study).axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert drawn["grpo"] == [[pytest.approx(56), pytest.approx(80)]] and expected in list(drawn.values())
    assert panel.get_xlabel().startswith("accuracy") and panel.get_ylabel().startswith("format")
    assert "tradeoff" in make_figures(study)


def test_without_another_endpoint_there_is_none(study_folder):
    study = read_study(study_folder)
    assert study.endpoint == "accuracy" and tradeoff_figure(study) is None and "tradeoff" not in make_figures(study)
