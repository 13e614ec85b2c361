"""The model of seed scatter: by hand, against t-tests, its invariances, and coverage in a simulation."""

import numpy as np
import pytest
from scipy import stats

from rlvid.study.contrasts import Family, difference
from rlvid.study.seed_model import ALL_LEVELS, SeedModel
from rlvid.study.seed_scatter import RHO, TAU, Cells, SeedScatter, _log_likelihood, _prior
from rlvid.study.simulated_grids import BASE, Scenario, simulate, videos

PAIR = {"arm 1": 1, "arm 2": -1}


def grid(scenario: Scenario, seed: int = 0) -> SeedModel:
    return SeedModel.fit(simulate(scenario, np.random.default_rng(seed)), videos(scenario), [BASE])


def test_cells_by_hand():
    scores = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 0]], float)
    cells = Cells.of(scores, np.array(["a", "a", "b", "a"]))
    table = np.array([[2, 1], [0, 1], [2, 1]]) * 2 / 4  # correct answers about a, b; V / Q = 2 / 4
    assert cells.accuracy == pytest.approx([0.75, 0.25, 0.75])
    assert cells.by_video == pytest.approx(table.mean(0))
    rest = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    assert cells.noise == pytest.approx((rest**2).sum() / (2 * 1 * 2))
    assert cells.pseudo == pytest.approx(0.25)


def test_noise_is_the_variance_of_runs_that_have_no_seed_effect():
    rng = np.random.default_rng(1)
    ease = rng.random(300)
    many = [Cells.of((rng.random((3, 300)) < ease).astype(float), None) for _ in range(400)]
    assert np.mean([c.noise for c in many]) == pytest.approx(np.mean(ease * (1 - ease)) / 300, rel=0.02)
    assert np.mean([c.accuracy.var(ddof=1) for c in many]) == pytest.approx(np.mean([c.noise for c in many]), rel=0.1)


@pytest.mark.parametrize("count", [3, 10, 400])
def test_without_seeds_it_is_a_paired_t_test_over_videos(count):
    rng = np.random.default_rng(count)
    gaps = rng.normal(0.5, 1, count)
    a, b = 0.5 + 0.05 * gaps[None], np.full((1, count), 0.5)
    contrast = SeedModel.fit({"a": {"L1": a}, "b": {"L1": b}}, unseeded=["a", "b"]).contrast({"a": 1, "b": -1})
    x = 0.05 * gaps
    error = np.sqrt((((x - x.mean()) ** 2).sum() + 1) / ((count - 1) * count))  # one pair of answers is added
    for null in (0.0, 3 * error, -4 * error):
        expected = 2 * stats.t.sf(abs(x.mean() - null) / error, count - 1)
        assert contrast.p_value(null) == pytest.approx(expected, rel=0.03)
    low, high = contrast.interval(0.01)
    assert (high - low) / 2 == pytest.approx(stats.t.isf(0.005, count - 1) * error, rel=0.01)


def test_with_many_seeds_it_is_welchs_t_test():
    """Runs whose accuracy has no noise from questions: each score of a run is its accuracy."""
    rng = np.random.default_rng(2)
    a, b = 0.5 + 0.01 * rng.standard_normal(60), 0.505 + 0.04 * rng.standard_normal(60)
    scores = {"a": {"L1": np.tile(a[:, None], 5000)}, "b": {"L1": np.tile(b[:, None], 5000)}}
    contrast = SeedModel.fit(scores).contrast({"a": 1, "b": -1})
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert contrast.p_value() == pytest.approx(expected.pvalue, abs=0.02)
    assert contrast.interval(0.05) == pytest.approx(expected.confidence_interval(0.95), abs=0.0008)


def test_p_value_and_interval_agree():
    checked = 0
    for seed in range(6):
        model = grid(Scenario("x", seeds=2, sd=2, effects=(0, 3, 6, 9)), seed)
        for level in (ALL_LEVELS, "L1", "L4"):
            for arm in ("arm 2", "arm 3", "arm 4"):
                contrast = model.contrast(difference(arm, "arm 1"), level)
                for alpha in (0.2, 0.05, 0.001):
                    low, high = contrast.interval(alpha)
                    assert (contrast.p_value() < alpha) == (low > 0 or high < 0)
                    assert contrast.p_value(low) == pytest.approx(alpha, rel=1e-6)
                    assert contrast.p_value(high) == pytest.approx(alpha, rel=1e-6)
                    checked += contrast.p_value() < alpha
    assert 30 < checked < 140, "both outcomes were seen"


