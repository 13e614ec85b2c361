"""The numbers of printed reports on run folders whose right answers are known."""

import json
import xml.etree.ElementTree
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from rlvid.study.comparison import compare_arms, fit_seed_model
from rlvid.study.contrasts import difference
from rlvid.study.report import build_report
from rlvid.study.sequential import AdaptiveGrid
from rlvid.study.stats import permutation_test
from rlvid.study.study import STATE_FILE, read_study
from rlvid.study.tables import format_needed
from rlvid.utils.files import write_text
from tests.helpers.reports import (
    edit_answers,
    grid_cells,
    line_starting,
    printed_report,
    write_arms,
    write_grid,
    write_run,
)


def write_pair(folder, base_right, new_right):
    """Write a grid that compares one run of an arm "new" with one of an arm "base", on L1."""
    base_id = write_run(folder / "b", "seed=0", right=(base_right,))
    new_id = write_run(folder / "a", "seed=1", right=(new_right,))
    write_grid(folder, [("base", 0, "b", base_id), ("new", 1, "a", new_id)], [("new", "base")])


def test_the_table_of_accuracies_has_the_counts(study_folder):
    text = printed_report(study_folder)
    assert text.startswith("Does it help?") and "3 of 3 runs done" in text
    low, high = binomtest(40, 100).proportion_ci(method="wilson")
    assert line_starting(text, "base").split() == [
        *["base", "1", "40.0", f"{100 * low:.1f}–{100 * high:.1f}", "50.0", "40.4–59.6", "90%", "31"]
    ]
    assert line_starting(text, "grpo").split()[:3] == ["grpo", "2", "62.0"]
    assert line_starting(text, "best constant").split()[-2:] == ["50.0", "50.0"], "half of the right letters are A"
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("run folders"))


def compare(folder):
    """The rows of the comparisons of a study."""
    study = read_study(folder)
    return compare_arms(study, fit_seed_model(study))


def test_the_equivalence_margin_is_the_grids(study_folder):
    about = json.loads((study_folder / "grid.json").read_text())
    write_text(study_folder / "grid.json", json.dumps(about | {"equivalence_margin": 0.6}))
    text = printed_report(study_folder)
    assert "equivalent within 60" in text
    assert "it lies within 60 points of 0" in " ".join(text.split())


def test_a_comparison_is_on_all_levels_and_on_each(study_folder):
    both, first, second = compare(study_folder)
    assert [row.condition for row in (both, first, second)] == ["all levels", "L1", "L2"]
    assert both.difference.value == pytest.approx(0.11) and first.difference.value == pytest.approx(0.22)
    assert (second.difference.value, second.p) == (0.0, 1.0)
    assert (first.verdict, second.verdict) == ("better", "undecided")
    assert format_needed(first) == ("", "") and format_needed(second) == ("–", "–"), "nothing shows a difference of 0"
    study = read_study(study_folder)
    scores = [study.column(arm, "L1", "correct") for arm in ("grpo", "base")]
    assert first.p_these_runs == permutation_test(*scores, study.video_ids("L1"))
    text = printed_report(study_folder, 140)
    assert "+22.0" in text and "The 3 intervals hold all together" in " ".join(text.split())


def test_the_verdict_is_read_from_the_interval_and_agrees_with_p(study_folder):
    for row in compare(study_folder):
        excludes = not row.difference.low <= 0 <= row.difference.high
        assert excludes == (row.p < 0.05) == (row.verdict in ("better", "worse"))
        assert row.difference.low <= row.alone.low <= row.alone.high <= row.difference.high


def test_with_one_seed_everywhere_nothing_is_said_of_other_seeds(tmp_path):
    write_pair(tmp_path, "0" * 60 + "1" * 35 + "1" * 205, "1" * 60 + "0" * 35 + "1" * 205)
    text = printed_report(tmp_path, 140)
    assert "+8.3" in text and "one seed: these runs only" in line_starting(text, " all levels")
    assert ".013" in line_starting(text, " all levels"), "McNemar's exact p of these runs: 60 against 35"


