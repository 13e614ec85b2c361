"""The first lines of a report: whether positive and negative controls came out."""

import json

import pytest

from rlvid.errors import UserError
from rlvid.grids import Grid
from rlvid.study.contrasts import NO_LOOK, ONE_SEED, UNDECIDED
from rlvid.study.controls import _came_out
from rlvid.study.page import save_page
from rlvid.study.report import build_report
from rlvid.study.stats import Interval
from rlvid.study.study import read_study
from rlvid.utils.files import write_text
from tests.helpers.reports import printed_report, write_grid, write_run

BASE = "01" * 100
BETTER = "11" * 60 + "01" * 40
SIMILAR = "0110" + "01" * 98


def write_study(folder, oracle, random, seeds=(0, 1)):
    """Write one run per seed each of a control arm, an oracle and a random reward, with these answers on L1.

    A list has the answers of each seed.
    """
    cells = []
    for number, (arm, right) in enumerate({"plain": BASE, "oracle": oracle, "random": random}.items()):
        for i, seed in enumerate(seeds):
            marks = right if isinstance(right, str) else right[i]
            name = f"{arm}-{seed}"
            id = write_run(folder / name, f"seed={seed}", f"data_seed={number}", right=(marks,))
            cells.append((arm, seed, name, id))
    comparisons = [("oracle", "plain"), ("random", "plain")]
    controls = {"positive_controls": comparisons[:1], "negative_controls": comparisons[1:]}
    write_grid(folder, cells, comparisons, **controls)


def rows(folder):
    return [(row.kind, row.a, row.came_out) for row in build_report(read_study(folder)).controls]


def test_controls_that_come_out_are_said_first(tmp_path):
    write_study(tmp_path, oracle=BETTER, random=SIMILAR)
    assert rows(tmp_path) == [("positive", "oracle", True), ("negative", "random", True)]
    text = printed_report(tmp_path)
    assert "All controls came out: the other comparisons can be read." in text
    assert text.index("All controls came out") < text.index("seeds")
    page = save_page(tmp_path, tmp_path / "page.html").read_text()
    assert page.index("All controls came out") < page.index('id="comparisons"') < page.index('id="accuracy"')


@pytest.mark.parametrize(
    ("oracle", "random", "expected"),
    [(SIMILAR, SIMILAR, [False, True]), (BETTER, BETTER, [True, False]), (BETTER, "0" * 200, [True, True])],
)
def test_a_control_that_does_not_come_out_makes_the_rest_unreadable(tmp_path, oracle, random, expected):
    write_study(tmp_path, oracle, random)
    assert [came_out for _, _, came_out in rows(tmp_path)] == expected
    assert ("The other comparisons cannot be read" in printed_report(tmp_path)) == (not all(expected))


def test_a_negative_control_does_not_come_out_by_ignorance(tmp_path):
    """Its two seeds are 40 points apart: the interval leaves room for a gain, so that it is not known."""
    write_study(tmp_path, oracle=BETTER, random=["1" * 40 + "01" * 80, BASE])
    positive, negative = build_report(read_study(tmp_path)).controls
    assert negative.verdict == "undecided" and negative.difference.high > 0.2
    assert (positive.came_out, negative.came_out) == (True, None)
    text = " ".join(printed_report(tmp_path).split())
    assert "a negative control could not show that it is not better" in text
    assert "All controls came out" not in text and "cannot be read" not in text


@pytest.mark.parametrize(
    ("kind", "verdict", "ends", "came_out"),
    [
        ("negative", UNDECIDED, (-0.01, 0.0299), True),
        ("negative", UNDECIDED, (-0.01, 0.03), None),  # the margin itself is room for a gain
        ("negative", "worse", (-0.09, -0.05), True),
        ("negative", "better", (0.01, 0.02), False),  # better, though by less than the margin
        ("negative", NO_LOOK, (-0.01, 0.01), None),
        ("negative", ONE_SEED, (-0.01, 0.01), None),
        ("negative", "", None, None),
        ("positive", "better", (0.01, 0.02), True),
        ("positive", UNDECIDED, (-0.01, 0.09), False),
        ("positive", NO_LOOK, (0.01, 0.09), None),
    ],
)
def test_what_comes_out_by_verdict_and_interval(kind, verdict, ends, came_out):
    assert _came_out(kind, verdict, ends and Interval(sum(ends) / 2, *ends), 0.03) is came_out


def test_a_negative_control_that_is_not_known_does_not_excuse_a_positive_one(tmp_path):
    write_study(tmp_path, oracle=SIMILAR, random=["1" * 40 + "01" * 80, BASE])
    assert [came_out for _, _, came_out in rows(tmp_path)] == [False, None]
    assert "The other comparisons cannot be read" in printed_report(tmp_path)


def test_a_control_that_has_not_run_makes_the_rest_unreadable(tmp_path):
    write_study(tmp_path, oracle=BETTER, random=SIMILAR)
    for seed in (0, 1):
        status = tmp_path / f"oracle-{seed}" / "status.json"
        write_text(status, json.dumps(json.loads(status.read_text()) | {"state": "running"}))
    assert rows(tmp_path) == [("positive", "oracle", None), ("negative", "random", True)]
    text = printed_report(tmp_path)
    assert "not compared" in text and "The other comparisons cannot be read" in text


def test_a_study_without_controls_says_nothing_of_them(study_folder):
    assert build_report(read_study(study_folder)).controls == []
    assert "ontrols came out" not in printed_report(study_folder)


def test_a_control_must_be_a_comparison():
    grid = Grid("g", "Does it?", (0,), "base", arms={"base": {}, "new": {}}, positive_controls=(("base", "new"),))
    with pytest.raises(UserError, match=r"positive_controls names \('base', 'new'\), .* add it to comparisons=, too"):
        grid.cells("nano")


def test_one_seed_says_nothing_of_controls(tmp_path):
    write_study(tmp_path, oracle=BETTER, random=SIMILAR, seeds=(0,))
    assert [came_out for _, _, came_out in rows(tmp_path)] == [None, None]
    assert "not known" in printed_report(tmp_path)


def test_the_exact_test_of_accuracy_is_not_shown_beside_another_endpoint(tmp_path):
    write_study(tmp_path, oracle=BETTER, random=SIMILAR)
    assert all(row.p_these_runs is not None for row in build_report(read_study(tmp_path)).comparisons)
    about = json.loads((tmp_path / "grid.json").read_text())
    write_text(tmp_path / "grid.json", json.dumps(about | {"endpoint": "format"}))
    assert all(row.p_these_runs is None for row in build_report(read_study(tmp_path)).comparisons)
