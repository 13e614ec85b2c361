"""A grid's plan: what a dry run shows of it, and what is kept and told when it changes after runs had finished."""

import ast
import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO

import pytest

import rlvid
from rlvid.grids.grid import Grid
from rlvid.study.page import save_page
from rlvid.utils.files import read_json
from tests.helpers.reports import printed_report, write_run

NOTHING = ("-c", "")  # what Python runs for a cell: such a run ends at once and writes nothing


def make_grid(**fields):
    """A grid of a base and two arms with two seeds each; `fields` replace its fields."""
    arms = {"base": {"train.max_steps": 0}, "a": {}, "b": {"train.top_p": 0.5}}
    defaults = {"arms": arms, "control": "base", "seeds": (0, 1), "unseeded": ("base",), "question": "Which is better?"}
    return Grid(name="g", **defaults | {"settings": {"eval.rewards.format": 1.0}} | fields)


def start(grid, out):
    """Start a grid whose runs do nothing."""
    assert grid.main(["--out", str(out)], command=NOTHING) == 0


def finish(grid, out, count=100):
    """Write the first `count` cells of a grid as finished runs."""
    for cell in grid.cells("nano")[:count]:
        write_run(out / cell.folder, *cell.overrides, right=("10" * 20, "10" * 20))


def test_a_plan_that_changes_before_any_run_has_finished_is_no_change(tmp_path):
    start(make_grid(), tmp_path)
    start(make_grid(endpoint="format"), tmp_path)
    assert "changed" not in read_json(tmp_path / "grid.json")
    assert read_json(tmp_path / "grid.json")["endpoint"] == "format"


def test_another_endpoint_after_runs_had_finished_is_told_by_grid_and_report(tmp_path, capsys):
    grid = make_grid()
    start(grid, tmp_path)
    finish(grid, tmp_path, 4)
    start(grid, tmp_path)
    assert "changed" not in read_json(tmp_path / "grid.json"), "the same plan"
    capsys.readouterr()
    today = datetime.now(UTC).date().isoformat()
    line = f"endpoint changed from accuracy to format on {today}, after 4 of 5 runs had finished"
    assert replace(grid, endpoint="format").main(["--dry-run", "--out", str(tmp_path)]) == 0
    assert line in capsys.readouterr().out.replace("\n", "")
    start(replace(grid, endpoint="format"), tmp_path)
    assert f"{line}; the report will say so" in capsys.readouterr().err
    [entry] = read_json(tmp_path / "grid.json")["changed"]
    assert entry["before"] == {"endpoint": "accuracy"} and (entry["runs_done"], entry["runs_planned"]) == (4, 5)

    assert line in printed_report(tmp_path).splitlines()
    report = rlvid.report(tmp_path, plots=False)
    [record] = json.loads(report.to_json())["sections"]["plan_changes"]
    assert record["sentence"] == line and record["before"] == "accuracy" and record["runs_done"] == 4
    rows = [row for row in csv.DictReader(StringIO(report.to_csv())) if row["section"] == "plan_changes"]
    assert [row["sentence"] for row in rows] == [line]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"seeds": (0, 1, 2)}, "seeds changed from 0 1 to 0 1 2 on DATE, after 5 of 5 runs had finished"),
        ({"equivalence_margin": 0.05}, "margin of equivalence changed from 3 points to 5 points on DATE, after 5 of 5"),
        ({"effect_at_stake": 0.15}, "effect at stake changed from 0 points to 15 points on DATE, after 5 of 5 runs"),
        ({"comparisons": (("a", "base"), ("a", "b"))}, "finished: added a against b, removed b against base"),
        (
            {"negative_controls": (("a", "base"),)},
            "negative controls changed on DATE, after 5 of 5 runs had finished: ",
        ),
        ({"positive_controls": (("a", "base"),)}, "finished: added a against base"),
        ({"interactions": (("a", "b", "b", "base"),)}, "finished: added a to b, against b to base"),
        ({"control": "a"}, "control changed from base to a on DATE, after 5 of 5 runs had finished"),
        (
            {"arms": {f"a{i}": {"train.max_steps": 1 + i} for i in range(5)} | {"base": {"train.max_steps": 0}}},
            "2 more",
        ),
    ],
)
def test_every_part_of_the_plan_is_told(tmp_path, fields, sentence):
    grid = make_grid()
    start(grid, tmp_path)
    finish(grid, tmp_path)
    start(replace(grid, **fields), tmp_path)
    today = datetime.now(UTC).date().isoformat()
    assert sentence.replace("DATE", today) in " ".join(printed_report(tmp_path, width=300).split())