def test_an_undecided_comparison_prints_what_it_needs(study_folder):
    for path in study_folder.glob("a*/eval/L1.jsonl"):
        edit_answers(path, lambda i, row: row | {"correct": i < 44})
    wide, narrow = printed_report(study_folder, 140), printed_report(study_folder, 80)
    line = line_starting(wide, " L1").split()
    assert line[-3] == "undecided" and (line[-2].startswith("+") or line[-2] == "–") and line[-1][0] in "x–"
    assert "undecided" in narrow and "p, these runs" not in narrow, "only where there is room"


def test_questions_about_one_video_are_one_cluster(study_folder):
    """Five videos of twenty questions, and all gains are in two of them: no evidence, however many the questions."""
    for path in study_folder.glob("*/eval/L1.jsonl"):
        edit_answers(path, lambda i, row: row | {"video": f"v{i // 20}"})
    _, first, _ = compare(study_folder)
    assert first.p_these_runs == 0.5, "two videos have equal signs with probability 1/2"
    assert first.verdict == "undecided"
    text = printed_report(study_folder)
    assert line_starting(text, "videos").split() == ["videos", "5", "100"]
    clustered, independent = line_starting(text, "design effect").split()[2:]
    assert float(clustered) > 15 and independent == "1.0", "a video's questions are all right or all wrong"


def test_a_detectable_difference_is_wider_than_the_interval(study_folder):
    _, first, second = compare(study_folder)
    for row in (first, second):
        assert row.detectable > (row.difference.high - row.difference.low) / 2
    shown = line_starting(printed_report(study_folder), "detectable with").split()[2:]
    assert shown == [f"{100 * row.detectable:.1f}" for row in (first, second)]


def test_runs_that_are_not_finished_are_listed(study_folder):
    cells = grid_cells(study_folder)
    running = write_run(study_folder / "x", "seed=2", right=("1" * 100,), state="running", step=20, phase="train")
    message = "RuntimeError: [red]no[/] memory\nand more"
    failed = write_run(study_folder / "y", "seed=3", state="failed", step=41, message=message)
    stale = write_run(study_folder / "w", "seed=5", right=("1" * 100,))
    write_text(study_folder / "z" / "output.log", "Loading\nrlvid: no model 'nanno'\n\n")
    cells += [("grpo", 2, "x", running), ("grpo", 3, "y", failed), ("grpo", 4, "z", "0"), ("new", 0, "v", "0")]
    another_config = stale[::-1]
    write_grid(study_folder, [*cells, ("new", 5, "w", another_config)])
    text = printed_report(study_folder, width=140)
    assert "3 of 8 runs done" in text
    grpo = line_starting(text, "grpo").split()
    assert grpo[:5] == ["grpo", "2", "of", "5", "62.0"], "answers of an unfinished run do not count"
    assert line_starting(text, "new").split()[:4] == ["new", "0", "not", "started"]
    assert "running at step 20 of 60 (2026-01-02 03:04 UTC)" in text
    assert "failed at step 41 of 60: RuntimeError: [red]no[/] memory (2026" in text
    assert "rlvid: no model 'nanno'" in text and "not started" in text


def test_arms_of_which_no_run_was_started_share_one_line(study_folder):
    later = [(f"later {i}", seed, f"l{i}{seed}", "0") for i in range(9) for seed in (0, 1)]
    write_grid(study_folder, [*grid_cells(study_folder), *later])
    text = printed_report(study_folder, width=140)
    assert "9 arms" in text and "later 0; later 1" in " ".join(text.split())
    assert not [line for line in text.splitlines() if line.startswith("later")]


def test_one_run_has_a_report(tmp_path):
    write_run(tmp_path / "mine", right=("1" * 30 + "0" * 10,))
    assert "75.0" in line_starting(printed_report(tmp_path / "mine"), "mine  ")


def test_answers_to_other_questions_are_left_out_and_listed(study_folder):
    more = write_run(study_folder / "a2", "seed=2", right=("1" * 100, "10" * 40))
    fewer = write_run(study_folder / "old", right=("1" * 50,))
    cells = [*grid_cells(study_folder), ("grpo", 2, "a2", more), ("old", 0, "old", fewer)]
    write_grid(study_folder, cells, [("grpo", "base"), ("old", "grpo")])
    text = printed_report(study_folder, width=140)
    assert line_starting(text, "grpo").split()[:3] == ["grpo", "3", "74.7"], "60, 64 and 100 right on L1"
    assert line_starting(text, "old").split() == ["old", "1", "–", "–", "–", "–"]
    words = " ".join(text.split())
    assert "grpo 2 L2 left out: 80 of the 100 questions of other runs answered" in words
    assert "old 0 L1 left out: 50 of the 100" in words and "L2 left out: 0 of" in words
    assert {(row.a, row.condition) for row in compare(study_folder)} <= {
        ("grpo", level) for level in ("all levels", "L1", "L2")
    }


