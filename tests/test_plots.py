"""Pictures of runs: what is drawn, and which numbers it is drawn from."""

import json

import numpy as np
import pytest

from rlvid.files import write, write_jsonl
from rlvid.study.plots import average, panels
from rlvid.study.runs import read
from rlvid.study.sweep import axes, lines
from tests.test_report import printed, run


def points(*values, first=1):
    return np.array(list(enumerate(values, start=first)), dtype=float)


def test_seeds_are_averaged_over_the_steps_that_all_have():
    seeds = [points(1, 2, 3), points(4, 5, 6, first=2), points()]
    assert average(seeds[:2], 0).tolist() == [[2, 3], [3, 4]]
    assert average([points(0, 0, 6, 0, 0, 0)], 0.5)[:, 1].tolist() == [0, 2, 2, 2, 0, 0]
    assert average([points(2, 2, 2, 2, 2, 2)], 0.5)[:, 1] == pytest.approx(2), "the ends are means of what there is"
    assert average([], 0).shape == average([points(1), points(1, first=5)], 0).shape == (0, 2)


@pytest.fixture
def study(tmp_path):
    rows = [
        {"step": step, "reward": 0.1 * step, "rewards/accuracy/mean": 0.1 * step, "rewards/format/mean": 1.0}
        | {"rewards/grounding_box_iou/mean": 0.2 * step, "frac_reward_zero_std": 0.5, "frac_all_right": 0.05 * step}
        | {"completions/mean_length": 30 - step, "entropy": 1 / step, "grad_norm": step}
        | ({"eval/L1/accuracy": 0.1 * step} if step % 2 == 0 else {})
        for step in range(1, 5)
    ]
    for seed in (0, 1):
        run(tmp_path / f"s{seed}", f"seed={seed}", right=("10" * 20, "10" * 20))
        write_jsonl(tmp_path / f"s{seed}" / "metrics.jsonl", rows)
    return tmp_path


def test_what_moves_is_drawn(study):
    found = read(study)
    assert list(panels(found, found.results)) == [
        *["reward", "rewards/accuracy/mean", "completions/mean_length", "entropy", "frac_all_right"],
        *["rewards/grounding_box_iou/mean", "eval/L1/accuracy"],
    ], "not format, which stands still, nor KL and L2, of which there is nothing"
    assert "curves.png" in printed(study, plots=True)
    assert (study / "plots" / "curves.png").stat().st_size > 20_000


def test_an_axis_of_numbers_is_a_line_for_each_choice_on_the_others(tmp_path):
    cells = []
    for method in ("sft", "grpo"):
        for share in ("6 % of data", "25 % of data", "100 % of data"):
            folder = f"{method}{share.split()[0]}"
            id = run(tmp_path / folder, f"seed={len(cells)}", right=("10" * 20,))
            levels = {"algorithm": method, "data": share, "labels": "clean"}
            cells.append({"arm": f"{method}, {share}", "seed": 0, "folder": folder, "id": id, "levels": levels})
    about = {"name": "g", "question": "q", "control": cells[0]["arm"], "comparisons": [], "cells": cells}
    write(tmp_path / "grid.json", json.dumps(about))
    study = read(tmp_path)
    assert axes(study) == {"data": {"6 % of data": 6, "25 % of data": 25, "100 % of data": 100}}, (
        "labels are no numbers"
    )
    assert lines(study, "data")["grpo, clean"] == {share: f"grpo, {share}" for share in axes(study)["data"]}
    assert "sweep.png" in printed(tmp_path, plots=True)
