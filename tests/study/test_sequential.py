"""Adaptive grids: boundaries against published ones and Brownian paths, resumption, and error in a simulation."""

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import ndtri

from rlvid.study.contrasts import ONE_SEED, UNDECIDED, difference
from rlvid.study.seed_model import SeedModel
from rlvid.study.sequential import AdaptiveComparison, AdaptiveGrid, Boundary, linear, obrien_fleming
from rlvid.study.simulated_grids import BASE, Scenario, Scores, simulate


def first(scores: Scores, count: int) -> SeedModel:
    """The model after so many runs of each trained arm."""
    return SeedModel.fit({arm: {p: x[:count] for p, x in of.items()} for arm, of in scores.items()}, unseeded=[BASE])


def run(grid: AdaptiveGrid, scores: Scores, restart: bool = False) -> dict[int, dict]:
    """Seeds -> looks, until all has stopped; with `restart` the grid is saved and read back before every look."""
    looks = {}
    while seeds := grid.next_seeds():
        if restart:
            grid = AdaptiveGrid.from_json(json.loads(json.dumps(grid.to_json())))
        looks[seeds] = grid.look(first(scores, seeds), seeds)
    return looks


def test_spending():
    assert obrien_fleming(0.05, 0) == 0 and obrien_fleming(0.05, 1) == pytest.approx(0.05)
    assert obrien_fleming(0.05, 0.5) == pytest.approx(0.00557, abs=1e-5)  # 2 (1 - Phi(1.96 / sqrt .5))
    assert linear(0.05, 0.3) == pytest.approx(0.015)


def test_five_equal_looks_have_the_published_boundary():
    """Those of ldbounds for R, which spends alpha / 2 on each side by the one-sided formula."""
    boundary = Boundary(0.05, lambda alpha, t: 2 * obrien_fleming(alpha / 2, t))
    z = [-float(ndtri(boundary.advance(t) / 2)) for t in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert z == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-3)


def test_a_single_look_gets_everything():
    assert Boundary(0.02).level(1.0) == pytest.approx(0.02, rel=1e-6)


@pytest.mark.parametrize("spending", [obrien_fleming, linear])
@pytest.mark.parametrize("times", [(0.3, 0.5, 0.62, 0.8, 1.0), (0.85, 0.9, 0.93, 0.98, 1.0)])
def test_brownian_paths_cross_with_the_planned_probability(spending, times):
    boundary = Boundary(0.05, spending)
    z = [-ndtri(boundary.advance(t) / 2) for t in times]
    steps = np.random.default_rng(1).standard_normal((400_000, len(times))) * np.sqrt(np.diff([0, *times]))
    crossed = (abs(steps.cumsum(1)) > z * np.sqrt(times)).any(1).mean()
    assert crossed == pytest.approx(0.05, abs=0.0011)  # 3 standard errors
    assert boundary.spent == pytest.approx(0.05)


def test_a_look_without_new_information_spends_nothing():
    boundary = Boundary(0.05)
    boundary.advance(0.5)
    spent = boundary.spent
    assert boundary.advance(0.5) == 0 and boundary.advance(0.502) == 0 and boundary.spent == spent
    assert boundary.level(1.0) > 0.045


def test_estimates_from_more_runs_have_the_covariance_of_brownian_motion():
    """Cov(d_2, d_8) = Var(d_8), questions and seeds included: the regression of d_2 on d_8 has slope 1."""
    scenario, rng = Scenario("x", arms=2, seeds=8, sizes=(60, 60), sd=4), np.random.default_rng(2)
    estimates = []
    for _ in range(2500):
        scores = simulate(scenario, rng)
        means = {arm: [np.mean([x[:s].mean() for x in scores[arm].values()]) for s in (2, 8)] for arm in scores}
        estimates.append(np.subtract(means["arm 1"], means["arm 2"]))
    cov = np.cov(np.transpose(estimates))
    assert cov[0, 1] / cov[1, 1] == pytest.approx(1, abs=0.12) and cov[0, 0] > 1.5 * cov[1, 1]


def test_a_killed_grid_resumes_where_it_was():
    scenario = Scenario("x", arms=3, seeds=8, sd=1.5, effects=(0, 4, 0), sizes=(200, 200))
    scores = simulate(scenario, np.random.default_rng(3))
    contrasts = {"a": difference("arm 2", "arm 1"), "b": difference("arm 3", "arm 1")}
    whole, killed = (AdaptiveGrid(contrasts, 0.03) for _ in range(2))
    looks = run(whole, scores)
    assert len(looks) > 2
    for seeds, found in looks.items():
        killed = AdaptiveGrid.from_json(json.loads(json.dumps(killed.to_json())))
        assert killed.next_seeds() == seeds
        assert killed.look(first(scores, seeds), seeds) == found
    assert killed.next_seeds() is None and killed.to_json() == whole.to_json()


def test_looks_are_consistent():
    scores = simulate(Scenario("x", arms=4, seeds=8, sd=2, effects=(0, 5, 3, 0)), np.random.default_rng(4))
    grid = AdaptiveGrid({f"arm {i}": difference(f"arm {i}", "arm 1") for i in (2, 3, 4)}, 0.03)
    run(grid, scores)
    for comparison in grid.comparisons.values():
        looks = comparison.looks
        assert [look.seeds for look in looks] == [2, 3, 4, 5, 6, 8][: len(looks)]
        assert [look.stop for look in looks] == [False] * (len(looks) - 1) + [True]
        assert all(a.t <= b.t and a.spent <= b.spent for a, b in pairwise(looks))
        assert all(look.spent <= comparison.alpha + 1e-12 for look in looks)
        for look in looks:
            assert (look.low is None) == (look.level == 0)
            assert (look.p < look.level) == (look.level > 0 and not look.low <= 0 <= look.high)
            if look.verdict in ("better", "worse"):
                assert look.low > 0 or look.high < 0
            if look.verdict.startswith("equivalent"):
                assert -0.03 < look.low < look.high < 0.03
        if looks[-1].seeds == 8:
            assert looks[-1].t == 1 and looks[-1].spent == pytest.approx(comparison.alpha)


