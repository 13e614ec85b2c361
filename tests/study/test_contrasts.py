"""Families, verdicts and the contrasts that grids name: by hand, against closed forms, and coverage of ratios."""

import numpy as np
import pytest
from scipy import stats

from rlvid.study.contrasts import (
    ONE_SEED,
    UNDECIDED,
    Family,
    combine,
    difference,
    difference_of_slopes,
    gain_kept,
    interaction,
    keeps,
    needed,
    one_sided,
    ratio,
    slope,
    trapezoid,
    verdict,
)
from rlvid.study.seed_model import ALL_LEVELS, Contrast, SeedModel
from rlvid.study.simulated_grids import BASE, Scenario, simulate


def normal(difference: float, error: float = 0.01, one_seed: bool = False) -> Contrast:
    """A contrast with a known standard error."""
    return Contrast({}, "L1", difference, np.array([error**2]), np.ones(1), error**2, 0.0, one_seed)


def fit(scenario: Scenario, seed: int = 0) -> SeedModel:
    return SeedModel.fit(simulate(scenario, np.random.default_rng(seed)), unseeded=[BASE])


@pytest.mark.parametrize(
    ("contrast", "margin", "words"),
    [
        (normal(0.0197), 0.03, "better"),  # 1.97 standard errors
        (normal(-0.0197), 0.03, "worse"),
        (normal(0.0195), 0.03, UNDECIDED),
        (normal(0.0103), 0.03, "equivalent within 3"),  # ends at .0299
        (normal(0.0105), 0.03, UNDECIDED),  # ends at .0301
        (normal(-0.0103), 0.03, "equivalent within 3"),
        (normal(0.0), None, UNDECIDED),
        (normal(0.0), 0.025, "equivalent within 2.5"),
        (normal(0.035, 0.001), 0.03, "better"),
        (normal(0.05, one_seed=True), 0.03, ONE_SEED),
    ],
)
def test_verdicts_are_read_from_the_interval(contrast, margin, words):
    assert verdict(contrast, 0.05, margin) == words


def test_a_family_divides_its_error_rate_and_adjusts_p_accordingly():
    model = fit(Scenario("x", seeds=3, effects=(4, 8, 8)))
    family = Family(model, {"a": difference("arm 2", "arm 1"), "b": difference("arm 3", BASE)}, 0.03)
    alphas = family.alphas()
    assert len(alphas) == 12 and sum(alphas.values()) == pytest.approx(0.05)
    assert alphas["a", ALL_LEVELS] == pytest.approx(0.05 / 4) and alphas["b", "L3"] == pytest.approx(0.05 / 20)
    seen = set()
    for result in family.results():
        excludes = result.interval[0] > 0 or result.interval[1] < 0
        assert (result.p < 0.05) == excludes == (result.verdict in ("better", "worse"))
        assert result.interval[0] < result.alone[0] < result.difference < result.alone[1] < result.interval[1]
        assert result.p == pytest.approx(min(1, result.contrast.p_value() * 0.05 / alphas[result.name, result.level]))
        seen.add(excludes)
    assert seen == {True, False}


def test_a_family_with_one_level_has_all_levels_only():
    family = Family(fit(Scenario("x", sizes=(300,))), {"a": difference("arm 2", "arm 1")})
    assert family.alphas() == {("a", ALL_LEVELS): 0.05}


def test_a_family_counts_only_levels_that_arms_share():
    scores = simulate(Scenario("x", arms=3, sizes=(50, 60)), np.random.default_rng(1))
    del scores["arm 3"]["L2"]
    contrasts = {"a": difference("arm 2", "arm 1"), "b": difference("arm 3", "arm 1")}
    places = Family(SeedModel.fit(scores, unseeded=[BASE]), contrasts).places()
    assert places == [("a", ALL_LEVELS), ("b", ALL_LEVELS), ("a", "L1"), ("b", "L1"), ("a", "L2")]


def test_built_contrasts_by_hand():
    assert difference("a", "b") == {"a": 1, "b": -1}
    assert interaction("a", "a noisy", "b", "b noisy") == {"a": 1, "a noisy": -1, "b": -1, "b noisy": 1}
    assert interaction("a", "c", "b", "c") == {"a": 1, "c": 0, "b": -1}, "what both share cancels"
    assert keeps("arm", "clean", "base") == pytest.approx({"arm": 1, "clean": -0.8, "base": -0.2})
    assert combine((2, {"a": 1, "b": -1}), (1, {"b": 1, "c": -1})) == {"a": 2, "b": -1, "c": -1}
    assert trapezoid([0, 1, 3]) == pytest.approx([1 / 6, 1 / 2, 1 / 3])
    assert trapezoid([3, 1, 0]) == pytest.approx([1 / 3, 1 / 2, 1 / 6]) and trapezoid([5]) == pytest.approx([1])
    for x in ([0, 1, 1], [0, 2, 1]):
        with pytest.raises(ValueError, match="in order and all different"):
            trapezoid(x)
    for points in ([], [("a", 1.0)], [("a", 1.0), ("b", 1.0)]):
        with pytest.raises(ValueError, match="two different values"):
            slope(points)


