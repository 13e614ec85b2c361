"""How many runs succeed: exact intervals and tests, which runs count, and how a report tells it."""

import json
import re
from math import comb

import numpy as np
import pytest

from rlvid.errors import UserError
from rlvid.grids import Grid
from rlvid.study.page import save_page
from rlvid.study.report import build_report
from rlvid.study.study import read_study
from rlvid.study.success_figure import success_figure
from rlvid.study.successes import boschloo_p, chance
from tests.helpers.reports import ROOT, printed_report, write_grid, write_run

LEARNT, NOT_LEARNT = "1110" * 25, "0001" * 25  # 75 and 25 % of 100 questions right


def fisher_p(a, m, b, n):
    """The one-sided p of Fisher's test that the first chance is larger."""
    tables = range(max(0, a + b - n), min(m, a + b) + 1)
    return sum(comb(m, i) * comb(n, a + b - i) for i in tables if i >= a) / comb(m + n, a + b)


def largest_probability(a, m, b, n):
    """Boschloo's one-sided p by its definition: the largest probability of as small a p of Fisher's test."""
    chances = np.linspace(0, 1, 2001)
    total = np.zeros_like(chances)
    for i in range(m + 1):
        for j in range(n + 1):
            if fisher_p(i, m, j, n) <= fisher_p(a, m, b, n) * (1 + 1e-9):
                total += comb(m, i) * comb(n, j) * chances ** (i + j) * (1 - chances) ** (m + n - i - j)
    return total.max()


@pytest.mark.parametrize("counts", [(10, 10, 3, 10), (12, 12, 6, 12), (3, 3, 0, 3), (8, 10, 3, 7), (6, 6, 2, 6)])
def test_p_is_twice_the_largest_probability_of_such_a_table(counts):
    assert boschloo_p(*counts) == pytest.approx(2 * largest_probability(*counts), rel=1e-3)
    a, m, b, n = counts
    assert [boschloo_p(b, n, a, m), boschloo_p(m - a, m, n - b, n)] == pytest.approx([boschloo_p(*counts)] * 2)


@pytest.mark.parametrize("runs", [3, 6])
def test_the_error_rate_holds_for_every_chance(runs):
    """All tables of two arms with the same chance: those with p < .05 have a probability of at most .05."""
    ps = np.array([[boschloo_p(i, runs, j, runs) for j in range(runs + 1)] for i in range(runs + 1)])
    for share in np.linspace(0.05, 0.95, 19):
        of = np.array([comb(runs, i) * share**i * (1 - share) ** (runs - i) for i in range(runs + 1)])
        assert (np.outer(of, of) * (ps < 0.05)).sum() <= 0.05


def test_the_interval_of_the_chance_is_exact():
    """Its ends are the chances that make as many or more, or as few or fewer, successes 2.5 % likely."""
    ends = chance(7, 12)
    tail = [comb(12, i) * ends.low**i * (1 - ends.low) ** (12 - i) for i in range(7, 13)]
    head = [comb(12, i) * ends.high**i * (1 - ends.high) ** (12 - i) for i in range(8)]
    assert (sum(tail), sum(head)) == pytest.approx((0.025, 0.025), rel=1e-6)
    assert chance(10, 10).high == 1.0 and chance(10, 10).low == pytest.approx(0.025 ** (1 / 10))


def test_the_power_in_the_readme_is_computed():
    text = (ROOT / "rlvid/study/README.md").read_text().partition("## How many runs succeed")[2]
    rows = re.findall(r"^\| (\d+) \| (\d+) \((\d+)\) \| (\d+) \((\d+)\) \| (\d+) \((\d+)\) \|$", text, re.M)
    assert [int(seeds) for seeds, *_ in rows] == [5, 8, 12, 20]
    for seeds, *shown in rows:
        n, powers = int(seeds), []
        ps = np.array([boschloo_p(n, n, k, n) for k in range(n + 1)])
        for share in (0.25, 0.5, 0.75):
            of = np.array([comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)])
            powers += [round(100 * of[ps * family < 0.05].sum()) for family in (1, 4)]
        assert powers == [int(each) for each in shown]


def write_study(folder, learnt, threshold=0.5, seeds=10):
    """Write a base and, for each arm, `seeds` runs of which the first `learnt[arm]` answered three in four right."""
    cells = [("base", 0, "base", write_run(folder / "base", "train.max_steps=0", right=(NOT_LEARNT, NOT_LEARNT)))]
    for number, (arm, count) in enumerate(learnt.items()):
        for seed in range(seeds):
            name, marks = f"{arm}-{seed}", LEARNT if seed < count else NOT_LEARNT
            right = (marks, marks)
            id = write_run(folder / name, f"seed={seed}", f"data_seed={number}", right=right)
            cells.append((arm, seed, name, id))
    first, *others = learnt
    comparisons = [(first, "base"), *((arm, first) for arm in others)]
    write_grid(folder, cells, comparisons, control="base", unseeded=["base"], success_threshold=threshold)


