"""Figures: what is drawn, and from which numbers."""

import json
import runpy

import numpy as np
import pytest

from rlvid.config import load
from rlvid.data.seed_bench_r1 import load as load_prompts
from rlvid.study.curves import checkpoint_curves, learning_curves, mean_over_seeds, panel_titles
from rlvid.study.plots import accuracy_figure, advantage_share_figure
from rlvid.study.study import read_study
from rlvid.study.sweep import numeric_axes, sweep_figure, sweep_lines, training_samples
from rlvid.utils.files import write_jsonl
from rlvid.video.resize import target_size
from tests.helpers.reports import ROOT, printed_report, write_grid, write_run


def points(*values, first=1):
    """(N, 2) steps from `first` on, and values."""
    return np.array(list(enumerate(values, start=first)), dtype=float)


def test_seeds_are_averaged_over_the_steps_that_all_have():
    seeds = [points(1, 2, 3), points(4, 5, 6, first=2), points()]
    assert mean_over_seeds(seeds[:2], 0).tolist() == [[2, 3], [3, 4]]
    assert mean_over_seeds(seeds, 0).tolist() == [[2, 3], [3, 4]], "a seed without this metric is left out"
    assert mean_over_seeds([], 0).shape == (0, 2)
    assert mean_over_seeds([points(1), points(1, first=5)], 0).shape == (0, 2), "no step in common"


def test_the_moving_average_is_cut_off_at_the_ends():
    assert mean_over_seeds([points(0, 0, 6, 0, 0, 0)], 0.5)[:, 1].tolist() == [0, 2, 2, 2, 0, 0]
    assert mean_over_seeds([points(2, 2, 2, 2, 2, 2)], 0.5)[:, 1] == pytest.approx(2)


def test_metrics_that_change_are_drawn(tmp_path):
    rows = [
        {"step": step, "reward": 0.1 * step, "rewards/accuracy/mean": 0.1 * step, "rewards/format/mean": 1.0}
        | {"rewards/grounding_box_iou/mean": 0.2 * step, "frac_reward_zero_std": 0.5, "frac_all_correct": 0.05 * step}
        | {"completions/mean_length": 30 - step, "entropy": 1 / step, "grad_norm": step}
        | ({"eval/L1/accuracy": 0.1 * step} if step % 2 == 0 else {})
        for step in range(1, 5)
    ]
    for seed in (0, 1):
        write_run(tmp_path / f"s{seed}", f"seed={seed}", right=("10" * 20, "10" * 20))
        write_jsonl(tmp_path / f"s{seed}" / "metrics.jsonl", rows)
    study = read_study(tmp_path)
    assert list(panel_titles(study.runs)) == [
        *["reward", "rewards/accuracy/mean", "completions/mean_length", "entropy", "frac_all_correct"],
        "rewards/grounding_box_iou/mean",
    ], "format does not change, there is no KL, and evaluations have a figure of their own"
    assert "curves.png" in printed_report(tmp_path, plots=True)
    assert (tmp_path / "plots" / "curves.png").stat().st_size > 20_000