def test_looks_that_were_saved_without_p_are_read():
    scores = simulate(Scenario("x", arms=2, seeds=8, effects=(0, 9)), np.random.default_rng(4))
    grid = AdaptiveGrid({"a": difference("arm 2", "arm 1")})
    run(grid, scores)
    state = grid.to_json()
    old = {**state, "looks": {"a": [{k: x for k, x in look.items() if k != "p"} for look in state["looks"]["a"]]}}
    read = AdaptiveGrid.from_json(old).comparisons["a"]
    assert [look.p for look in read.looks] == [None] * len(read.looks) and read.verdict == grid.comparisons["a"].verdict


def test_clear_comparisons_stop_and_free_their_arms():
    scores = simulate(Scenario("x", arms=3, seeds=8, sd=2, effects=(0, 25, 2)), np.random.default_rng(5))
    grid = AdaptiveGrid({"clear": difference("arm 2", "arm 1"), "open": difference("arm 3", "arm 1")}, 0.02)
    assert grid.open_arms() == ["arm 2", "arm 1", "arm 3"] and grid.next_seeds() == 2
    looks = run(grid, scores)
    clear = grid.comparisons["clear"]
    assert clear.verdict == "better" and clear.looks[-1].seeds <= 4 < max(looks)
    assert all("clear" not in found for seeds, found in looks.items() if seeds > clear.looks[-1].seeds)
    partial = AdaptiveGrid.from_json(grid.to_json())
    partial.comparisons["open"].looks = partial.comparisons["open"].looks[:1]
    assert partial.open_arms([BASE]) == ["arm 3", "arm 1"]
    with pytest.raises(ValueError, match="stopped"):
        clear.look(first(scores, 8), 8)


def test_hopeless_comparisons_stop_early():
    scores = simulate(Scenario("x", arms=3, seeds=8, sd=9, sizes=(150,)), np.random.default_rng(6))
    contrasts = {"a": difference("arm 2", "arm 1"), "b": difference("arm 3", "arm 1")}
    for most in (8, 6):
        grid = AdaptiveGrid(contrasts, 0.005, max_seeds=most)
        looks = run(grid, scores)
        verdicts = {c.verdict for c in grid.comparisons.values()}
        assert verdicts == {f"undecided: {most} seeds will not tell"} and max(looks) < most


def test_one_run_each_decides_nothing():
    scores = simulate(Scenario("x", arms=2, seeds=2, effects=(0, 30)), np.random.default_rng(7))
    comparison = AdaptiveComparison(difference("arm 2", "arm 1"), 0.05)
    look = comparison.look(first(scores, 1), 1)
    assert look.verdict == ONE_SEED and not look.stop and look.spent == 0 and look.low is None
    with pytest.raises(ValueError, match="as many"):
        comparison.look(first(scores, 1), 1)
    assert comparison.look(first(scores, 2), 2).verdict in ("better", UNDECIDED)


def test_the_schedule_ends_at_max_seeds():
    contrasts = {"a": difference("arm 2", "arm 1")}
    assert AdaptiveGrid(contrasts).schedule() == [2, 3, 4, 5, 6, 8]
    assert AdaptiveGrid(contrasts, max_seeds=5).schedule() == [2, 3, 4, 5]
    assert AdaptiveGrid(contrasts, max_seeds=12).schedule() == [2, 3, 4, 5, 6, 8, 12]


def test_single_levels_get_their_share_at_the_end():
    scores = simulate(Scenario("x", arms=2, seeds=8, sizes=(200, 200)), np.random.default_rng(8))
    grid = AdaptiveGrid({"a": difference("arm 2", "arm 1")}, share=0.4)
    assert grid.comparisons["a"].alpha == pytest.approx(0.02)
    results = grid.single_levels(first(scores, 8))
    assert [(r.level, r.alpha) for r in results] == [("L1", pytest.approx(0.015)), ("L2", pytest.approx(0.015))]


def test_looking_often_does_not_raise_the_error_and_power_is_there():
    false = found = 0
    for seed in range(60):
        scores = simulate(
            Scenario("x", arms=4, seeds=8, sd=2, effects=(0, 0, 0, 8), sizes=(200, 200)), np.random.default_rng(seed)
        )
        grid = AdaptiveGrid({f"arm {i}": difference(f"arm {i}", "arm 1") for i in (2, 3, 4)}, 0.03, share=1.0)
        run(grid, scores)
        false += any(grid.comparisons[f"arm {i}"].verdict in ("better", "worse") for i in (2, 3))
        found += grid.comparisons["arm 4"].verdict == "better"
    assert false <= 8, "more than 8 of 60 has a probability of .3 % at 5 %"
    assert found >= 50


def test_arms_with_the_same_runs_have_the_same_looks():
    """Named by either arm, a comparison has as much information left and spends as much at a look."""
    rng = np.random.default_rng(0)
    clean, noisy = ({level: (rng.random((2, 400)) < 0.5).astype(float) for level in ("L1", "L2")} for _ in range(2))
    model = SeedModel.fit({"a": clean, "copy": clean, "noisy": noisy}, None, [], {"copy": "a"})
    first, second = (AdaptiveComparison({name: 1, "noisy": -1}, 0.025).look(model, 2) for name in ("a", "copy"))
    assert first == second
