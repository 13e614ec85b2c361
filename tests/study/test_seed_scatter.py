"""Parts of the model of seed scatter by hand; `test_seed_model.py` has the model as a whole."""

import numpy as np
import pytest
from scipy import stats

from rlvid.study.seed_scatter import RHO, TAU, Cells, SeedScatter, check_scores


@pytest.mark.parametrize(("levels", "scatter_of_runs"), [(1, 3.0), (1, 0.3), (2, 2.0)])
def test_a_factor_of_levels_is_the_posterior_mean_by_the_scatter_of_the_runs(levels, scatter_of_runs):
    """Where tau and rho are known: a log-normal prior, and the runs' variance as a chi-square of n - 1 degrees."""
    tau, rho = 20, 3
    known = SeedScatter(np.eye(len(RHO))[rho], {"arm": np.tile(np.eye(len(TAU))[tau], (len(RHO), 1))})
    runs = 0.5 + scatter_of_runs * TAU[tau] * np.array([-1.0, 0.2, 0.8, 0.4])
    cells = [Cells(runs, np.zeros(1), 0.001, 0.0)] * levels
    factors = np.geomspace(1 / 16, 16, 33)
    share = RHO[rho] + (1 - RHO[rho]) / levels
    variances = factors * share * TAU[tau] ** 2 + 0.001 / levels
    scaled = (len(runs) - 1) / variances
    chances = stats.norm.pdf(np.log(factors) / 0.8) * stats.chi2.pdf(scaled * runs.var(ddof=1), len(runs) - 1) * scaled
    expected = (factors * chances).sum() / chances.sum()
    assert known.level_factor({"arm": cells}) == pytest.approx(expected)
    assert (expected > 1) == (scatter_of_runs > 1)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (4,)])
def test_scores_without_a_seed_or_a_question_are_refused(shape):
    with pytest.raises(ValueError, match=r"at least one seed and one question"):
        check_scores({"arm": {"L1": np.ones(shape)}})