def test_clips_that_could_not_be_read_are_counted(study_folder):
    def unread(i, row):
        return {"id": row["id"], "gold": "A", "correct": False, "unread": 1} if i < 3 else row

    edit_answers(study_folder / "a0" / "eval" / "L1.jsonl", unread)
    text = printed_report(study_folder)
    assert line_starting(text, "grpo").split()[2] == "60.5", "57 and 64 of 100"
    assert "L1: 3 clips could not be read and count as wrong" in text


def test_accuracies_by_domain_are_those_counted_by_hand(study_folder):
    for path in study_folder.glob("*/eval/L1.jsonl"):
        edit_answers(path, lambda i, row: row | {"domain": "Work" if i < 50 else "Play"})
    text = printed_report(study_folder, 140)
    lines = text[text.index("Play") :].splitlines()
    base, grpo = (next(line.split() for line in lines if line.startswith(arm)) for arm in ("base", "grpo"))
    low, high = binomtest(40, 50).proportion_ci(method="wilson")
    assert base == ["base", "1", "0.0", "0.0–7.1", "80.0", f"{100 * low:.1f}–{100 * high:.1f}"], "40 of the first 50"
    assert grpo[2] == "24.0" and grpo[4] == "100.0", "10 and 14 of the last 50; all of the first 50"
    assert "L2" not in "".join(lines[:8]), "its questions are of one domain"


def test_the_design_is_printed(study_folder):
    text = printed_report(study_folder)
    assert line_starting(text, "seeds").split() == ["seeds", "0", "1", "·", "base:", "0"]
    assert line_starting(text, "questions").split() == ["questions", "L1:", "100", "·", "L2:", "100"]
    assert line_starting(text, "compared: grpo").split()[-2:] == ["with", "base"]


def test_a_notebook_shows_a_report_as_tables_with_drawn_intervals(study_folder):
    report = build_report(read_study(study_folder))
    html = report._repr_html_()
    body = xml.etree.ElementTree.fromstring(html.replace("<br>", "<br/>"))  # well-formed
    assert [heading.text for heading in body.iter("h4")] == [title for title, _ in report.sections(200)]
    cells = ["".join(cell.itertext()).strip() for cell in body.iter("td")]
    assert {f"{100 * row.difference.value:+.1f}" for row in report.comparisons} <= set(cells)
    assert len(list(body.iter("svg"))) == len(report.comparisons)
    hostile = replace(report, question="<script>alert(1)</script>", arms=[replace(report.arms[0], arm="<b>x</b>")])
    assert "<script>" not in hostile._repr_html_() and "<b>x" not in hostile._repr_html_()


def test_intervals_of_accuracies_end_where_accuracies_do(tmp_path):
    """Two questions say next to nothing; without the limits the interval goes far beyond 100 points."""
    write_pair(tmp_path, "01", "10")
    [row] = build_report(read_study(tmp_path)).comparisons
    assert (row.difference.low, row.difference.high) == (-1, 1)
    about = json.loads((tmp_path / "grid.json").read_text())
    write_text(tmp_path / "grid.json", json.dumps(about | {"endpoint": "format"}))
    [other] = build_report(read_study(tmp_path)).comparisons
    assert other.difference.high > 1, "a reward may be more than 1"


def write_looks(folder, looks):
    """Write a grid of a base and of arms a and b, all alike in 60 answers of 100, with these last looks at a and b."""
    cells = write_arms(folder, {"base": 60, "a": 60, "b": 60})
    write_grid(folder, cells, [("a", "base"), ("b", "base")])
    state = AdaptiveGrid({f"{arm} | base": difference(arm, "base") for arm in looks}).to_json()
    for arm, look in looks.items():
        state["looks"][f"{arm} | base"] = [look]
    write_text(folder / STATE_FILE, json.dumps(state))


