"""Noise response: grids whose accuracies and J are known, whole and cut short."""

import json

import numpy as np
import pytest

from rlvid.study.comparison import compare, pairs_in_noise
from rlvid.study.noise_response import Cell, Response, responses
from rlvid.study.runs import read
from rlvid.study.stats import holm, permutation
from rlvid.utils.files import write_jsonl, write_text
from tests.helpers.reports import line, printed, run

NOISE = {"clean": (), "a fifth": ("noise.kind=symmetric", "noise.rate=0.2"), "half": ("noise.kind=verifier",)}
YOUDEN = {"clean": 1.0, "a fifth": 0.75, "half": 0.5}
RIGHT = {("grpo", "clean"): 80, ("grpo", "a fifth"): 70, ("grpo", "half"): 50}
RIGHT |= {("robust", "a fifth"): 76, ("robust", "half"): 74, ("deaf", "clean"): 40}


def cell(folder, method, noise, seed, right, youden=None):
    """A finished run in a noise cell with `right` + seed of 100 right, half of them on each of two levels."""
    name = f"{method}-{noise}-{seed}".replace(" ", "-")
    marks = ["1" * n + "0" * (50 - n) for n in ((right + seed) // 2, (right + seed + 1) // 2)]
    id = run(folder / name, f"seed={seed}", f"algorithm.epsilon={0.1 + len(name) / 100}", *NOISE[noise], right=marks)
    if youden is not None:
        rates = {"false_positive_rate": (1 - youden) / 4, "false_negative_rate": 3 * (1 - youden) / 4}
        metrics = {f"noise/{key}": value for key, value in (rates | {"youden_j": youden}).items()}
        write_jsonl(folder / name / "metrics.jsonl", [{"step": 1, "noise/youden_j": 0.1}, {"step": 2, **metrics}])
    levels = {"algorithm": method, "noise": noise}
    return {"arm": f"{method}, {noise}", "levels": levels, "seed": seed, "folder": name, "id": id}


def grid(folder, cells):
    about = {"name": "g", "question": "Which survive?", "control": cells[0]["arm"], "comparisons": []}
    write_text(folder / "grid.json", json.dumps(about | {"cells": cells}))


@pytest.fixture
def study(tmp_path):
    """Three seeds in each cell; the realised J of seed s is that of its cell + s / 100 - .01."""
    grid(
        tmp_path,
        [
            cell(tmp_path, m, n, s, right, None if n == "clean" else YOUDEN[n] + s / 100 - 0.01)
            for (m, n), right in RIGHT.items()
            for s in range(3)
        ],
    )
    return tmp_path


def test_area_and_slope_by_hand(study):
    grpo, robust, deaf = responses(read(study))
    youden, accuracy, _ = grpo.points
    assert youden == pytest.approx([0.5, 0.75, 1.0]), "realised, means over seeds, from the last step that tells"
    assert accuracy == pytest.approx([0.51, 0.71, 0.81]), "seeds 0, 1 and 2 have 0, 1 and 2 more right of 100"
    assert grpo.area.value == pytest.approx(((0.51 + 0.71) / 2 + (0.71 + 0.81) / 2) / 2 / 0.81)
    assert grpo.slope.value == pytest.approx(np.polyfit(youden, accuracy, 1)[0])
    assert grpo.slope.low < grpo.slope.value < grpo.slope.high
    assert robust.area is None and robust.slope.value == pytest.approx(0.02 / 0.25), "no clean cell, no area"
    assert deaf.area is None and deaf.slope is None, "one cell is no response"


def test_seeds_and_videos_are_drawn_for_all_cells_together(study):
    """Where a seed's luck is the same in every cell, the slope has no doubt from seeds at all."""
    grpo = responses(read(study))[0]
    for c in grpo.cells:
        right = RIGHT["grpo", c.noise]
        c.scores.clear()
        c.scores.update({s: np.repeat([1.0, 0.0], [right + 3 * s, 100 - right - 3 * s]) for s in range(3)})
    _, _, drawn = grpo.points
    gaps = drawn[2] - drawn[0]
    apart = np.sqrt(drawn[0].var() + drawn[2].var())
    assert gaps.std() < 0.8 * apart
    assert gaps.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 100), rel=0.05), "the doubt of 30 of 100 questions"


