"""Measures besides accuracy, on evaluations whose numbers are known."""

import json

import pytest

from rlvid.study import measures
from rlvid.study.runs import read
from tests.helpers.reports import grid, printed, run


def with_measure(folder, values):
    """A run of 200 questions of L1, each with `values[i % len(values)]` as its measure."""
    cell = run(folder, f"seed={folder.name[-1]}", right=("10" * 100,))
    path = folder / "eval/L1.jsonl"
    rows = [json.loads(line) | {"video": f"v{i}"} for i, line in enumerate(path.read_text().splitlines())]
    rows = [row | {"rewards/grounding": values[i % len(values)]} for i, row in enumerate(rows)]
    rows = [row | {"rewards/consistency_x": 0.0, "evidence": {"agreement/consistency_x": [0.9]}} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return cell


@pytest.fixture
def study(tmp_path):
    cells = []
    for arm, values in (("plain", [0.2, 0.4, None]), ("grounded", [0.6, 0.8, None])):
        for seed in (0, 1):
            folder = tmp_path / f"{arm}{seed}"
            cells.append((arm, seed, folder.name, with_measure(folder, values)))
    grid(tmp_path, cells, [["grounded", "plain"]])
    return tmp_path


def test_means_leave_out_what_does_not_apply_and_differences_are_paired(study):
    found = read(study)
    assert measures.measured(found) == ["rewards/grounding", "rewards/consistency_x"]
    table = measures.table(found, "rewards/grounding")
    arms, level, gap = (list(column.cells) for column in table.columns)
    assert [str(arm) for arm in arms] == ["plain", "grounded"]
    assert [cell.split()[0] for cell in level] == ["0.30", "0.70"]
    assert gap[0] == "" and gap[1].split() == ["+0.40", "+0.40", "to", "+0.40"], "the same questions, 0.4 more each"
    low, high = (float(level[0].split()[i]) for i in (1, 3))
    assert low == pytest.approx(0.30 - 1.96 * 0.1 / 134**0.5, abs=0.005) and low + high == pytest.approx(0.6, abs=0.011)


def test_a_gate_is_not_reported(study):
    table = measures.table(read(study), "rewards/consistency_x")
    assert [cell.split()[0] for cell in list(table.columns)[1].cells] == ["0.90", "0.90"], "0 behind the gate"


def test_the_report_shows_them(study):
    text = printed(study, width=100)
    assert "all, against plain" in text and "+0.40" in text