def test_changes_add_up_and_are_on_the_page(tmp_path):
    grid = make_grid()
    start(grid, tmp_path)
    finish(grid, tmp_path)
    start(replace(grid, seeds=(0, 1, 2)), tmp_path)
    start(replace(grid, seeds=(0, 1, 2), endpoint="format"), tmp_path)
    start(replace(grid, seeds=(0, 1, 2), endpoint="format"), tmp_path)
    changed = read_json(tmp_path / "grid.json")["changed"]
    assert [(entry["before"], entry["after"]) for entry in changed] == [
        ({"seeds": [0, 1]}, {"seeds": [0, 1, 2]}),
        ({"endpoint": "accuracy"}, {"endpoint": "format"}),
    ]
    page = tmp_path / "page.html"
    save_page(tmp_path, page)
    assert "seeds changed from 0 1 to 0 1 2 on " in page.read_text() and "after 5 of 7 runs" in page.read_text()


def test_the_seeds_of_a_grid_that_was_saved_without_them_are_those_of_its_runs(tmp_path):
    grid = make_grid()
    start(grid, tmp_path)
    finish(grid, tmp_path)
    plan = read_json(tmp_path / "grid.json")
    for key in ("seeds", "effect_at_stake"):
        del plan[key]
    (tmp_path / "grid.json").write_text(json.dumps(plan))
    start(grid, tmp_path)
    assert "changed" not in read_json(tmp_path / "grid.json")
    (tmp_path / "grid.json").write_text(json.dumps(plan))
    start(replace(grid, seeds=(0, 1, 2), effect_at_stake=0.09), tmp_path)
    assert [entry["before"] for entry in read_json(tmp_path / "grid.json")["changed"]] == [{"seeds": [0, 1]}]


@pytest.mark.parametrize(
    ("fields", "arguments", "margin"),
    [
        ({}, [], "3 points (the default)"),
        ({"effect_at_stake": 0.15}, [], "5 points (a third of effect_at_stake)"),
        ({"effect_at_stake": 0.15, "equivalence_margin": 0.02}, [], "2 points (equivalence_margin)"),
        ({}, ["--until", "decided", "--margin", "4"], "4 points (--margin)"),
    ],
)
def test_a_dry_run_shows_the_plan(tmp_path, capsys, fields, arguments, margin):
    comparisons = {"comparisons": (("a", "base"), ("b", "base"), ("a", "b")), "negative_controls": (("a", "b"),)}
    grid = make_grid(endpoint="format", interactions=(("a", "b", "b", "base"),), **comparisons, **fields)
    assert grid.main(["--dry-run", "--out", str(tmp_path), *arguments]) == 0
    shown = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    text = "\n".join(" ".join(" ".join(words).split()) for words in shown)
    for line in (
        "endpoint format",
        f"margin of equivalence {margin}",
        "compared with base a · b",
        "compared with b a",
        "interactions a to b, against b to base",
        "positive controls none",
        "negative controls a against b",
    ):
        assert line in text


def test_the_settings_that_a_missing_endpoint_calls_for_are_accepted_as_they_are_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def mine(groups): return 1.0")
    for endpoint in ("./mine.py", "soft_accuracy"):
        grid = make_grid(endpoint=endpoint, settings={})
        assert grid.main(["--dry-run"]) == 2
        words = capsys.readouterr().err.split("settings=")[1].partition(" lets all arms")[0]
        again = make_grid(endpoint=endpoint, settings=ast.literal_eval(words))
        assert again.main(["--dry-run"]) == 0, words


@pytest.mark.parametrize(("jobs", "code"), [(["--jobs", "2"], 2), (["--jobs", "1"], 0), ([], 0)])
def test_cells_of_several_processes_run_one_after_the_other(tmp_path, capsys, jobs, code):
    file = tmp_path / "ddp.yaml"
    file.write_text("distributed_type: 'NO'\nnum_processes: 1\nuse_cpu: true\n")
    script = tmp_path / "nothing.py"
    script.write_text("")
    arguments = ["--out", str(tmp_path / "out"), "--only", "base", "--accelerate", str(file), *jobs]
    assert make_grid().main(arguments, command=(str(script),)) == code
    if code:
        err = capsys.readouterr().err
        assert "each cell uses all GPUs and the same port" in err and "leave --jobs out, or use --launcher slurm" in err
        assert len(err.splitlines()) == 1 and not (tmp_path / "out").exists()
