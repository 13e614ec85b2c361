"""Pictures of runs: what is drawn, and which numbers it is drawn from."""

import json
import runpy

import numpy as np
import pytest

from rlvid.config import load as config
from rlvid.data.seed_bench_r1 import load
from rlvid.study.plots import average, checkpoints, curves, panels, shares
from rlvid.study.runs import read
from rlvid.study.sweep import axes, lines, samples, sweeps
from rlvid.utils.files import write_jsonl, write_text
from rlvid.video.resize import target_size
from tests.helpers.reports import ROOT, printed, run


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
        | {"rewards/grounding_box_iou/mean": 0.2 * step, "frac_reward_zero_std": 0.5, "frac_all_correct": 0.05 * step}
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
        *["reward", "rewards/accuracy/mean", "completions/mean_length", "entropy", "frac_all_correct"],
        *["rewards/grounding_box_iou/mean", "eval/L1/accuracy"],
    ], "not format, which stands still, nor KL and L2, of which there is nothing"
    assert "curves.png" in printed(study, plots=True)
    assert (study / "plots" / "curves.png").stat().st_size > 20_000


def test_an_axis_of_numbers_is_a_line_for_each_choice_on_the_others(tmp_path, kitchen):
    cells = []
    for method in ("sft", "grpo"):
        for share in ("6 % of data", "25 % of data", "100 % of data"):
            folder = f"{method}{share.split()[0]}"
            id = run(tmp_path / folder, f"seed={len(cells)}", right=("10" * 20,))
            levels = {"algorithm": method, "data": share, "labels": "clean"}
            cells.append({"arm": f"{method}, {share}", "seed": 0, "folder": folder, "id": id, "levels": levels})
    about = {"name": "g", "question": "q", "control": cells[0]["arm"], "comparisons": [], "cells": cells}
    write_text(tmp_path / "grid.json", json.dumps(about))
    study = read(tmp_path)
    assert axes(study) == {"data": {"6 % of data": 6, "25 % of data": 25, "100 % of data": 100}}, (
        "labels are no numbers"
    )
    assert lines(study, "data")["grpo, clean"] == {share: f"grpo, {share}" for share in axes(study)["data"]}
    assert "sweep.png" in printed(tmp_path, plots=True)
    assert samples(study, "data") == {}, "these runs' configs do not say that their data differ"
    for share in axes(study)["data"]:
        run(tmp_path / f"grpo{share.split()[0]}", f"train.data_fraction={int(share.split()[0]) / 100}", right=("10",))
        run(tmp_path / f"sft{share.split()[0]}", f"train.data_fraction={int(share.split()[0]) / 100}", right=("10",))
    total = len(load(kitchen, "train"))
    assert samples(study, "data") == {f"{n} % of data": round(n / 100 * total) for n in (6, 25, 100)}


def test_frames_and_sizes_are_both_drawn(tmp_path):
    """Of the shipped experiment's own cells: three numbers of frames, three sizes that differ."""
    made = runpy.run_path(str(ROOT / "experiments" / "frames.py"))["GRID"]
    cells = [cell for cell in made.cells("nano") if cell.seed == 0]
    rows = []
    for cell in cells:
        assert run(tmp_path / cell.folder, *cell.overrides, right=("10" * 20,)) == cell.id
        rows.append({key: getattr(cell, key) for key in ("arm", "levels", "seed", "folder", "id")})
    about = {"name": made.name, "question": made.question, "control": made.control, "comparisons": [], "cells": rows}
    write_text(tmp_path / "grid.json", json.dumps(about))
    drawn = sweeps(read(tmp_path)).axes
    assert [panel.get_xlabel() for panel in drawn] == ["frames", "% size"]
    for panel, ticks in zip(drawn, ("2 4 8", "50 100 150"), strict=True):
        assert " ".join(tick.get_text() for tick in panel.get_xticklabels()) == ticks
        assert len({line.get_label() for line in panel.lines if "," in str(line.get_label())}) == 7, "six, and control"
    videos = [config(cell.preset, cell.overrides).video for cell in cells]
    assert {target_size(56, 56, video) for video in videos} == {(28, 28), (56, 56), (84, 84)}


def test_checkpoints_are_drawn_of_all_arms_from_the_untrained_control(tmp_path):
    """SFT, whose groups never differ in reward, has no curves but has its checkpoints; one evaluation is no course."""
    ids = {}
    for arm, found in {"base": {0: 0.25}, "sft": {10: 0.3, 20: 0.4}, "once": {20: 0.5}}.items():
        overrides = ("train.max_steps=0",) if arm == "base" else (f"seed={len(arm)}",)
        ids[arm] = run(tmp_path / arm, *overrides, right=("10" * 20,))
        flat = {"reward": 1.0, "frac_reward_zero_std": 1.0}
        rows = [{"step": step, **flat, "eval/L1/accuracy": value} for step, value in found.items()]
        write_jsonl(tmp_path / arm / "metrics.jsonl", rows)
    cells = [{"arm": arm, "seed": 0, "folder": arm, "id": id, "levels": {}} for arm, id in ids.items()]
    about = {"name": "g", "question": "q", "control": "base", "comparisons": [], "cells": cells}
    write_text(tmp_path / "grid.json", json.dumps(about))
    study = read(tmp_path)
    [axes] = checkpoints(study).axes
    [course] = [line for line in axes.lines if line.get_label() == "sft"]
    assert course.get_xydata().tolist() == [[0, 25], [10, 30], [20, 40]]
    assert not curves(study) and not [line for line in axes.lines if line.get_label() in ("base", "once")]
    write_jsonl(tmp_path / "sft" / "metrics.jsonl", rows)
    assert checkpoints(read(tmp_path)) is None


def test_reward_shares_are_of_arms_that_explore_and_none_is_cut_off(tmp_path):
    cells = []
    for arm, flat, decide in (("sft", 1.0, 0.0), ("grpo", 0.5, 1.0)):
        id = run(tmp_path / arm, f"seed={len(cells)}", right=("10" * 20,))
        told = {"advantage_share/accuracy": decide, "advantage_share/format": 0.0, "frac_reward_zero_std": flat}
        write_jsonl(tmp_path / arm / "metrics.jsonl", [{"step": step, **told} for step in range(1, 5)])
        cells.append({"arm": arm, "seed": 0, "folder": arm, "id": id, "levels": {}})
    about = {"name": "g", "question": "q", "control": "sft", "comparisons": [], "cells": cells}
    write_text(tmp_path / "grid.json", json.dumps(about))
    [axes] = shares(read(tmp_path)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["grpo"]
    low, high = axes.get_xlim()
    assert low < 0 and high > 1 and {x for line in axes.lines for x in line.get_xdata()} == {0.0, 1.0}