def test_order_and_names_of_arms_levels_runs_and_videos_do_not_matter():
    scenario = Scenario("x", arms=3, seeds=3, sizes=(60, 80), per_video=4)
    scores, rng = simulate(scenario, np.random.default_rng(3)), np.random.default_rng(4)
    plain = SeedModel.fit(scores, videos(scenario), [BASE])
    labels, mixed = {}, {}
    for level in ("L2", "L1"):
        order = rng.permutation(scores[BASE][level].shape[1])
        labels[level] = np.array([f"clip {9000 - i}" for i in videos(scenario)[level]])[order]
        for arm in ("arm 3", BASE, "arm 1", "arm 2"):
            runs = np.random.default_rng(len(arm)).permutation(len(scores[arm][level]))
            mixed.setdefault(arm, {})[level] = scores[arm][level][runs][:, order]
    other = SeedModel.fit(mixed, labels, [BASE])
    for level in (ALL_LEVELS, "L1", "L2"):
        a, b = plain.contrast(PAIR, level), other.contrast({"arm 2": -1, "arm 1": 1}, level)
        assert (a.difference, *a.interval()) == pytest.approx((b.difference, *b.interval()), rel=1e-6)
        c = plain.contrast({"arm 1": -1, "arm 2": 1}, level)
        assert c.difference == pytest.approx(-a.difference) and c.p_value() == pytest.approx(a.p_value(), rel=1e-6)


def test_levels_that_ask_the_same_about_the_same_videos_are_one_level():
    rng = np.random.default_rng(8)
    one = {arm: (rng.random((1, 200)) < 0.5).astype(float) for arm in ("a", "b")}
    scores = {arm: dict.fromkeys(("L1", "L2", "L3"), x) for arm, x in one.items()}
    clips = np.array([f"clip {i // 2}" for i in range(200)])
    shared, apart = (
        SeedModel.fit(scores, {level: labels(level) for level in ("L1", "L2", "L3")}, ["a", "b"])
        for labels in (lambda level: clips, lambda level: np.char.add(level, clips))
    )
    single = shared.contrast({"a": 1, "b": -1}, "L1")
    together = [model.contrast({"a": 1, "b": -1}) for model in (shared, apart)]
    assert together[0].half_width() == pytest.approx(single.half_width(), rel=0.02)
    assert together[1].half_width() == pytest.approx(single.half_width() / np.sqrt(3), rel=0.03)


def scenes(rng, tasks, count):
    """Scores of two equal arms on tasks about the same scenes; half of what an arm likes belongs to the scene."""
    ease, scores = rng.standard_normal((tasks, count)), {}
    for arm in ("a", "b"):
        likes = rng.standard_normal(count) + rng.standard_normal((tasks, count))
        noise = rng.standard_normal((3, tasks, count))
        right = np.sqrt(0.5) * ease + np.sqrt(0.15) * likes + np.sqrt(0.2) * noise < 0
        scores[arm] = {f"T{task}": right[:, task].astype(float) for task in range(tasks)}
    return scores


def test_equal_arms_are_rarely_rejected_where_levels_share_their_videos():
    """Ten tasks about the same 200 scenes; taken for 2000 scenes they are rejected in about one of five grids."""
    rejected = {"shared": 0, "apart": 0}
    for seed in range(60):
        scores = scenes(np.random.default_rng([8, seed]), 10, 200)
        for name, labels in (("shared", {f"T{task}": np.arange(200) for task in range(10)}), ("apart", None)):
            rejected[name] += SeedModel.fit(scores, labels).contrast({"a": 1, "b": -1}).p_value() < 0.05
    assert rejected["shared"] <= 8 < rejected["apart"], "more than 8 of 60 has a probability of .3 % at 5 %"


def test_questions_of_one_video_may_be_permuted_and_others_not():
    scenario = Scenario("x", arms=2, seeds=2, sizes=(40,), per_video=4)
    scores = simulate(scenario, np.random.default_rng(5))
    within = np.arange(40) ^ 1  # swaps neighbours, which are about the same video
    across = np.random.default_rng(6).permutation(40)
    p = [
        SeedModel.fit({a: {"L1": x["L1"][:, o]} for a, x in scores.items()}, videos(scenario), [BASE])
        .contrast(PAIR)
        .p_value(0.05)
        for o in (np.arange(40), within, across)
    ]
    assert p[1] == pytest.approx(p[0], rel=1e-9)
    assert abs(p[2] - p[0]) > 1e-3