def test_a_slope_is_that_of_least_squares_and_shared_arms_count_for_both():
    x, y = [1.0, 0.6, 0.3], {"a": 0.6, "b": 0.5, "c": 0.45, "d": 0.3}
    weights = slope([("a", x[0]), ("b", x[1]), ("c", x[2])])
    assert sum(w * y[arm] for arm, w in weights.items()) == pytest.approx(np.polyfit(x, [0.6, 0.5, 0.45], 1)[0])
    both = difference_of_slopes([("a", 1), ("b", 0.6), ("c", 0.3)], [("a", 1), ("d", 0.3)])
    expected = np.polyfit(x, [0.6, 0.5, 0.45], 1)[0] - (0.6 - 0.3) / 0.7
    assert sum(w * y[arm] for arm, w in both.items()) == pytest.approx(expected)
    assert sum(both.values()) == pytest.approx(0)


@pytest.mark.parametrize(("value", "words"), [(0.0165, "yes"), (0.0164, UNDECIDED), (-0.0165, "no"), (0.0, UNDECIDED)])
def test_one_sided_uses_all_of_alpha_on_either_side(value, words):
    assert one_sided(normal(value)) == words  # z of .95 is 1.645
    assert one_sided(normal(value, one_seed=True)) == ONE_SEED


def unseeded(means: dict[str, float], count: int, seed: int) -> tuple[SeedModel, dict[str, np.ndarray]]:
    """Arms without seeds and their scores, with known means of normal scores over questions."""
    rng = np.random.default_rng(seed)
    rows = {arm: mean + 0.1 * rng.standard_normal(count) for arm, mean in means.items()}
    return SeedModel.fit({arm: {"L1": row[None]} for arm, row in rows.items()}, unseeded=list(means)), rows


def test_a_ratio_has_fiellers_interval():
    """Without seeds the interval solves a quadratic equation in the variances over questions."""
    count = 20000
    model, rows = unseeded({"arm": 0.54, "clean": 0.58, "base": 0.5}, count, 3)
    top, bottom = rows["arm"] - rows["base"], rows["clean"] - rows["base"]
    found = ratio(model, difference("arm", "base"), difference("clean", "base"))
    cov, z = np.cov(top, bottom) / count, stats.t.isf(0.025, count - 1)
    a = bottom.mean() ** 2 - z**2 * cov[1, 1]
    b = top.mean() * bottom.mean() - z**2 * cov[0, 1]
    c = top.mean() ** 2 - z**2 * cov[0, 0]
    root = np.sqrt(b**2 - a * c)
    assert (found.low, found.high) == pytest.approx(((b - root) / a, (b + root) / a), abs=0.002)
    assert found.value == pytest.approx(top.mean() / bottom.mean())


def test_the_interval_of_a_ratio_holds_what_is_not_rejected():
    model = fit(Scenario("x", arms=2, seeds=3, effects=(10, 6), sd=1), 2)
    found = gain_kept(model, [("arm 2", 1.0)], "arm 1", BASE, alpha=0.1)
    for end, outward in ((found.low, -1), (found.high, 1)):
        for shift, rejected in ((0.01, True), (-0.01, False)):
            weights = combine((1, difference("arm 2", BASE)), (-(end + outward * shift), difference("arm 1", BASE)))
            assert (model.contrast(weights).p_value() < 0.1) == rejected


def test_gain_kept_averages_over_x_and_needs_a_gain():
    means = {"clean": 0.6, "half": 0.55, "none": 0.5, "base": 0.5}
    model, rows = unseeded(means, 5000, 4)
    found = gain_kept(model, [("clean", 1.0), ("half", 0.5), ("none", 0.0)], "clean", "base")
    gains = {arm: row.mean() - rows["base"].mean() for arm, row in rows.items()}
    assert found.value == pytest.approx((gains["clean"] / 4 + gains["half"] / 2 + gains["none"] / 4) / gains["clean"])
    assert gain_kept(model, [("half", 0.5)], "none", "base") is None
    assert gain_kept(model, [("half", 0.5)], "base", "clean") is None, "a loss is no gain to keep"
    nothing = gain_kept(model, [("none", 0.5)], "clean", "base")
    assert nothing.low < 0 < nothing.high < 0.2
    itself = gain_kept(model, [("clean", 0.5)], "clean", "base")
    assert (itself.low, itself.value, itself.high) == pytest.approx((1, 1, 1), abs=0.01)


def test_the_interval_of_gain_kept_covers_with_three_seeds():
    scenario, held, given = Scenario("x", arms=3, seeds=3, sd=1.5, effects=(10, 5), sizes=(400, 400)), 0, 0
    for seed in range(80):
        found = gain_kept(fit(scenario, 300 + seed), [("arm 2", 1.0)], "arm 1", BASE)
        given += found is not None
        held += found is not None and found.low <= 0.5 <= found.high
    assert given > 40 and held >= given - 9


def test_what_is_needed_is_enough_and_no_less():
    model = fit(Scenario("x", seeds=2, sd=2), 5)
    weights = difference("arm 2", "arm 1")
    true = 0.8 * model.contrast(weights).detectable(0.01)
    plan = needed(model, weights, true, alpha=0.01)

    def reach(more: int = 0, times: float = 1.0) -> float:
        return model.contrast(weights, ALL_LEVELS, dict.fromkeys(weights, 2 + more), times).detectable(0.01)

    assert plan.seeds > 0 and reach(int(plan.seeds)) <= true < reach(int(plan.seeds) - 1)
    assert plan.questions == np.inf or reach(times=plan.questions) <= true < reach(times=plan.questions / 1.03)
    already = needed(model, weights, 0.5, alpha=0.01)
    assert (already.seeds, already.questions) == (0, 1.0)
    assert needed(model, weights, 0.0001).seeds == np.inf, "questions remain"
    assert needed(model, weights, 0.002).questions == np.inf, "seeds remain"
