"""The rows of a report: what `report` returns, and what `rlvid report --json --csv` writes."""

import csv
import json
import subprocess
import sys

import pytest

from rlvid.__main__ import main
from rlvid.api import report
from rlvid.study.noise_rows import NoiseCellRow
from rlvid.study.rows import MissingRow, to_record
from rlvid.study.stats import Interval, accuracy_interval
from rlvid.study.study import read_study
from tests.helpers.reports import ROOT, edit_answers, grid_cells, write_grid, write_run


def test_the_report_returns_the_numbers_it_prints(study_folder, capsys):
    rows = report(study_folder, plots=False)
    assert "62.0" in capsys.readouterr().out
    assert (rows.name, rows.control, rows.runs_done, rows.runs_planned) == ("g", "base", 3, 3)
    accuracies = {(row.arm, row.level): row.accuracy for row in rows.accuracies}
    scores = read_study(study_folder).column("grpo", "L1", "correct")
    assert accuracies["grpo", "L1"] == accuracy_interval(scores) and accuracies["grpo", "L1"].value == 0.62
    verdicts = [(row.a, row.b, row.condition, row.verdict) for row in rows.comparisons]
    assert [(a, b, level) for a, b, level, _ in verdicts] == [
        ("grpo", "base", level) for level in ("all levels", "L1", "L2")
    ]
    assert verdicts[1][3] == "better" and verdicts[2][3] == "undecided"
    assert repr(rows) == "Report('g': 3 of 3 runs done)", "short, so that a notebook does not show everything twice"


def test_json_and_csv_hold_the_same_rows(study_folder, capsys):
    write_run(study_folder / "x", "seed=2", state="running", step=20)
    write_grid(study_folder, [*grid_cells(study_folder), ("grpo", 2, "x", "0")], [("grpo", "base")])
    paths = study_folder / "rows.json", study_folder / "rows.csv"
    assert main(["report", str(study_folder), "--no-plots", "--json", str(paths[0]), "--csv", str(paths[1])]) == 0
    out = capsys.readouterr().out
    assert all(f"rows         {path}" in out for path in paths)
    content = json.loads(paths[0].read_text())
    assert content["question"] == "Does it help?" and content["equivalence_margin"] == 0.03
    sections = content["sections"]
    assert list(sections) == ["design", "arms", "levels", "accuracies", "comparisons", "missing"]
    assert sections["comparisons"][1]["difference"] == pytest.approx(0.22) and sections["missing"][0]["seeds"] == [2]
    assert sections["comparisons"][2]["needed_questions"] is None, "no number of questions shows a difference of 0"
    with paths[1].open() as file:
        table = list(csv.DictReader(file))
    assert [row["section"] for row in table] == [name for name, rows in sections.items() for _ in rows]
    for record, written in zip((row for rows in sections.values() for row in rows), table, strict=True):
        for key, value in record.items():
            text = "; ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
            assert written[key] == text


def test_every_kind_of_row_is_exported(tmp_path):
    """A grid with three seeds, domains and another measure has each section that is not about noise or missing runs."""
    cells = []
    for arm, right in (("base", "0110"), ("grpo", "0111")):
        for seed in range(3):
            folder = tmp_path / f"{arm}{seed}"
            id = write_run(folder, f"seed={seed}", f"train.learning_rate={len(cells) + 1}e-5", right=(right * 10,))
            edit_answers(
                folder / "eval/L1.jsonl", lambda i, row: row | {"domain": "ab"[i % 2], "rewards/grounding": i % 3 / 2}
            )
            cells.append((arm, seed, folder.name, id))
    write_grid(tmp_path, cells, [("grpo", "base")])
    content = json.loads(report(tmp_path, plots=False).to_json())
    assert list(content["sections"]) == [
        *["design", "arms", "levels", "accuracies", "comparisons", "domains", "measures", "measure_differences"],
    ]
    assert all(row["seed_sd"] is not None for row in content["sections"]["arms"])
    b = [row for row in content["sections"]["domains"] if (row["arm"], row["domain"]) == ("grpo", "b")]
    assert [(row["questions"], row["accuracy"]) for row in b] == [(20, 1.0)]


def test_published_counts_are_exported_too(tmp_path, capsys):
    path = tmp_path / "counts.json"
    assert main(["report", str(ROOT / "experiments" / "paper_counts.toml"), "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert content["paired"] is False and content["runs_done"] is None
    assert list(content["sections"]) == ["arms", "levels", "accuracies", "comparisons"]
    assert len(content["sections"]["comparisons"]) == 12
    assert all(row["needed_seeds"] is None for row in content["sections"]["comparisons"])


def test_a_record_is_flat_and_has_no_numbers_that_json_cannot_hold():
    nan, inf = float("nan"), float("inf")
    row = NoiseCellRow("grpo", "half", 2, 3, nan, 0.25, 0.5, {"L1": 0.5, "L2": None}, Interval(0.5, 0.25, inf))
    assert to_record(row) == {
        "method": "grpo",
        "noise": "half",
        "seeds": 2,
        "planned_seeds": 3,
        "false_positive_rate": None,
        "false_negative_rate": 0.25,
        "youden_j": 0.5,
        "level_accuracy_L1": 0.5,
        "level_accuracy_L2": None,
        "accuracy": 0.5,
        "accuracy_low": 0.25,
        "accuracy_high": None,
    }
    assert to_record(MissingRow("sft", (0, 2), "not started")) == {
        "arm": "sft",
        "seeds": [0, 2],
        "reason": "not started",
    }


def test_files_are_written_although_printing_ends_early(study_folder, kitchen, tmp_path):
    page, rows = tmp_path / "page.html", tmp_path / "rows.json"
    command = f"{sys.executable} -m rlvid report {study_folder} --html {page} --json {rows} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert page.is_file() and rows.is_file(), done.stderr
