"""Accuracy over J as contrasts: slopes, gains kept, what noise costs, by hand and in a simulation; their tables."""

import json
import shutil
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from rlvid.study.comparison import fit_seed_model
from rlvid.study.contrasts import NO_GAIN, ONE_SEED, difference_of_slopes, gain_kept, slope
from rlvid.study.noise_comparison import compare_under_noise
from rlvid.study.noise_response import comparable, noise_responses, untrained_arm
from rlvid.study.noise_rows import noise_sections
from rlvid.study.seed_model import SeedModel
from rlvid.study.study import read_study
from rlvid.study.tables import noise_cell_tables
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


@pytest.fixture
def study_folder(tmp_path):
    """Three seeds in each cell; the measured J of seed s is that of its noise + s / 100 - .01."""
    cells = []
    for (method, noise), right in RIGHT.items():
        for seed in range(3):
            youden_j = None if noise == "clean" else YOUDEN_J[noise] + seed / 100 - 0.01
            cells.append(write_cell(tmp_path, method, noise, seed, right, youden_j))
    write_grid(tmp_path, [write_base(tmp_path, 60), *cells], control="base", unseeded=["base"])
    return tmp_path


def write_base(folder, right):
    """Write an untrained run with so many of 100 questions right; returns its cell for `write_grid`."""
    marks = ["1" * count + "0" * (50 - count) for count in (right // 2, right - right // 2)]
    return "base", 0, "base", write_run(folder / "base", "train.max_steps=0", right=marks)


def compared(folder):
    """The study in a folder, its seed model and its responses."""
    study = read_study(folder)
    model = fit_seed_model(study)
    return study, model, comparable(noise_responses(study), model)


def rows_of(folder):
    """The rows of all tables about noise."""
    study = read_study(folder)
    return noise_sections(study, fit_seed_model(study))


def simulated_model(accuracies, seeds, rng, seed_sd=0.02):
    """A model of arms with these accuracies on 2 x 200 questions; "base" has one run."""
    easiness = rng.normal(0, 0.15, (2, 200))
    scores = {}
    for arm, accuracy in accuracies.items():
        runs = 1 if arm == "base" else seeds
        effects = rng.normal(0, seed_sd if runs > 1 else 0, runs)[:, None]
        scores[arm] = {
            level: (rng.random((runs, 200)) < accuracy + effects + easiness[i]).astype(float)
            for i, level in enumerate(("L1", "L2"))
        }
    return SeedModel.fit(scores, unseeded=["base"])


def test_slope_and_gain_kept_are_those_computed_by_hand(study_folder):
    grpo, *_ = noise_responses(read_study(study_folder))
    youden_j, accuracy = [p.youden_j for p in grpo.points], [p.accuracy for p in grpo.points]
    assert youden_j == pytest.approx([0.5, 0.75, 1.0]), "means over seeds, from the last step that has J"
    assert accuracy == pytest.approx([0.51, 0.71, 0.81]), "seeds 0, 1 and 2 have 0, 1 and 2 more right of 100"
    first, second, third = rows_of(study_folder)["noise_responses"]
    assert first.slope.value == pytest.approx(np.polyfit(youden_j, accuracy, 1)[0])
    kept = ((0.51 + 0.71) / 2 + (0.71 + 0.81) / 2) / 2  # trapezoid rule
    assert first.gain_kept.value == pytest.approx((kept - 0.6) / (0.81 - 0.6))
    for interval in (first.slope, first.gain_kept):
        assert interval.low < interval.value < interval.high
    assert second.slope.value == pytest.approx(0.02 / 0.25) and second.note == "no clean cell"
    assert third.slope is None and third.gain_kept is None, "one cell is not enough"


@pytest.mark.parametrize(
    ("right", "kept"), [((80, 80, 80), 1.0), ((80, 40, 40), 0.25), ((40, 40, 40), None), ((80, 20, 20), -0.125)]
)
def test_a_method_that_learns_nothing_under_noise_keeps_only_its_clean_part(tmp_path, right, kept):
    """The base has 40 of 100 right; J is 1, .75 and .5, of which the clean cell weighs a quarter."""
    cells = [
        write_cell(tmp_path, "grpo", noise, 2 * seed, count - 2 * seed, YOUDEN_J[noise])
        for noise, count in zip(NOISES, right, strict=True)
        for seed in range(2)
    ]
    write_grid(tmp_path, [write_base(tmp_path, 40), *cells], control="base", unseeded=["base"])
    [row] = rows_of(tmp_path)["noise_responses"]
    assert (row.note, row.gain_kept) == (NO_GAIN, None) if kept is None else row.gain_kept.value == pytest.approx(kept)


def test_every_interval_of_a_slope_comes_from_the_seed_model(study_folder):
    _, model, _ = compared(study_folder)
    row = rows_of(study_folder)["noise_responses"][0]
    weights = {"grpo, clean": 4 / 3 * 1.5, "grpo, half": -4 / 3 * 1.5}  # (J - .75) / (2 x .25 squared)
    contrast = model.contrast(weights)
    assert contrast.difference == pytest.approx(row.slope.value)
    assert (row.slope.low, row.slope.high) == pytest.approx(contrast.interval(0.05 / 2)), "two methods have a slope"


def test_a_method_without_a_gain_has_none_to_keep(tmp_path):
    cells = [
        write_cell(tmp_path, method, noise, seed, right - lost, YOUDEN_J[noise])
        for method, right in (("grpo", 90), ("lost", 58))
        for noise, lost in (("clean", 0), ("half", 20))
        for seed in range(3)
    ]
    write_grid(tmp_path, [write_base(tmp_path, 56), *cells], control="base", unseeded=["base"])
    rows = rows_of(tmp_path)
    grpo, lost = rows["noise_responses"]
    assert grpo.note == "" and lost.note == NO_GAIN and lost.gain_kept is None and lost.slope is not None
    assert [row.method for row in rows["noise_gains"]] == ["grpo"]
    text = printed_report(tmp_path)
    assert [line.split()[0] for line in text.splitlines() if line.endswith("–  no gain to keep")] == ["lost"]


def test_keeps_80_percent_is_tested_one_sided(tmp_path):
    """Of 30.5 points of gain, one noise leaves 29.5 and the other one 4.5."""
    cells = [
        write_cell(tmp_path, "grpo", noise, seed % 2, right, YOUDEN_J[noise])
        for noise, right in (("clean", 90), ("a fifth", 89), ("half", 64))
        for seed in range(2)
    ]
    write_grid(tmp_path, [write_base(tmp_path, 60), *cells], control="base", unseeded=["base"])
    a_fifth, half = rows_of(tmp_path)["noise_gains"]
    assert (a_fifth.noise, half.noise) == ("a fifth", "half") and half.keeps == "no"
    assert half.gain_kept.value == pytest.approx(4.5 / 30.5) and half.gain_kept.high < 0.8
    assert a_fifth.gain_kept.value == pytest.approx(29.5 / 30.5)
    _, model, _ = compared(tmp_path)
    contrast = model.contrast({"grpo, a fifth": 1, "grpo, clean": -0.8, "base": -0.2})
    assert (a_fifth.keeps == "yes") == (contrast.interval(2 * 0.05 / 2)[0] > 0), "one-sided at 5 % for both rows"


def test_what_noise_costs_is_compared_with_the_first_method(tmp_path):
    right = {("grpo", "clean"): 80, ("grpo", "a fifth"): 70, ("grpo", "half"): 40}
    right |= {("robust", "clean"): 80, ("robust", "a fifth"): 78, ("robust", "half"): 70}
    cells = [write_cell(tmp_path, *cell, s, count, YOUDEN_J[cell[1]]) for cell, count in right.items() for s in (0, 1)]
    write_grid(tmp_path, cells)
    costs = rows_of(tmp_path)["noise_costs"]
    assert [(row.a, row.b, row.condition) for row in costs] == [
        ("robust", "grpo", name) for name in ("slope over J", "a fifth", "half")
    ]
    slopes = [np.polyfit([0.5, 0.75, 1], y, 1)[0] for y in ([0.70, 0.78, 0.80], [0.40, 0.70, 0.80])]
    assert [row.difference.value for row in costs] == pytest.approx([slopes[0] - slopes[1], 0.02 - 0.1, 0.1 - 0.4])
    assert [row.verdict for row in costs] == ["costs less", "undecided", "costs less"]
    for row in costs:
        assert (row.p < 0.05) == (row.difference.high < 0) == (row.verdict == "costs less")


def test_the_words_about_costs_speak_of_slopes_only_where_there_are_some(tmp_path):
    right = {(method, noise): 60 + i for method in ("grpo", "robust") for i, noise in enumerate(("clean", "half"))}
    cells = [write_cell(tmp_path, *cell, s, count, YOUDEN_J[cell[1]]) for cell, count in right.items() for s in (0, 1)]
    write_grid(tmp_path, cells)
    both = " ".join(printed_report(tmp_path).split())
    assert "slope over J" in both and "half of the error rate is for slopes" in both
    for path in tmp_path.glob("*-half-*/metrics.jsonl"):
        path.unlink()
    noises = " ".join(printed_report(tmp_path).split())
    assert [row.condition for row in rows_of(tmp_path)["noise_costs"]] == ["half"], "there is no J, so no slope"
    words = noises.partition("Points: what the noise costs a method")[2].partition("Costs more or less")[0]
    assert words and "slope" not in words.lower() and "half of the error rate" not in words


def test_no_method_under_a_noise_is_taken_for_another_one(tmp_path, monkeypatch):
    """Joined by " | ", the names of "m" under "n | half" and of "m | n" under "half" are alike."""
    monkeypatch.setitem(NOISES, "n | half", ("noise.kind=symmetric", "noise.rate=0.2"))
    right = {("grpo", "half"): 40, ("grpo", "n | half"): 40, ("m", "n | half"): 45, ("m | n", "half"): 70}
    cells = [write_cell(tmp_path, *cell, seed, count, 0.5) for cell, count in right.items() for seed in (0, 1)]
    write_grid(tmp_path, cells)
    rows = {(row.a, row.condition): row.difference.value for row in rows_of(tmp_path)["noise_comparisons"]}
    assert rows == {("m", "n | half"): pytest.approx(0.05), ("m | n", "half"): pytest.approx(0.3)}


def test_a_clean_run_that_two_methods_share_cancels(tmp_path):
    """Then what noise costs one method more than another is the difference under noise, with its smaller interval."""
    cells = []
    for seed in range(3):
        cells.append(write_cell(tmp_path, "grpo", "clean", seed, 80))
        _, *run, levels = cells[-1]
        cells.append(("robust, clean", *run, levels | {"algorithm": "robust"}))
        for method, right in (("grpo", 50), ("robust", 62)):
            cells.append(write_cell(tmp_path, method, "half", seed, right, 0.5))
    write_grid(tmp_path, cells)
    _, model, _ = compared(tmp_path)
    assert model.same_runs == {"robust, clean": "grpo, clean"} and len(model.scatter.tau) == 4
    slope, cost = rows_of(tmp_path)["noise_costs"]
    both = model.contrast({"grpo, half": 1, "robust, half": -1})
    assert cost.difference.value == pytest.approx(both.difference) == -0.12
    assert cost.alone.high - cost.alone.low == pytest.approx(2 * both.half_width(0.05))
    assert slope.difference.value == pytest.approx(-0.12 / 0.5)
    assert [row.condition for row in rows_of(tmp_path)["noise_comparisons"]] == ["half"], "one run is not compared"


def test_runs_under_two_names_count_once(study_folder):
    study = read_study(study_folder)
    once = fit_seed_model(study)
    about = json.loads((study_folder / "grid.json").read_text())
    about["cells"] += [cell | {"arm": "twin", "levels": {}} for cell in about["cells"] if cell["arm"] == "grpo, half"]
    write_text(study_folder / "grid.json", json.dumps(about))
    twice = fit_seed_model(read_study(study_folder))
    for arm in once.scatter.tau:
        assert twice.scatter.tau[arm] == pytest.approx(once.scatter.tau[arm])
    weights = {"grpo, clean": 1, "grpo, half": -1}
    assert twice.contrast(weights).p_value() == pytest.approx(once.contrast(weights).p_value())
    assert twice.contrast({"twin": 1, "grpo, half": -1}).difference == 0


def test_slopes_gains_and_costs_cover_the_truth():
    """Two methods with three seeds, a base without; slope, gain kept and difference of slopes, each alone at 95 %."""
    rng, repetitions = np.random.default_rng(9), 120
    accuracies = {"base": 0.45, "a1": 0.6, "a2": 0.56, "a3": 0.5, "b1": 0.58, "b3": 0.53}
    a = [({"a3": 1.0}, 0.5), ({"a2": 1.0}, 0.75), ({"a1": 1.0}, 1.0)]
    b = [({"b3": 1.0}, 0.5), ({"b1": 1.0}, 1.0)]
    covered = dict.fromkeys(("slope", "difference of slopes", "gain kept"), 0.0)
    kept = np.trapezoid([0.05, 0.11, 0.15], [0.5, 0.75, 1.0]) / 0.5 / 0.15
    for _ in range(repetitions):
        model = simulated_model(accuracies, 3, rng)
        for name, weights, truth in (
            ("slope", slope(a), 0.2),
            ("difference of slopes", difference_of_slopes(a, b), 0.1),
        ):
            low, high = model.contrast(weights).interval()
            covered[name] += (low <= truth <= high) / repetitions
        gain = gain_kept(model, a, "a1", "base")
        covered["gain kept"] += (gain is None or gain.low <= kept <= gain.high) / repetitions
    assert min(covered.values()) >= 0.91, covered  # 95 % less two standard errors of 120 repetitions


def test_noise_without_an_effect_has_slope_zero_and_keeps_everything(tmp_path):
    cells = [write_cell(tmp_path, "grpo", noise, s, 90, YOUDEN_J[noise]) for noise in NOISES for s in (0, 1)]
    write_grid(tmp_path, [write_base(tmp_path, 50), *cells], control="base", unseeded=["base"])
    [grpo] = rows_of(tmp_path)["noise_responses"]
    assert grpo.slope.value == pytest.approx(0, abs=1e-9) and grpo.gain_kept.value == pytest.approx(1)
    assert grpo.slope.low < 0 < grpo.slope.high and grpo.gain_kept.low < 1 < grpo.gain_kept.high


def test_cells_of_nearly_equal_j_are_one_point(tmp_path):
    cells = [("clean", 80), ("a fifth", 70, 0.51), ("half", 50, 0.49)]
    cells = [write_cell(tmp_path, "grpo", noise, s, *rest) for noise, *rest in cells for s in (0, 1)]
    write_grid(tmp_path, [write_base(tmp_path, 20), *cells], control="base", unseeded=["base"])
    [grpo] = noise_responses(read_study(tmp_path))
    assert [p.youden_j for p in grpo.points] == pytest.approx([0.5, 1.0])
    assert [p.accuracy for p in grpo.points] == pytest.approx([0.605, 0.805])
    [row] = rows_of(tmp_path)["noise_responses"]
    assert row.slope.value == pytest.approx(0.2 / 0.5)
    assert row.gain_kept.value == pytest.approx(((0.605 + 0.805) / 2 - 0.2) / (0.805 - 0.2))


def test_gains_need_an_untrained_arm(tmp_path):
    cells = [write_cell(tmp_path, "grpo", noise, s, 80, YOUDEN_J[noise]) for noise in NOISES for s in (0, 1)]
    write_grid(tmp_path, cells)
    assert untrained_arm(read_study(tmp_path)) is None
    [grpo] = rows_of(tmp_path)["noise_responses"]
    assert grpo.gain_kept is None and grpo.note == "no untrained arm"


def test_one_seed_says_nothing_of_gains(tmp_path):
    cells = [write_cell(tmp_path, "grpo", noise, 0, 90, YOUDEN_J[noise]) for noise in NOISES]
    write_grid(tmp_path, [write_base(tmp_path, 30), *cells], control="base", unseeded=["base"])
    [grpo] = rows_of(tmp_path)["noise_responses"]
    assert grpo.note == ONE_SEED and not rows_of(tmp_path)["noise_gains"]


def test_methods_are_compared_with_the_first_one_under_the_same_noise(study_folder):
    comparisons = compare_under_noise(*compared(study_folder))
    assert [(row.a, row.b, row.condition) for row in comparisons] == [
        ("robust", "grpo", "a fifth"),
        ("robust", "grpo", "half"),
        ("weak", "grpo", "clean"),
    ]
    assert [row.difference.value for row in comparisons] == pytest.approx([0.06, 0.24, -0.40])
    assert [row.verdict for row in comparisons] == ["undecided", "better", "worse"]
    assert all(row.difference.low <= row.difference.value <= row.difference.high for row in comparisons)
    assert all(row.p_these_runs is not None for row in comparisons)


def test_an_incomplete_grid_is_measured_from_its_finished_cells(study_folder):
    about = json.loads((study_folder / "grid.json").read_text())
    for cell in about["cells"]:
        if cell["folder"] in ("grpo-clean-2", "robust-half-0", "robust-half-1", "robust-half-2"):
            cell["id"] = "another"
    write_text(study_folder / "grid.json", json.dumps(about))
    grpo, robust, _ = noise_responses(read_study(study_folder))
    assert [p.accuracy for p in grpo.points] == pytest.approx([0.51, 0.71, 0.805]), "every finished seed counts"
    assert robust.unmeasured == ["half"] and not robust.measurable
    text = printed_report(study_folder)
    assert line_starting(text, "  half").split()[:5] == ["half", "3", ".12", ".38", ".50"]
    assert "robust: half" in " ".join(text.split())


def test_the_closed_form_of_j_is_used_where_no_verdict_was_counted(tmp_path):
    cells = [write_cell(tmp_path, "dpo", *cell) for cell in (("clean", 0, 80), ("a fifth", 0, 70), ("half", 0, 60))]
    write_grid(tmp_path, cells)
    write_text(tmp_path / "dpo-a-fifth-0" / "noise.json", json.dumps({"rate": 0.21, "youden_j": 0.72}))
    write_text(tmp_path / "dpo-half-0" / "noise.json", json.dumps({"rate": 0.2, "youden_j": None}))
    [dpo] = noise_responses(read_study(tmp_path))
    assert [p.youden_j for p in dpo.points] == pytest.approx([0.72, 1.0]) and dpo.unmeasured == ["half"]
    text = printed_report(tmp_path)
    assert line_starting(text, "  a fifth").split()[2:6] == ["1", "–", "–", ".72"]
    assert line_starting(text, "  half").split()[1:5] == ["1", "–", "–", "–"]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_tables_about_noise_fit_a_terminal(study_folder, width):
    text = printed_report(study_folder, width, plots=True)
    tables = text.split("picture ")[0]
    assert max(map(len, tables.splitlines())) <= width and "…" not in text
    assert "noise.png" in text and (study_folder / "plots" / "noise.png").stat().st_size > 10_000


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_of_noises_is_split_for_long_names_of_levels(study_folder, width):
    names = ["videomme_long_w_subtitles", "mvbench [action] localization", *"uvwxyz"]
    for folder in (path.parent for path in study_folder.glob("*/eval")):
        for level, name in zip(("L1", "L2"), names, strict=False):
            (folder / f"eval/{level}.jsonl").rename(folder / f"eval/{name}.jsonl")
        for name in names[2:]:
            shutil.copy(folder / f"eval/{names[0]}.jsonl", folder / f"eval/{name}.jsonl")
    tables = noise_cell_tables(rows_of(study_folder)["noise_cells"], width)
    shown = []
    for table in tables:
        console = Console(file=StringIO(), width=width)
        console.print(table)
        shown.append(console.file.getvalue())
    lines = [line.rstrip() for text in shown for line in text.splitlines()]
    assert max(map(len, lines)) <= width and (len(tables) > 1 or width > 80) and "…" not in "".join(shown)
    assert sum(line.startswith("  a fifth") for line in lines) == 2 * len(tables), "each table names all noises"
    words = " ".join(lines)
    assert all(part in words for part in ("videomme_long_w_", "subtitles", "mvbench [action]", "localization"))
    *_, last = shown
    right = [np.mean(list(row.level_accuracy.values())) for row in rows_of(study_folder)["noise_cells"]]
    assert f" {100 * right[0]:.1f} " in line_starting(last, "  clean"), "the accuracy stays beside its interval"
    assert "–" in line_starting(last, "  clean") and "95 % interval" in last


def test_a_grid_without_a_noise_axis_has_no_noise_response(tmp_path):
    write_run(tmp_path / "mine", right=("1" * 30 + "0" * 10,))
    assert noise_responses(read_study(tmp_path)) == [] and "Slope" not in printed_report(tmp_path)