def test_more_of_anything_narrows_and_farther_is_less_likely():
    model = grid(Scenario("x", seeds=2, sd=2))
    for level in (ALL_LEVELS, "L2"):
        now = model.contrast(PAIR, level)
        widths = [model.contrast(PAIR, level, dict.fromkeys(PAIR, s)).half_width() for s in (2, 3, 8, 30)]
        assert widths[0] == pytest.approx(now.half_width()) and widths == sorted(widths, reverse=True)
        widths = [model.contrast(PAIR, level, questions=q).half_width() for q in (1, 2, 10)]
        assert widths[0] == pytest.approx(now.half_width()) and widths == sorted(widths, reverse=True)
        assert now.half_width(0.2) < now.half_width(0.05) < now.half_width(0.001)
        p = [now.p_value(now.difference + gap) for gap in (0, 0.01, 0.03, 0.1)]
        assert p[0] == pytest.approx(1) and p == sorted(p, reverse=True)
        assert now.detectable(power=0.5) < now.detectable(power=0.8) and now.detectable() > now.half_width()
        assert now.power(now.detectable()) == pytest.approx(0.8, abs=1e-3)


def test_an_arm_with_one_run_gets_the_prediction_for_a_new_arm():
    model = grid(Scenario("x", arms=6, seeds=(5, 5, 5, 5, 1, 1), sd=1))
    one, other = model.scatter.marginal("arm 5"), model.scatter.marginal("arm 6")
    assert one == pytest.approx(other)
    assert model.seed_sd("arm 5") > 1.2 * max(model.seed_sd(f"arm {i}") for i in (1, 2, 3, 4))
    assert not model.one_seed


def test_one_seed_everywhere_is_flagged_and_the_base_does_not_count():
    model = grid(Scenario("x", arms=3, seeds=1))
    assert model.one_seed and model.contrast(PAIR).one_seed and model.contrast({"arm 1": 1, BASE: -1}, "L1").one_seed
    assert model.seed_sd(BASE) == 0
    hypotheses, prior = _prior()
    assert model.scatter.marginal("arm 1") == pytest.approx(hypotheses @ prior)
    assert hypotheses.sum() == pytest.approx(1) and prior.sum(1) == pytest.approx(np.ones(len(prior)))


def test_seed_sds_are_recovered():
    sd = (1, 1, 1, 5, 1, 1, 1, 1)
    scenario = Scenario("x", arms=8, seeds=6, sd=sd, sizes=(800,) * 4)
    found = np.array([[grid(scenario, seed).seed_sd(f"arm {i + 1}") for i in range(8)] for seed in range(8)])
    means = 100 * np.sqrt((found**2).mean(0))
    assert 3.8 < means[3] < 6.2
    assert all(0.8 < mean < 1.6 for i, mean in enumerate(means) if i != 3)


ALIKE, UNLIKE = np.outer([1, -1], np.ones(5)), np.outer([1, -1], [1, -1, 1, 1, -1])


@pytest.mark.parametrize("effects", [ALIKE, UNLIKE])
def test_the_likelihood_is_that_of_correlated_normal_effects(effects):
    accuracy, noise = 0.5 + 0.03 * effects, np.geomspace(1e-5, 4e-4, 5)
    cells = {f"L{i}": Cells(accuracy[:, i], np.full(300, 0.5), noise[i], 1.0) for i in range(5)}
    gap = (accuracy[0] - accuracy[1]) / np.sqrt(2)
    found = _log_likelihood(cells)
    expected = [
        [stats.multivariate_normal.logpdf(gap, cov=t**2 * (r + (1 - r) * np.eye(5)) + np.diag(noise)) for t in TAU]
        for r in RHO
    ]
    assert found - found[0, 0] == pytest.approx(np.array(expected) - expected[0][0], rel=1e-9, abs=1e-9)


def test_seeds_that_scatter_by_12_points_are_rarely_taken_for_a_difference():
    """One arm with two seeds and a base without; where medians of tau ended at 8 points it was 15 % of grids."""
    false = 0
    for seed in range(200):
        scenario = Scenario("x", arms=1, seeds=2, sd=12, sizes=(1000,))
        false += grid(scenario, seed).contrast({"arm 1": 1, BASE: -1}).p_value() < 0.05
    assert false <= 19, "more than 19 of 200 has a probability of .3 % at 5 %"


def test_levels_that_repeat_each_other_say_less():
    """Two runs far apart, on five levels with one seed effect or with five: only the latter overcome the prior."""
    means, alike = [], []
    for effects in (ALIKE, UNLIKE):
        accuracy = 0.5 + 0.06 * effects
        scatter = SeedScatter.fit(
            {"a": {f"L{i}": Cells(accuracy[:, i], np.full(300, 0.5), 1e-4, 1.0) for i in range(5)}}
        )
        means.append(float(scatter.tau["a"][[4, 0][effects is UNLIKE]] @ TAU))
        alike.append(scatter.chances[-1])
    assert means[0] < 0.8 * means[1]
    assert alike[0] > 0.6 and alike[1] < 0.05, "the correlation is learned"