def test_no_title_is_cut_or_reaches_into_the_next_panel(tmp_path):
    name = "rewards/the_name_of_a_reward_that_is_longer_than_its_panel/mean"
    changing = ("step", "reward", "rewards/accuracy/mean", "completions/mean_length", name)
    rows = [dict.fromkeys(changing, step) | {"frac_reward_zero_std": 0.5} for step in range(1, 5)]
    write_run(tmp_path / "run", right=("10" * 20,))
    write_jsonl(tmp_path / "run" / "metrics.jsonl", rows)
    figure = learning_curves(read_study(tmp_path)).together()
    figure.draw_without_rendering()
    boxes = [panel.title.get_window_extent() for panel in figure.axes if panel.get_title()]
    assert len(boxes) == 5 and all(0 <= box.x0 <= box.x1 <= figure.bbox.width for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_each_picture_has_a_pdf_for_papers_without_a_date(study_folder):
    shown = printed_report(study_folder, plots=True)
    plots = study_folder / "plots"
    names = {path.stem for path in plots.glob("*.png")}
    assert {"curves", "accuracy", "comparisons"} <= names == {path.stem for path in plots.glob("*.pdf")}
    assert shown.count(" and .pdf") == len(names)
    first = {name: (plots / f"{name}.pdf").read_bytes() for name in names}
    for content in first.values():
        assert content.startswith(b"%PDF-") and b"CreationDate" not in content
        assert b"/Subtype /Type3" not in content, "journals refuse such fonts"
    printed_report(study_folder, plots=True)
    assert {name: (plots / f"{name}.pdf").read_bytes() for name in names} == first


def test_a_numeric_axis_has_a_line_for_each_choice_on_the_other_axes(tmp_path, kitchen):
    shares, cells = ("6 % of data", "25 % of data", "100 % of data"), []
    for method in ("sft", "grpo"):
        for share in shares:
            folder = f"{method}{share.split()[0]}"
            id = write_run(tmp_path / folder, f"seed={len(cells)}", right=("10" * 20,))
            levels = {"algorithm": method, "data": share, "labels": "clean"}
            cells.append((f"{method}, {share}", 0, folder, id, levels))
    write_grid(tmp_path, cells)
    study = read_study(tmp_path)
    assert numeric_axes(study) == {"data": dict(zip(shares, (6, 25, 100), strict=True))}, "labels are no numbers"
    assert sweep_lines(study, "data")["grpo, clean"] == {share: f"grpo, {share}" for share in shares}
    assert "sweep.png" in printed_report(tmp_path, plots=True)
    assert training_samples(study, "data") == {}, "the configs of these runs have the same data_fraction"
    for share in shares:
        percent = share.split()[0]
        for method in ("grpo", "sft"):
            write_run(tmp_path / f"{method}{percent}", f"train.data_fraction={int(percent) / 100}", right=("10",))
    total = len(load_prompts(kitchen, "train"))
    expected = {f"{percent} % of data": round(percent / 100 * total) for percent in (6, 25, 100)}
    assert training_samples(study, "data") == expected


def test_numbers_of_frames_and_sizes_are_both_drawn(tmp_path):
    """For the cells of the shipped experiment: three numbers of frames, and three sizes that differ."""
    grid = runpy.run_path(str(ROOT / "experiments" / "frames.py"))["GRID"]
    cells = [cell for cell in grid.cells("nano") if cell.seed == 0]
    for cell in cells:
        assert write_run(tmp_path / cell.folder, *cell.overrides, right=("10" * 20,)) == cell.id
    rows = [(cell.arm, cell.seed, cell.folder, cell.id, cell.axis_levels) for cell in cells]
    write_grid(tmp_path, rows, control=grid.control)
    panels = sweep_figure(read_study(tmp_path)).together().axes
    assert [panel.get_xlabel() for panel in panels] == ["frames", "% size"]
    for panel, ticks in zip(panels, ("2 4 8", "50 100 150"), strict=True):
        assert " ".join(tick.get_text() for tick in panel.get_xticklabels()) == ticks
        labels = {line.get_label() for line in panel.lines if "," in str(line.get_label())}
        assert len(labels) == 7, "six lines, and the control"
    videos = [load(cell.preset, cell.overrides).video for cell in cells]
    assert {target_size(56, 56, video) for video in videos} == {(28, 28), (56, 56), (84, 84)}


def test_checkpoint_curves_start_at_the_untrained_control(tmp_path):
    """SFT, whose groups do not differ in reward, has no learning curve, but checkpoints; one evaluation is no curve."""
    accuracies, cells = {"base": {0: 0.25}, "sft": {10: 0.3, 20: 0.4}, "once": {20: 0.5}}, []
    for arm, by_step in accuracies.items():
        override = "train.max_steps=0" if arm == "base" else f"seed={len(arm)}"
        id = write_run(tmp_path / arm, override, right=("10" * 20,))
        cells.append((arm, 0, arm, id))
        other = {"reward": 1.0, "frac_reward_zero_std": 1.0}
        rows = [{"step": step, **other, "eval/L1/accuracy": value} for step, value in by_step.items()]
        write_jsonl(tmp_path / arm / "metrics.jsonl", rows)
    write_grid(tmp_path, cells)
    study = read_study(tmp_path)
    [panel] = checkpoint_curves(study).together().axes
    [sft] = [line for line in panel.lines if line.get_label() == "sft"]
    assert sft.get_xydata().tolist() == [[0, 25], [10, 30], [20, 40]]
    assert not [line for line in panel.lines if line.get_label() in ("base", "once")]
    assert learning_curves(study) is None
    one_evaluation = json.loads((tmp_path / "once" / "metrics.jsonl").read_text())
    write_jsonl(tmp_path / "sft" / "metrics.jsonl", [one_evaluation])
    assert checkpoint_curves(read_study(tmp_path)) is None


def test_advantage_shares_are_of_arms_that_explore_and_fit_the_panel(tmp_path):
    cells = []
    for arm, groups_without_spread, share in (("sft", 1.0, 0.0), ("grpo", 0.5, 1.0)):
        id = write_run(tmp_path / arm, f"seed={len(cells)}", right=("10" * 20,))
        metrics = {"advantage_share/accuracy": share, "advantage_share/format": 0.0}
        metrics["frac_reward_zero_std"] = groups_without_spread
        write_jsonl(tmp_path / arm / "metrics.jsonl", [{"step": step, **metrics} for step in range(1, 5)])
        cells.append((arm, 0, arm, id))
    write_grid(tmp_path, cells)
    [panel] = advantage_share_figure(read_study(tmp_path)).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["grpo"]
    low, high = panel.get_xlim()
    assert low < 0 and high > 1, "no marker is cut off"
    assert {x for line in panel.lines for x in line.get_xdata()} == {0.0, 1.0}


def test_steps_have_whole_ticks_together_and_apart(study_folder):
    for seed in (0, 1):
        rows = [{"step": step, "reward": 0.1 * step, "frac_reward_zero_std": 0.5} for step in range(1, 6)]
        write_jsonl(study_folder / f"a{seed}" / "metrics.jsonl", rows)
    curves = learning_curves(read_study(study_folder))
    *apart, legend = curves.apart()
    for figure in (curves.together(), *apart):
        figure.set_size_inches(3, 3)
        panel = figure.axes[0]
        if panel.get_xlabel() == "step":
            assert all(tick == int(tick) for tick in panel.get_xticks()), panel.get_xticks()
    assert apart[0].axes[0].get_title() == "reward" and len(apart) == len(curves.draw)
    assert [text.get_text() for text in legend.legends[0].get_texts()] == ["grpo"]


def test_panels_apart_have_the_limits_and_labels_of_the_one_figure(study_folder):
    accuracy = accuracy_figure(read_study(study_folder))
    together = accuracy.together()
    for figure, panel in zip(accuracy.apart(), together.axes, strict=False):
        assert figure.axes[0].get_xlim() == panel.get_xlim() and figure.axes[0].get_title() == panel.get_title()
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["base", "grpo"]
