"""How reports look: they fit a terminal, are plain when piped, show names as they are, and draw figures."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rlvid.study.stats import Interval, accuracy_interval
from rlvid.study.strip import draw_strip
from rlvid.study.study import read_study
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.reports import ROOT, grid_cells, printed_report, write_arms, write_grid, write_run


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_shows_everything(study_folder, width):
    base, *grpo = grid_cells(study_folder)
    renamed = [("[red]grpo[/red] $x^$, 30 % flipped", *cell) for _, *cell in grpo]
    comparisons = [(renamed[0][0], "base")]
    write_grid(study_folder, [base, *renamed, ("new", 0, "n", "0")], comparisons, question="[bold]Does it[/] help?")
    text = printed_report(study_folder, width, plots=True)
    tables = text[: text.index("picture ")]
    assert max(map(len, tables.splitlines())) <= width and "…" not in text
    words = " ".join(tables.split())
    for shown in ("[bold]Does it[/] help?", "[red]grpo[/red]", "$x^$,", "+22.0", "undecided", "not started"):
        assert shown in words
    assert ("━●" in tables) == (width == 100), "where there is room, intervals are drawn"


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_five_levels_and_long_names_fit(study_folder, width):
    for path in study_folder.glob("*/eval/L1.jsonl"):
        rows = [row | {"domain": f"Domain {i % 6}"} for i, row in enumerate(read_jsonl(path))]
        for name in ("15s", "60s", "600s"):
            write_jsonl(path.with_stem(name), rows)
    base, *grpo = grid_cells(study_folder)
    long_name = "sft, as many prompts, 100 % of data"
    write_grid(study_folder, [base, *((long_name, *cell) for _, *cell in grpo)], [(long_name, "base")])
    text = printed_report(study_folder, width)
    tables = text[: text.index("run folders")]
    assert max(map(len, tables.splitlines())) <= width and "…" not in text
    for level in ("L1", "L2", "15s", "60s", "600s"):
        assert f"{level} n=100" in tables
    interval = accuracy_interval(read_study(study_folder).column(long_name, "L1", "correct"))
    ends = f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"
    assert tables.count(ends) == 4, "intervals are complete: of L1, and of three levels with the same answers"
    assert tables.count("Domain 5") == 3 and tables.count("n=16") == 6, "16 of 100 questions are in the fifth domain"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_name_of_a_level_pushes_a_column_out(tmp_path, width):
    levels = ("videomme_long_w_subtitles", "longvideobench_val_v_600s", "mvbench [action] localization")
    cells = write_arms(tmp_path, {"plain": 30, "grounded": 60})
    for folder in sorted(tmp_path.glob("*/eval")):
        rows = [row | {"domain": f"{i % 2} " + "long " * 16} for i, row in enumerate(read_jsonl(folder / "L1.jsonl"))]
        rows = [row | {"rewards/consistency_rule": 0.5} for row in rows]
        for level in levels:
            write_jsonl(folder / f"{level}.jsonl", rows)
    write_grid(tmp_path, cells, [("grounded", "plain")])
    text = printed_report(tmp_path, width)
    tables = text[: text.index("run folders")]
    assert max(map(len, tables.splitlines())) <= width and "…" not in text
    for level in levels:
        assert f"{level} n=100" in tables, "the heading is whole"
    accuracies = tables[tables.index("\narm ") : tables.index("\nEach accuracy")]
    assert accuracies.count("\nplain ") == accuracies.count("\narm ") >= 1, "each table names its arms"
    measured = tables[tables.index("\nconsistency_rule ") : tables.index("\nMeans have 95 %")]
    assert measured.count("0.50 to 0.50") == 2 * len(levels) and "\nplain " in measured


def test_the_folder_is_printed_as_it_is(study_folder):
    folder = study_folder.rename(study_folder.with_name("a [red]folder"))
    assert f"run folders  {folder}\n" in printed_report(folder)


@pytest.mark.parametrize(
    ("interval", "drawn"),
    [
        (Interval(0.5, 0.25, 0.75), "    │━●━ "),
        (Interval(0.0, -0.5, 0.5), "  ━━●━━  "),
        (Interval(-0.25, -0.5, 0.25), "  ━●┿━   "),
        (Interval(1.0, 1.0, 1.0), "    │   ●"),
    ],
)
def test_a_strip_is_to_scale(interval, drawn):
    assert draw_strip(interval, 1.0, width=9) == drawn


def test_a_piped_report_is_plain_and_complete(study_folder):
    name = "an arm whose name is longer than any terminal would like to have it in one column of a table"
    base, *others = grid_cells(study_folder)
    write_grid(study_folder, [base, *((name, *cell) for _, *cell in others)], [(name, "base")])
    command = [sys.executable, "-m", "rlvid", "report", study_folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and "…" not in done.stdout
    words = " ".join(done.stdout.split())
    assert "62.0" in words and all(word in words for word in name.split())
    assert f"picture      {study_folder / 'plots' / 'curves.png'} and .pdf" in done.stdout


def test_figures_show_each_arm_that_explores(study_folder):
    right = ("10" * 50, "10" * 50)
    sft = write_run(study_folder / "s", "algorithm=sft", right=right, rewards=[1.0] * 60, groups_differ=False)
    write_grid(study_folder, [*grid_cells(study_folder), ("sft", 0, "s", sft)])
    printed_report(study_folder, plots=True)
    paths = [study_folder / "plots" / f"{name}.png" for name in ("curves", "accuracy")]
    curves, accuracies = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in paths)

    def pixels(figure, color):
        return (abs(figure - color).max(-1) < 8).sum()

    blue, orange, green = (0, 114, 178), (213, 94, 0), (0, 158, 115)  # base, grpo, sft
    assert all(pixels(accuracies, color) for color in (blue, orange, green)), "every arm has its accuracy"
    assert pixels(curves, orange) > 500 and not pixels(curves, green) and not pixels(curves, blue)


def test_the_report_starts_without_heavy_imports():
    heavy = "{'torch', 'transformers', 'matplotlib', 'scipy.stats'}"
    code = f"import rlvid.study.report, rlvid.grids.grid, rlvid.study.stats, sys; assert not {heavy} & set(sys.modules)"
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert seconds < 3, "of CPU time: about 0.5 s on a fast machine, and no more on a busy one"


def test_with_one_level_no_error_rate_is_kept_for_single_levels(tmp_path):
    cells = [
        (arm, seed, f"{arm}{seed}", write_run(tmp_path / f"{arm}{seed}", f"seed={seed}", right=(marks,)))
        for arm, marks in (("a", "10" * 50), ("b", "1110" * 25))
        for seed in (0, 1)
    ]
    write_grid(tmp_path, cells, [("b", "a")])
    words = "half of the error rate is for all levels"
    assert words not in " ".join(printed_report(tmp_path).split())
    for path in tmp_path.glob("*/eval/L1.jsonl"):
        write_jsonl(path.with_stem("L2"), read_jsonl(path))
    assert words in " ".join(printed_report(tmp_path).split())