def test_a_noisy_level_has_wider_intervals():
    scenario = Scenario("x", arms=6, seeds=5, sd=2, sizes=(500, 500), scales=(1, 4))
    widths = [[grid(scenario, seed).contrast(PAIR, level).half_width() for level in ("L1", "L2")] for seed in range(4)]
    assert all(noisy > 1.5 * quiet for quiet, noisy in widths)


def test_arms_with_different_levels_meet_on_those_they_share():
    scores = simulate(Scenario("x", arms=3, seeds=3, sizes=(100, 100, 100)), np.random.default_rng(9))
    del scores["arm 2"]["L1"]
    del scores["arm 3"]["L3"], scores["arm 3"]["L2"]
    model = SeedModel.fit(scores, unseeded=[BASE])
    expected = np.mean([scores["arm 1"][p].mean() - scores["arm 2"][p].mean() for p in ("L2", "L3")])
    assert model.contrast(PAIR).difference == pytest.approx(expected)
    assert model.shared_levels(["arm 1", "arm 2"]) == ["L2", "L3"]
    with pytest.raises(ValueError, match="have not all answered all levels"):
        model.contrast({"arm 2": 1, "arm 3": -1})
    with pytest.raises(ValueError, match="have not all answered L1"):
        model.contrast(PAIR, "L1")


def test_one_video_decides_nothing():
    scores = {arm: {"L1": np.full((4, 50), x)} for arm, x in (("a", 1.0), ("b", 0.0))}
    assert SeedModel.fit(scores, {"L1": np.zeros(50)}).contrast({"a": 1, "b": -1}).p_value() > 0.3


def test_runs_that_answer_alike_leave_some_doubt():
    scores = {arm: {"L1": np.ones((3, 200)), "L2": np.zeros((3, 100))} for arm in "ab"}
    contrast = SeedModel.fit(scores).contrast({"a": 1, "b": -1})
    assert contrast.p_value() == pytest.approx(1) and 0.005 < contrast.half_width() < 0.1


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": {"L1": np.ones(4)}}, r"a: scores must be \(S, Q\)"),
        ({"a": {}}, "a: scores must be"),
        ({"a": {"L1": np.ones((2, 4)), "L2": np.ones((3, 4))}}, "a: every level needs the same runs"),
        ({"a": {"L1": np.ones((2, 4))}, "b": {"L1": np.ones((2, 5))}}, "b: 5 questions on L1, but 4 in other arms"),
        ({"a": {"L1": np.array([[1, np.nan]])}}, "a: scores on L1 are not all finite"),
    ],
)
def test_scores_of_other_shapes_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        SeedModel.fit(scores)


@pytest.mark.parametrize("weights", [{"arm 1": 1}, {"arm 1": 0, "arm 2": 0}, {"arm 1": 1, "arm 2": -0.9}])
def test_weights_that_are_no_contrast_are_refused(weights):
    with pytest.raises(ValueError, match="sum to 0 and are not all 0"):
        grid(Scenario("x", seeds=2)).contrast(weights)


@pytest.mark.parametrize("correlation", [0.2, 0.95])
def test_simultaneous_intervals_hold_with_two_seeds_and_still_find_something(correlation):
    scenario = Scenario("x", seeds=2, sd=2, effects=(0, 0, 10, 12), correlation=correlation, sizes=(300, 300))
    truth, missed, found = scenario.accuracy(), 0, 0
    for seed in range(80):
        model = grid(scenario, 100 + seed)
        family = Family(model, {f"{a} - {b}": difference(a, b) for a, b in scenario.comparisons()})
        results = family.results()
        gaps = [sum(w * truth[arm] for arm, w in family.contrasts[r.name].items()) for r in results]
        true = [
            g.mean() if r.level == ALL_LEVELS else g[int(r.level[1]) - 1] for r, g in zip(results, gaps, strict=True)
        ]
        missed += any(not r.interval[0] <= x <= r.interval[1] for r, x in zip(results, true, strict=True))
        found += sum(r.verdict == "better" for r in results if r.level == ALL_LEVELS)
    assert missed <= 10, "more than 10 of 80 has a probability of .2 % at 5 %"
    assert found > (20 if correlation > 0.5 else 60)