def test_slopes_and_areas_cover_the_truth():
    """Three seeds whose luck follows them through all cells, forty videos of eight questions."""
    rng, youden, worlds = np.random.default_rng(9), (1.0, 0.75, 0.5), 150
    videos, covered = np.repeat(np.arange(40), 8), np.zeros(2)
    area = np.trapezoid([0.45, 0.52, 0.6], [0.5, 0.75, 1.0]) / 0.5 / 0.6
    for _ in range(worlds):
        ease = rng.normal(0, 0.08, 40)[videos] + rng.uniform(-0.2, 0.2, 320)
        luck = rng.normal(0, 0.02, 3)
        cells = []
        for j, accuracy in zip(youden, (0.6, 0.52, 0.45), strict=True):
            drawn = {s: (rng.random(320) < accuracy + ease + luck[s]).astype(float) for s in range(3)}
            cells.append(Cell("grpo", f"J {j}", "", 3, drawn, {"youden_j": j}, clean=j == 1))
        response = Response("grpo", cells, videos)
        for k, (i, truth) in enumerate(((response.slope, 0.3), (response.area, area))):
            covered[k] += (i.low <= truth <= i.high) / worlds
    assert covered.min() >= 0.92, covered


def test_noise_that_does_nothing_has_area_one_and_slope_zero(tmp_path):
    cells = [cell(tmp_path, "grpo", n, s, 60, YOUDEN[n]) for n in NOISE for s in range(2)]
    grid(tmp_path, cells)
    (grpo,) = responses(read(tmp_path))
    for interval, value in ((grpo.area, 1.0), (grpo.slope, 0.0)):
        assert (interval.value, interval.low, interval.high) == pytest.approx((value,) * 3, abs=1e-6)


def test_cells_of_nearly_equal_j_are_one_point(tmp_path):
    cells = [cell(tmp_path, "grpo", *c) for c in (("clean", 0, 80), ("a fifth", 0, 70, 0.51), ("half", 0, 50, 0.49))]
    grid(tmp_path, cells)
    (grpo,) = responses(read(tmp_path))
    youden, accuracy, _ = grpo.points
    assert (youden, accuracy) == (pytest.approx([0.5, 1.0]), pytest.approx([0.6, 0.8]))
    assert grpo.area.value == pytest.approx(0.7 / 0.8)


def test_methods_meet_the_first_one_in_the_same_noise(study):
    found = compare(pairs_in_noise(responses(read(study))))
    assert [(c.a, c.b, c.place) for c in found] == [
        ("robust", "grpo", "a fifth"),
        ("robust", "grpo", "half"),
        ("deaf", "grpo", "clean"),
    ]
    assert [c.difference.value for c in found] == pytest.approx([0.06, 0.24, -0.40])
    assert [c.verdict for c in found] == ["better", "better", "worse"]
    ps = [permutation(*(read(study).column(f"{m}, {c.place}", "L1", "correct") for m in (c.a, c.b))) for c in found]
    assert all(c.p < p for c, p in zip(found, holm(ps), strict=True)), "both levels say more than one"


def test_a_grid_cut_short_is_measured_as_far_as_it_came(study):
    about = json.loads((study / "grid.json").read_text())
    for c in about["cells"]:
        if c["folder"] in ("grpo-clean-2", "robust-half-0", "robust-half-1", "robust-half-2"):
            c["id"] = "another"
    write_text(study / "grid.json", json.dumps(about))
    grpo, robust, _ = responses(read(study))
    assert grpo.seeds == [0, 1] and grpo.points[1] == pytest.approx([0.505, 0.705, 0.805])
    assert robust.missing == ["half"] and robust.slope is None
    text = printed(study)
    assert line(text, "  half").split()[:5] == ["half", "3", ".12", ".38", ".50"]
    assert "robust: half" in " ".join(text.split())


def test_a_closed_form_stands_in_where_no_verdict_was_counted(tmp_path):
    cells = [cell(tmp_path, "dpo", n, 0, r) for n, r in (("clean", 80), ("a fifth", 70), ("half", 60))]
    grid(tmp_path, cells)
    write_text(tmp_path / "dpo-a-fifth-0" / "noise.json", json.dumps({"rate": 0.21, "youden_j": 0.72}))
    write_text(tmp_path / "dpo-half-0" / "noise.json", json.dumps({"rate": 0.2, "youden_j": None}))
    (dpo,) = responses(read(tmp_path))
    assert dpo.points[0] == pytest.approx([0.72, 1.0]) and dpo.missing == ["half"]
    text = printed(tmp_path)
    assert line(text, "  a fifth").split()[2:6] == ["1", "–", "–", ".72"]
    assert line(text, "  half").split()[1:5] == ["1", "–", "–", "–"]


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_fit_a_terminal(study, width):
    text = printed(study, width, plots=True)
    assert max(len(row) for row in text.split("picture ")[0].splitlines()) <= width and "…" not in text
    words = " ".join(text.split())
    assert "noise.png" in words and (study / "plots" / "noise.png").stat().st_size > 10_000


def test_a_grid_without_noise_has_no_response(tmp_path):
    run(tmp_path / "mine", right=("1" * 30 + "0" * 10,))
    assert responses(read(tmp_path)) == [] and "Slope" not in printed(tmp_path)
