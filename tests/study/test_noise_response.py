"""Noise response: grids whose accuracies and J are known, complete and incomplete."""

import json

import numpy as np
import pytest

from rlvid.study.comparison import compare_under_noise, fit_seed_model
from rlvid.study.noise_response import NoiseCell, NoiseResponse, noise_responses
from rlvid.study.study import read_study
from rlvid.utils.files import write_jsonl, write_text
from tests.helpers.reports import line_starting, printed_report, write_grid, write_run

NOISES = {"clean": (), "a fifth": ("noise.kind=symmetric", "noise.rate=0.2"), "half": ("noise.kind=verifier",)}
YOUDEN_J = {"clean": 1.0, "a fifth": 0.75, "half": 0.5}
RIGHT = {("grpo", "clean"): 80, ("grpo", "a fifth"): 70, ("grpo", "half"): 50}  # of 100, with seed 0
RIGHT |= {("robust", "a fifth"): 76, ("robust", "half"): 74, ("weak", "clean"): 40}


def write_cell(folder, method, noise, seed, right, youden_j=None):
    """Write a finished run with `right` + seed of 100 questions right, half of them on each of two levels.

    Its last metrics hold the error rates that belong to `youden_j`. Returns its cell for `write_grid`.
    """
    name = f"{method}-{noise}-{seed}".replace(" ", "-")
    marks = ["1" * count + "0" * (50 - count) for count in ((right + seed) // 2, (right + seed + 1) // 2)]
    differing = f"algorithm.epsilon={0.1 + len(name) / 100}"
    id = write_run(folder / name, f"seed={seed}", differing, *NOISES[noise], right=marks)
    if youden_j is not None:
        error = 1 - youden_j
        rates = {"false_positive_rate": error / 4, "false_negative_rate": 3 * error / 4, "youden_j": youden_j}
        last = {f"noise/{key}": value for key, value in rates.items()}
        write_jsonl(folder / name / "metrics.jsonl", [{"step": 1, "noise/youden_j": 0.1}, {"step": 2, **last}])
    return f"{method}, {noise}", seed, name, id, {"algorithm": method, "noise": noise}


def write_base(folder, right):
    """Write an untrained run with `right` of 100 questions right. Returns its cell; it has no noise."""
    marks = ["1" * count + "0" * (50 - count) for count in (right // 2, (right + 1) // 2)]
    return "base", 0, "base", write_run(folder / "base", "train.max_steps=0", right=marks), {}


BASE = {"unseeded": ["base"], "control": "base"}


@pytest.fixture
def study_folder(tmp_path):
    """Three seeds in each cell; the measured J of seed s is that of its noise + s / 100 - .01."""
    cells = []
    for (method, noise), right in RIGHT.items():
        for seed in range(3):
            youden_j = None if noise == "clean" else YOUDEN_J[noise] + seed / 100 - 0.01
            cells.append(write_cell(tmp_path, method, noise, seed, right, youden_j))
    write_grid(tmp_path, [*cells, write_base(tmp_path, right=40)], **BASE)
    return tmp_path


def test_kept_gain_and_slope_are_those_computed_by_hand(study_folder):
    grpo, robust, weak = noise_responses(read_study(study_folder))
    youden_j, accuracy, _ = grpo.points
    assert youden_j == pytest.approx([0.5, 0.75, 1.0]), "means over seeds, from the last step that has J"
    assert accuracy == pytest.approx([0.51, 0.71, 0.81]), "seeds 0, 1 and 2 have 0, 1 and 2 more right of 100"
    mean_accuracy = ((0.51 + 0.71) / 2 + (0.71 + 0.81) / 2) / 2
    assert grpo.kept_gain.value == pytest.approx((mean_accuracy - 0.4) / (0.81 - 0.4)), "the base has 40 of 100 right"
    assert 0 < grpo.kept_gain.low < grpo.kept_gain.value < grpo.kept_gain.high < 1
    assert grpo.slope.value == pytest.approx(np.polyfit(youden_j, accuracy, 1)[0])
    assert grpo.slope.low < grpo.slope.value < grpo.slope.high
    assert robust.kept_gain is None and robust.slope.value == pytest.approx(0.02 / 0.25), "no clean cell"
    assert weak.kept_gain is None and weak.slope is None, "one cell is not enough"


@pytest.mark.parametrize(
    "right, kept", [((60, 60, 60), 1.0), ((60, 40, 40), 0.25), ((40, 40, 40), None), ((60, 20, 20), -0.5)]
)
def test_a_run_that_learns_nothing_keeps_nothing(tmp_path, right, kept):
    """The base has 40 of 100 right; J is 1, 0.75 and 0.5. Accuracy over clean accuracy would give .75 for .25."""
    cells = [
        write_cell(tmp_path, "grpo", noise, 0, count, YOUDEN_J[noise])
        for noise, count in zip(NOISES, right, strict=True)
    ]
    write_grid(tmp_path, [*cells, write_base(tmp_path, right=40)], **BASE)
    [grpo] = noise_responses(read_study(tmp_path))
    if kept is None:
        assert grpo.kept_gain is None, "clean training is not above the base: there is no gain to keep"
    else:
        assert grpo.kept_gain.value == pytest.approx(kept)


def test_without_an_untrained_arm_no_gain_is_known(tmp_path):
    cells = [("clean", 0, 80), ("a fifth", 0, 70, 0.75)]
    write_grid(tmp_path, [write_cell(tmp_path, "grpo", *cell) for cell in cells])
    [grpo] = noise_responses(read_study(tmp_path))
    assert grpo.kept_gain is None and grpo.slope is not None


def test_seeds_and_videos_are_resampled_for_all_cells_together(study_folder):
    """If the effect of a seed is the same in every cell, seeds add no uncertainty to the slope."""
    grpo = noise_responses(read_study(study_folder))[0]
    for cell in grpo.cells:
        right = RIGHT["grpo", cell.noise]
        scores = {s: np.repeat([1.0, 0.0], [right + 3 * s, 100 - right - 3 * s]) for s in range(3)}
        cell.scores.clear()
        cell.scores.update(scores)
    _, _, resampled = grpo.points
    differences = resampled[2] - resampled[0]
    sd_if_independent = np.sqrt(resampled[0].var() + resampled[2].var())
    assert differences.std() < 0.8 * sd_if_independent
    from_questions = np.sqrt(0.3 * 0.7 / 100)  # the cells differ on 30 of 100 questions
    assert differences.std() == pytest.approx(from_questions, rel=0.05)


def test_the_intervals_of_slope_and_kept_gain_cover_the_truth():
    """Three seeds with the same effect in all cells, forty videos of eight questions."""
    rng, true_accuracies, repetitions = np.random.default_rng(9), {1.0: 0.6, 0.75: 0.52, 0.5: 0.45}, 150
    true_kept = (np.trapezoid([0.45, 0.52, 0.6], [0.5, 0.75, 1.0]) / 0.5 - 0.35) / (0.6 - 0.35)
    videos, covered = np.repeat(np.arange(40), 8), np.zeros(2)
    for _ in range(repetitions):
        easiness = rng.normal(0, 0.08, 40)[videos] + rng.uniform(-0.2, 0.2, 320)
        seed_effects = rng.normal(0, 0.02, 3)
        cells = []
        for youden_j, accuracy in true_accuracies.items():
            chances = [accuracy + easiness + effect for effect in seed_effects]
            scores = {seed: (rng.random(320) < chance).astype(float) for seed, chance in enumerate(chances)}
            cells.append(
                NoiseCell("grpo", f"J {youden_j}", "", 3, scores, {"youden_j": youden_j}, is_clean=youden_j == 1)
            )
        base = (rng.random((1, 320)) < 0.35 + easiness).astype(float)
        response = NoiseResponse("grpo", cells, videos, base)
        for i, (interval, truth) in enumerate(((response.slope, 0.3), (response.kept_gain, true_kept))):
            covered[i] += (interval.low <= truth <= interval.high) / repetitions
    assert covered.min() >= 0.92, covered


def test_noise_without_an_effect_keeps_all_of_the_gain(tmp_path):
    cells = [write_cell(tmp_path, "grpo", noise, s, 60, YOUDEN_J[noise]) for noise in NOISES for s in (0, 1)]
    write_grid(tmp_path, [*cells, write_base(tmp_path, right=40)], **BASE)
    [grpo] = noise_responses(read_study(tmp_path))
    for interval, value in ((grpo.kept_gain, 1.0), (grpo.slope, 0.0)):
        assert (interval.value, interval.low, interval.high) == pytest.approx((value,) * 3, abs=1e-6)


def test_cells_of_nearly_equal_j_are_one_point(tmp_path):
    cells = [("clean", 0, 80), ("a fifth", 0, 70, 0.51), ("half", 0, 50, 0.49)]
    write_grid(tmp_path, [write_cell(tmp_path, "grpo", *cell) for cell in cells])
    [grpo] = noise_responses(read_study(tmp_path))
    youden_j, accuracy, _ = grpo.points
    assert youden_j == pytest.approx([0.5, 1.0]) and accuracy == pytest.approx([0.6, 0.8])
    assert grpo.kept_gain is None, "no untrained arm"


def test_methods_are_compared_with_the_first_one_under_the_same_noise(study_folder):
    study = read_study(study_folder)
    comparisons = compare_under_noise(study, fit_seed_model(study), noise_responses(study))
    assert [(row.a, row.b, row.condition) for row in comparisons] == [
        ("robust", "grpo", "a fifth"),
        ("robust", "grpo", "half"),
        ("weak", "grpo", "clean"),
    ]
    assert [row.difference.value for row in comparisons] == pytest.approx([0.06, 0.24, -0.40])
    assert [row.verdict for row in comparisons] == ["undecided", "better", "worse"]
    assert all(row.difference.low <= row.difference.value <= row.difference.high for row in comparisons)


def test_an_incomplete_grid_is_measured_from_its_finished_cells(study_folder):
    about = json.loads((study_folder / "grid.json").read_text())
    for cell in about["cells"]:
        if cell["folder"] in ("grpo-clean-2", "robust-half-0", "robust-half-1", "robust-half-2"):
            cell["id"] = "another"
    write_text(study_folder / "grid.json", json.dumps(about))
    grpo, robust, _ = noise_responses(read_study(study_folder))
    assert grpo.shared_seeds == [0, 1] and grpo.points[1] == pytest.approx([0.505, 0.705, 0.805])
    assert robust.unmeasured == ["half"] and robust.slope is None
    text = printed_report(study_folder)
    assert line_starting(text, "  half").split()[:5] == ["half", "3", ".12", ".38", ".50"]
    assert "robust: half" in " ".join(text.split())


def test_the_closed_form_of_j_is_used_where_no_verdict_was_counted(tmp_path):
    cells = [write_cell(tmp_path, "dpo", *cell) for cell in (("clean", 0, 80), ("a fifth", 0, 70), ("half", 0, 60))]
    write_grid(tmp_path, cells)
    write_text(tmp_path / "dpo-a-fifth-0" / "noise.json", json.dumps({"rate": 0.21, "youden_j": 0.72}))
    write_text(tmp_path / "dpo-half-0" / "noise.json", json.dumps({"rate": 0.2, "youden_j": None}))
    [dpo] = noise_responses(read_study(tmp_path))
    assert dpo.points[0] == pytest.approx([0.72, 1.0]) and dpo.unmeasured == ["half"]
    text = printed_report(tmp_path)
    assert line_starting(text, "  a fifth").split()[2:6] == ["1", "–", "–", ".72"]
    assert line_starting(text, "  half").split()[1:5] == ["1", "–", "–", "–"]


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_about_noise_fit_a_terminal(study_folder, width):
    text = printed_report(study_folder, width, plots=True)
    tables = text.split("picture ")[0]
    assert max(map(len, tables.splitlines())) <= width and "…" not in text
    assert "noise.png" in text and (study_folder / "plots" / "noise.png").stat().st_size > 10_000


def test_a_grid_without_a_noise_axis_has_no_noise_response(tmp_path):
    write_run(tmp_path / "mine", right=("1" * 30 + "0" * 10,))
    assert noise_responses(read_study(tmp_path)) == [] and "Slope" not in printed_report(tmp_path)