def test_runs_above_the_threshold_are_counted_and_compared(tmp_path):
    write_study(tmp_path, {"clean": 10, "few": 9, "half": 5, "all": 0})
    report = build_report(read_study(tmp_path))
    assert [(row.arm, row.successes, row.runs) for row in report.successes] == [
        ("clean", 10, 10),
        ("few", 9, 10),
        ("half", 5, 10),
        ("all", 0, 10),
    ]
    rows = {row.a: row for row in report.success_differences}
    assert rows.keys() == {"few", "half", "all"}, "the base depends on no seed"
    assert [row.verdict for row in rows.values()] == ["undecided", "less often", "less often"]
    ps = [boschloo_p(10, 10, count, 10) for count in (9, 5, 0)]
    assert [row.p for row in rows.values()] == pytest.approx([ps[0], 2 * ps[1], 3 * ps[2]])  # Holm
    assert rows["half"].difference == -0.5


def test_a_report_tells_them_and_exports_them(tmp_path):
    write_study(tmp_path, {"clean": 5, "all": 0}, seeds=5)
    text = " ".join(printed_report(tmp_path).split())
    assert "How many runs succeed" in text and "5 of 5" in text and "0 of 5" in text
    assert "is above 0.5, a threshold that was named before the runs" in text
    assert "less often" in save_page(tmp_path, tmp_path / "page.html").read_text()
    sections = json.loads(build_report(read_study(tmp_path)).to_json())["sections"]
    assert sections["successes"][1]["chance_high"] == pytest.approx(1 - 0.025 ** (1 / 5))


def test_only_runs_that_answered_all_levels_count(tmp_path):
    write_study(tmp_path, {"clean": 3, "noisy": 3}, seeds=3)
    (tmp_path / "noisy-2/eval/L2.jsonl").unlink()
    report = build_report(read_study(tmp_path))
    assert [(row.successes, row.runs) for row in report.successes] == [(3, 3), (2, 2)]


def test_without_a_threshold_nothing_is_counted(tmp_path):
    write_study(tmp_path, {"clean": 2, "noisy": 0}, threshold=None, seeds=2)
    assert build_report(read_study(tmp_path)).successes == []
    assert "How many runs succeed" not in printed_report(tmp_path)


def test_a_picture_shows_how_many_runs_succeed_and_where_each_ends(tmp_path):
    cells, learnt = [], {0: 3, 20: 1, 30: 0}
    for dose, count in learnt.items():
        for seed in range(3):
            name, marks = f"{dose}-{seed}", LEARNT if seed < count else NOT_LEARNT
            id = write_run(tmp_path / name, f"seed={seed}", f"data_seed={dose}", right=(marks,))
            cells.append((f"{dose} % wrong", seed, name, id, {"dose": f"{dose} % wrong"}))
    write_grid(tmp_path, cells, success_threshold=0.5)
    chances, ends = success_figure(read_study(tmp_path)).together().axes
    (line,) = [each for each in chances.lines if each.get_marker() == "o"]
    assert np.allclose(line.get_xydata(), [[0, 100], [20, 100 / 3], [30, 0]])
    dots = {tuple(each.get_xdata()): sorted(each.get_ydata()) for each in ends.lines if each.get_marker() == "o"}
    assert dots == {(0,) * 3: [75] * 3, (20,) * 3: [25, 25, 75], (30,) * 3: [25] * 3}
    assert chances.get_title() == "runs above 50 %"
    assert "successes.png" in printed_report(tmp_path, plots=True)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_runs_far_apart_are_told_where_no_threshold_was_named(tmp_path, threshold):
    write_study(tmp_path, {"clean": 3, "noisy": 1}, threshold, seeds=3)
    rows = build_report(read_study(tmp_path)).splits
    assert [(row.arm, row.below, row.low, row.high) for row in rows] == [("noisy", 2, 0.25, 0.75)][: threshold is None]
    words = "noisy: 2 of 3 at 25.0 or less, the others from 75.0 on"
    assert (words in " ".join(printed_report(tmp_path).split())) is (threshold is None)


def test_the_threshold_is_part_of_the_plan(tmp_path, capsys):
    grid = Grid(
        name="g",
        question="?",
        seeds=(0,),
        control="base",
        arms={"base": {"train.max_steps": 0}, "grpo": {}},
        unseeded=("base",),
        success_threshold=0.4,
    )
    assert grid.main(["--out", str(tmp_path), "--dry-run"]) == 0
    assert "a run succeeds above 0.4" in " ".join(capsys.readouterr().out.split())
    assert grid.main(["--out", str(tmp_path), "--until", "decided"]) == 2
    assert "success_threshold= counts runs once" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["0.4", True])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    grid = Grid(name="g", question="?", seeds=(0,), control="a", arms={"a": {}}, success_threshold=threshold)
    with pytest.raises(UserError, match="success_threshold must be a number"):
        grid.cells("nano")
