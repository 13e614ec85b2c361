"""Planned interactions: by hand, in the family of the comparisons, in the tables and in the rows."""

import csv
import json
from io import StringIO

import pytest

from rlvid.api import report
from rlvid.study.comparison import compare_arms, compare_interactions, fit_seed_model, planned_contrasts
from rlvid.study.report import build_report
from rlvid.study.sequential import AdaptiveGrid
from rlvid.study.study import read_study
from rlvid.utils.files import write_text
from tests.helpers.reports import printed_report, write_arms, write_grid

RIGHT = {"grpo, clean": 80, "grpo, noisy": 60, "ppo, clean": 78, "ppo, noisy": 24}  # of 100 on each level
PLANNED = ("ppo, clean", "ppo, noisy", "grpo, clean", "grpo, noisy")


@pytest.fixture
def grid_folder(tmp_path):
    """Four arms with two seeds and one planned comparison; seed 1 has one more right answer than seed 0."""
    write_grid(tmp_path, write_arms(tmp_path, RIGHT), [("ppo, clean", "grpo, clean")], interactions=[PLANNED])
    return tmp_path


def test_an_interaction_is_the_difference_of_two_differences(grid_folder):
    study = read_study(grid_folder)
    model = fit_seed_model(study)
    [row] = compare_interactions(study, model)
    assert row.difference.value == pytest.approx((0.78 - 0.24) - (0.80 - 0.60))
    assert (row.a, row.a_changed, row.b, row.b_changed) == PLANNED and row.condition == "all levels"
    assert row.verdict == "costs more" and row.p < 0.05
    contrast = model.contrast({"ppo, clean": 1, "ppo, noisy": -1, "grpo, clean": -1, "grpo, noisy": 1})
    ends = contrast.interval(0.05 / 2 / 2)
    assert (row.difference.low, row.difference.high) == pytest.approx(ends), "half of 5 % for two on all levels"


def test_interactions_belong_to_the_family_of_the_comparisons(grid_folder):
    study = read_study(grid_folder)
    model = fit_seed_model(study)
    rows = compare_arms(study, model)
    assert [row.condition for row in rows] == ["all levels", "L1", "L2"], "an interaction has no single levels"
    about = json.loads((grid_folder / "grid.json").read_text())
    (grid_folder / "grid.json").write_text(json.dumps(about | {"interactions": []}))
    alone = compare_arms(read_study(grid_folder), model)
    widths = [row.difference.high - row.difference.low for row in rows]
    widths_alone = [row.difference.high - row.difference.low for row in alone]
    assert widths[0] > widths_alone[0] and widths[1:] == pytest.approx(widths_alone[1:])


def test_an_interaction_without_finished_runs_is_left_out(grid_folder):
    about = json.loads((grid_folder / "grid.json").read_text())
    for cell in about["cells"]:
        if cell["arm"] == "ppo, noisy":
            cell["id"] = "another"
    (grid_folder / "grid.json").write_text(json.dumps(about))
    study = read_study(grid_folder)
    assert compare_interactions(study, fit_seed_model(study)) == []


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_of_interactions_fits(grid_folder, width):
    text = printed_report(grid_folder, width)
    tables = text.split("run folders")[0]
    assert max(map(len, tables.splitlines())) <= width and "…" not in text
    part = tables[tables.index("\nInteractions: ") :]
    words = " ".join(part.split())
    assert "ppo, clean to ppo, noisy against grpo, clean to grpo, noisy" in words
    assert "+34.0" in words and "costs more" in words
    assert "The 4 intervals hold all together" in " ".join(text.split())


def test_interactions_are_exported(grid_folder):
    result = report(grid_folder, plots=False)
    [row] = json.loads(result.to_json())["sections"]["interactions"]
    assert (row["a"], row["a_changed"], row["b"], row["b_changed"]) == PLANNED
    assert row["difference"] == pytest.approx(0.34) and row["difference_low"] > 0 and row["verdict"] == "costs more"
    table = list(csv.DictReader(StringIO(result.to_csv())))
    [written] = [line for line in table if line["section"] == "interactions"]
    assert written["a_changed"] == "ppo, noisy" and float(written["difference"]) == row["difference"]


def test_before_a_look_an_interaction_can_be_anything_that_accuracies_allow(grid_folder):
    state = AdaptiveGrid(planned_contrasts([], [PLANNED])).to_json()
    write_text(grid_folder / "adaptive.json", json.dumps(state))
    [row] = build_report(read_study(grid_folder)).interactions
    assert (row.difference.low, row.difference.high) == (-2, 2)


def test_an_equivalent_interaction_with_few_seeds_says_what_it_does_not_cover(tmp_path):
    cells = write_arms(tmp_path, dict.fromkeys(RIGHT, 60))
    write_grid(tmp_path, cells, interactions=[PLANNED], equivalence_margin=0.9)
    [row] = build_report(read_study(tmp_path)).interactions
    assert row.verdict == "equivalent within 90"
    assert "up to 78% of further runs may do so" in " ".join(printed_report(tmp_path).split())