def test_a_row_on_all_levels_has_all_its_numbers_from_one_look(tmp_path):
    """The runs that there are in the end show no difference, so that their p would contradict the interval."""
    decided = {"t": 0.3, "spent": 0.001, "level": 0.001, "difference": 0.2, "low": 0.05, "high": 0.35, "p": 0.0001}
    look = {"seeds": 2, **decided, "verdict": "better", "stop": True}
    last = {"seeds": 8, "t": 1.0, "spent": 0.01, "level": 0.01, "difference": 0.0, "low": -1.3, "high": 1.3}
    write_looks(tmp_path, {"a": look, "b": last | {"verdict": "undecided", "stop": True, "p": 1.0}})
    report = build_report(read_study(tmp_path))
    assert [row.difference.high for row in report.looks] == [0.35, 1], "cut at 100 points"
    a, b = (row for row in report.comparisons if row.condition == "all levels")
    assert (a.difference.value, a.difference.low, a.verdict, a.look) == (0.2, 0.05, "better", 2)
    assert a.p == pytest.approx(0.0001 * 0.05 / 0.001) and b.p == 1
    assert a.alone is None and b.alone is None and b.look == 8
    assert all(row.alone and row.look is None for row in report.comparisons if row.condition != "all levels")
    text = " ".join(printed_report(tmp_path, width=160).split())
    assert "as of the look that decided them, after 2 seeds: a against base; after 8 seeds: b against base" in text


def test_a_look_that_was_saved_without_p_has_none(tmp_path):
    look = {"seeds": 2, "t": 0.3, "spent": 0.001, "level": 0.001, "difference": 0.2, "low": 0.05, "high": 0.35}
    write_looks(tmp_path, {arm: look | {"verdict": "better", "stop": True} for arm in "ab"})
    a, b = (row for row in build_report(read_study(tmp_path)).comparisons if row.condition == "all levels")
    assert a.p is None and b.p is None
    text = printed_report(tmp_path)
    assert "as of the look" not in text, "both are of the same one"
    assert line_starting(text, " all levels").split()[-2:] == ["–", "better"]


def test_equivalent_with_few_seeds_says_what_it_does_not_cover(tmp_path):
    write_looks(tmp_path, {})
    (tmp_path / STATE_FILE).unlink()
    grid = json.loads((tmp_path / "grid.json").read_text())
    write_text(tmp_path / "grid.json", json.dumps(grid | {"equivalence_margin": 0.9}))
    assert {row.verdict for row in build_report(read_study(tmp_path)).comparisons} == {"equivalent within 90"}
    text = " ".join(printed_report(tmp_path).split())
    assert "where none of 2 runs ends far from the others, up to 78% of further runs may do so" in text
    write_text(tmp_path / "grid.json", json.dumps(grid | {"equivalence_margin": 0.001}))
    assert "of further runs may do so" not in printed_report(tmp_path)


def test_what_is_needed_is_not_known_with_one_seed(tmp_path):
    cells = [(arm, 0, arm, write_run(tmp_path / arm, right=("10" * 20,))) for arm in ("ctl", "x")]
    write_grid(tmp_path, cells, [("x", "ctl")])
    [row] = json.loads(build_report(read_study(tmp_path)).to_json())["sections"]["comparisons"]
    assert row["needed_seeds"] is None and row["needed_questions"] is None


def test_before_the_first_look_nothing_is_decided_and_no_control_fails(tmp_path):
    write_looks(tmp_path, {})
    write_text(tmp_path / STATE_FILE, json.dumps(AdaptiveGrid({"a | base": difference("a", "base")}).to_json()))
    grid = json.loads((tmp_path / "grid.json").read_text())
    changed = {"endpoint": "length_bonus", "positive_controls": [["a", "base"]]}
    write_text(tmp_path / "grid.json", json.dumps(grid | changed))
    for path in tmp_path.glob("*/eval/*.jsonl"):
        edit_answers(path, lambda i, row: row | {"rewards/length_bonus": 5.0 * row["correct"]})
    report = build_report(read_study(tmp_path))
    row, *_ = report.comparisons
    assert row.difference.high == float("inf") and row.verdict == "no look yet"
    assert [control.came_out for control in report.controls] == [None]
    text = printed_report(tmp_path, 120)
    assert line_starting(text, " all levels").split()[3:] == ["–", "–", "no", "look", "yet"]
