"""The calibration: simulated grids have the truth they claim, and verdicts are judged against it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rlvid.study import calibration
from rlvid.study.calibration import RANDOM, fixed, is_false, main, simulate_grids, summary, truth_of
from rlvid.study.seed_model import ALL_LEVELS
from rlvid.study.simulated_grids import BASE, TWO_MODES, Scenario, clustered, draw, simulate, videos


@pytest.mark.parametrize(
    ("words", "true", "false"),
    [
        ("better", 0.01, False),
        ("better", 0.0, True),
        ("better", -0.01, True),
        ("worse", -0.01, False),
        ("worse", 0.0, True),
        ("equivalent within 3", 0.029, False),
        ("equivalent within 3", -0.03, True),
        ("undecided", 0.5, False),
    ],
)
def test_verdicts_are_judged_against_the_truth(words, true, false):
    assert is_false(words, true, 0.03) == false


@pytest.mark.parametrize("shape", ["normal", "t3", "skewed"])
@pytest.mark.parametrize("collapse", [0.0, 0.2])
def test_simulated_grids_have_the_accuracy_and_scatter_they_claim(shape, collapse):
    scenario = Scenario("x", 1, 3000, 3, (200, 200), (8,), correlation=0.5, shape=shape, collapse=collapse, drop=10)
    effects = 100 * scenario.seed_effects(0, 100_000, np.random.default_rng(1))
    assert effects.mean(0) == pytest.approx([0, 0], abs=0.1)
    expected = np.sqrt(9 + collapse * (1 - collapse) * 100)
    assert effects.std(0) == pytest.approx([expected] * 2, rel=0.1)
    shared = 9 * 0.5 + collapse * (1 - collapse) * 100
    assert np.corrcoef(effects.T)[0, 1] == pytest.approx(shared / expected**2, abs=0.05)
    answers = [simulate(scenario, np.random.default_rng(s), seeds=60)["arm 1"] for s in range(60)]
    means = [np.mean([x[level].mean() for x in answers]) for level in ("L1", "L2")]
    assert means == pytest.approx(scenario.accuracy()["arm 1"], abs=0.02)


def test_only_one_arm_has_runs_that_jump():
    """Their expected gain is in the truth, and an arm none of whose runs jumped is called equivalent, falsely."""
    truth = TWO_MODES.accuracy()
    gains = [100 * (truth[arm] - truth["arm 1"])[0] for arm in TWO_MODES.names]
    assert gains == pytest.approx([0, 5.5, 0, 0, 0, 0, 0, 0])
    rng = np.random.default_rng(3)
    effects = 100 * TWO_MODES.seed_effects(1, 20_000, rng)[:, 0]
    assert effects.mean() == pytest.approx(0, abs=0.3) and np.mean(effects > 10) == pytest.approx(0.25, abs=0.02)
    assert abs(TWO_MODES.seed_effects(0, 1000, rng)).max() < 0.02
    figures = summary([x["fixed"] for x in simulate_grids("x", replace(TWO_MODES, seeds=3), range(30))])
    assert figures["false, all levels"][0] > 0.15, "5 % are planned"


def test_agreement_and_clusters():
    rng = np.random.default_rng(2)
    scores = simulate(Scenario("x", 2, 20, 0, (4000,), agreement=0.2), rng)
    assert np.mean(scores["arm 1"]["L1"][0] != scores["arm 2"]["L1"][0]) == pytest.approx(0.43, abs=0.03)
    scores = simulate(Scenario("x", 2, 20, 0, (4000,), agreement=0.97), rng)
    assert np.mean(scores["arm 1"]["L1"][0] != scores["arm 2"]["L1"][0]) == pytest.approx(0.08, abs=0.02)
    rows = clustered(4000, 12, 4, rng)
    correlations = np.corrcoef(rows.T)
    assert correlations[0, 3] == pytest.approx(0.5, abs=0.05) and correlations[3, 4] == pytest.approx(0, abs=0.06)
    ids = videos(Scenario("x", sizes=(5, 4), per_video=2))
    assert ids["L1"].tolist() == [0, 0, 1, 1, 2] and not set(ids["L1"]) & set(ids["L2"])


def test_the_truth_of_a_pair():
    scenario = Scenario("x", 2, effects=(4, 1), sizes=(10, 10, 10, 10), only_level=2)
    assert truth_of(scenario, ("arm 1", BASE), "L3") == pytest.approx(0.04)
    assert truth_of(scenario, ("arm 1", BASE), "L1") == 0
    assert truth_of(scenario, ("arm 2", "arm 1"), ALL_LEVELS) == pytest.approx(-0.0075)
    assert scenario.comparisons() == [("arm 1", BASE), ("arm 2", "arm 1")]


def test_large_true_differences_are_found_and_nothing_else():
    scenario = Scenario("x", 3, 5, 0.5, (1500, 1500), (0, 12, 0), margin=6)
    outcome = fixed(scenario, simulate(scenario, np.random.default_rng(3)))
    assert outcome == {
        **dict.fromkeys(["false", "false, all levels", "false, a level", "missed"], 0.0),
        **dict.fromkeys(["found, all levels +12", "found, a level +12", "equal"], 1.0),
        "runs": 15.0,
    }


def test_a_grid_does_not_depend_on_which_others_are_simulated():
    scenario = Scenario("x", 2, 2, 3, (300,), (0, 9))
    several = simulate_grids("table", scenario, range(12), seed=5)
    assert [simulate_grids("table", scenario, [i], seed=5)[0] for i in range(12)] == several
    found = [g["fixed"]["found, all levels +9"] for g in several]
    other = [g["fixed"]["found, all levels +9"] for g in simulate_grids("table", scenario, range(12), seed=6)]
    assert 0 < sum(found) < 12 and other != found


def test_random_scenarios_differ_and_can_be_simulated():
    drawn = [draw("x", seeds, np.random.default_rng(s)) for s, seeds in ((1, 2), (2, None), (3, None))]
    assert len({(x.arms, len(x.sizes)) for x in drawn}) > 1
    for scenario in drawn:
        scores = simulate(scenario, np.random.default_rng(4))
        assert list(scores) == [BASE, *scenario.names]
        counts = [len(next(iter(scores[arm].values()))) for arm in scenario.names]
        assert counts == ([2] * scenario.arms if scenario.seeds == 2 else list(scenario.seeds))
    found = simulate_grids(RANDOM, Scenario("r", seeds=2), range(2))
    assert all("false" in grid["fixed"] for grid in found)


def test_summary_by_hand():
    figures = summary([{"a": 1.0}, {"a": 0.0}, {"a": 1.0}, {"a": 0.0, "b": 0.0}])
    assert figures["a"] == (0.5, pytest.approx(0.25)) and figures["b"] == (0.0, 1.0)


def test_the_command_prints_and_writes_the_same_with_any_number_of_processes(tmp_path, monkeypatch, capsys):
    cases = {
        calibration.NULL: [Scenario("quiet", 2, 2, sizes=(30, 40))],
        calibration.ADAPTIVE: [Scenario("six", 3, 8, sizes=(60, 60), effects=(0, 20), pairs="control")],
    }
    monkeypatch.setattr(calibration, "groups", lambda: cases)
    results = []
    for jobs in ("1", "2"):
        main(["--grids", "0.02", "--jobs", jobs, "--json", str(tmp_path / jobs)])
        results.append(json.loads((tmp_path / jobs).read_text())["rows"])
    assert results[0] == results[1]
    rows = {(row["scenario"], row["design"]): row for row in results[0]}
    assert list(rows) == [("quiet", "fixed"), *(("six", d) for d in ("until decided", "fixed 5", "fixed 8"))]
    assert rows["quiet", "fixed"]["grids"] == 8 and rows["six", "fixed 5"]["grids"] == 4
    assert rows["six", "fixed 8"]["figures"]["runs"][0] == 24 > rows["six", "until decided"]["figures"]["runs"][0]
    assert rows["six", "fixed 8"]["figures"]["found, all levels +20"] == [1.0, 0.25]
    printed = capsys.readouterr().out
    assert "until decided" in printed and "quiet" in printed and "nominal 5 %" in printed


def test_every_scenario_of_the_default_set_is_named_once_and_sound():
    for table, scenarios in calibration.groups().items():
        assert len({x.name for x in scenarios}) == len(scenarios), table
        for scenario in scenarios:
            if table != RANDOM:
                truth = scenario.accuracy()
                assert min(x.min() for x in truth.values()) > 0.15 and max(x.max() for x in truth.values()) < 0.85
                assert len(scenario.effects) <= scenario.arms
                assert isinstance(scenario.sd, int | float) or len(scenario.sd) == scenario.arms
