"""The rank correlation of effects in two settings: by hand, against scipy, and what noise does to its interval."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from rlvid.api import report
from rlvid.study.comparison import fit_seed_model
from rlvid.study.contrasts import combine, difference
from rlvid.study.effect_order import _covariance, effect_order_rows, permutation_p, rank_correlation, spearman
from rlvid.study.study import read_study
from tests.helpers.reports import printed_report, write_arms, write_grid

# Right answers of 100 on each level: three rewards gain in the same order for a small and for a large model.
RIGHT = {
    "control, small": 40, "a, small": 70, "b, small": 55, "c, small": 30,
    "control, large": 60, "a, large": 90, "b, large": 80, "c, large": 61,
}  # fmt: skip
ORDER = [(f"{arm}, small", "control, small", f"{arm}, large", "control, large") for arm in "abc"]


@pytest.fixture
def grid_folder(tmp_path):
    """Eight arms with two seeds; seed 1 has one more right answer than seed 0."""
    write_grid(tmp_path, write_arms(tmp_path, RIGHT), [("a, small", "control, small")], effect_order=ORDER)
    return tmp_path


def test_the_correlation_is_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    for count in (3, 6, 12):
        x, y = rng.integers(0, 5, count).astype(float), rng.integers(0, 5, count).astype(float)
        assert spearman(x, y).item() == pytest.approx(spearmanr(x, y).statistic)
    assert spearman(np.ones(4), np.arange(4.0)).item() == 0, "effects that are all equal have no order"


def test_the_p_value_counts_orders():
    rising = np.arange(4.0)
    assert permutation_p(rising, rising) == 1 / 24
    assert permutation_p(rising, rising[::-1]) == 1
    assert permutation_p(rising, np.array([1.0, 0.0, 2.0, 3.0])) == 4 / 24, "the same order and one neighbour swapped"
    many = np.arange(12.0)
    assert permutation_p(many, many) == 1 / 10_000, "of many effects, random orders"


def test_noise_widens_the_interval():
    effects, exact, vague = np.array([0.0, 1.0, 2.0, 3.0]), 1e-6 * np.eye(4), 100 * np.eye(4)
    sure = rank_correlation(effects, exact, effects, exact)
    assert (sure.value, sure.low, sure.high) == (1, 1, 1)
    unsure = rank_correlation(effects, vague, effects, vague)
    assert unsure.value == 1 and unsure.low < -0.7 and unsure.high > 0.7


def test_effects_with_a_common_arm_are_correlated(grid_folder):
    model = fit_seed_model(read_study(grid_folder))
    effects = [difference(a, other) for a, other, _, _ in ORDER]
    covariance = _covariance(model, effects)
    together = combine(*((1, effect) for effect in effects))
    assert covariance.sum() == pytest.approx(model.contrast(together, "all levels").variance)
    assert np.diag(covariance) == pytest.approx([model.contrast(e, "all levels").variance for e in effects])
    assert (covariance > 0).all(), "all of them subtract the same control"


def test_the_report_shows_the_effects_and_their_correlation(grid_folder):
    study = read_study(grid_folder)
    rows = effect_order_rows(study, fit_seed_model(study))
    assert [row.effect_a for row in rows] == pytest.approx([0.30, 0.15, -0.10])
    assert [row.effect_b for row in rows] == pytest.approx([0.30, 0.20, 0.01])
    assert rows[0].rank_correlation.value == 1 and rows[0].p == pytest.approx(1 / 6)
    words = " ".join(printed_report(grid_folder, 120).split())
    assert "b, small less control, small +15.0 b, large less control, large +20.0" in words
    assert "of the 3 effects, accuracy on all levels: +1.00" in words and "all orders 0.167" in words
    exported = json.loads(report(grid_folder, plots=False).to_json())["sections"]["effect_order"]
    assert exported[2]["effect_b"] == pytest.approx(0.01) and exported[0]["rank_correlation"] == 1


def test_unfinished_effects_are_left_out(grid_folder):
    about = json.loads((grid_folder / "grid.json").read_text())
    for cell in about["cells"]:
        if cell["arm"] == "c, large":
            cell["id"] = "another"
    (grid_folder / "grid.json").write_text(json.dumps(about))
    study = read_study(grid_folder)
    assert effect_order_rows(study, fit_seed_model(study)) == [], "two effects have no order worth a number"


def test_the_draws_are_no_confidence_interval():
    """The order is truly the same, one standard error apart; an interval of 95 % would reach 1 in 29 of 30."""
    rng, effects, covariance = np.random.default_rng(9), np.arange(6.0), np.eye(6)
    ends = [
        rank_correlation(effects + rng.standard_normal(6), covariance, effects + rng.standard_normal(6), covariance)
        for _ in range(30)
    ]
    assert sum(x.high > 1 - 1e-9 for x in ends) < 20
