"""The tutorial runs from its first cell to its last, in an empty folder, and shows what its text says."""

import json
from pathlib import Path

import experiments
from tests.helpers.notebooks import code_cells, run_notebook

TUTORIAL = Path(experiments.__path__[0]) / "tutorial.ipynb"


def test_the_tutorial_runs_and_shows_what_it_says(kitchen, tmp_path):
    notebook, names = run_notebook(TUTORIAL, tmp_path)
    assert len(code_cells(notebook)) == 10
    first, second, search = names["first"], names["second"], names["search"]
    assert first.failed == ["information", "tricks"] and first["video"].verdict == "skipped"
    assert search["best"] > search["honest_best"] and not second.failed
    video = second["video"].numbers
    assert video["conditions"]["twin"]["right"] < video["true"]["right"] / 2
    printed = ["".join(o.get("text", "")) for cell in code_cells(notebook) for o in cell["outputs"]]
    assert any("undecided" in text for text in printed), "the report says that so few steps decide nothing"
    pictures = [o for cell in code_cells(notebook) for o in cell["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"plain-0", "plain-1", "grounded-0", "grounded-1"}


def test_the_tutorial_is_kept_with_its_outputs():
    cells = code_cells(json.loads(TUTORIAL.read_text()))
    assert [cell["execution_count"] for cell in cells] == list(range(1, 11))
    assert TUTORIAL.stat().st_size < 400_000
    assert all(cell["outputs"] for cell in cells[1:4]), (
        "run python -m tests.helpers.notebooks experiments/tutorial.ipynb"
    )
