"""Adaptive grids: looks, arms that stop, kills between looks, and what cannot be changed afterwards."""

import json
import shutil

import numpy as np
import pytest

from rlvid import report
from rlvid.errors import UserError
from rlvid.grids import Grid
from rlvid.grids.adaptive import run_until_decided
from rlvid.grids.plan import adaptive_plan, adaptive_share
from rlvid.study.study import STATE_FILE, read_study
from tests.helpers.reports import printed_report, write_grid, write_run

PAIRS = [("better", "base"), ("equal", "base")]
ARMS, UNSEEDED = ["base", "better", "equal"], ["base"]


def runner(folder, accuracy, calls):
    """A function that runs an adaptive grid's arms: 400 questions, of which an arm answers so many per cent right."""

    def run(seeds):
        calls.append(dict(seeds))
        cells = []
        for arm, count in seeds.items():
            for seed in range(count):
                rng = np.random.default_rng([seed, *arm.encode()])
                marks = "".join("1" if x < accuracy[arm] else "0" for x in rng.random(400))
                id = write_run(
                    folder / f"{arm}{seed}", f"seed={seed}", f"eval.seed={len(arm)}", right=(marks, marks[::-1])
                )
                cells.append((arm, seed, f"{arm}{seed}", id))
        write_grid(folder, cells, PAIRS, control="base", unseeded=UNSEEDED, equivalence_margin=0.05)
        return 0, []

    return run


def until_decided(folder, accuracy, calls, max_seeds=8, margin=0.05):
    return run_until_decided(folder, PAIRS, ARMS, UNSEEDED, margin, max_seeds, runner(folder, accuracy, calls))


def test_an_arm_whose_comparison_is_decided_gets_no_more_seeds(tmp_path):
    calls = []
    assert until_decided(tmp_path, {"base": 0.4, "better": 0.75, "equal": 0.42}, calls) == 0
    looks = json.loads((tmp_path / STATE_FILE).read_text())["looks"]
    assert looks["better | base"][-1]["verdict"] == "better"
    decided_at = looks["better | base"][-1]["seeds"]
    assert calls[0] == {"base": 1, "better": 2, "equal": 2}
    assert all(call["better"] <= decided_at and call["base"] == 1 for call in calls)
    assert calls[-1]["equal"] == looks["equal | base"][-1]["seeds"] > decided_at
    text = printed_report(tmp_path, 140)
    words = " ".join(text.split())
    assert "Arms got more seeds only while one of their comparisons was open" in words and "instead of 17" in words
    better = next(row for row in report(tmp_path, plots=False).comparisons if row.a == "better")
    assert better.verdict == "better" and better.difference.low == pytest.approx(looks["better | base"][-1]["low"])


def test_a_grid_killed_between_two_looks_continues_with_the_same_looks(tmp_path):
    accuracy = {"base": 0.4, "better": 0.46, "equal": 0.42}
    until_decided(tmp_path / "whole", accuracy, [])
    killed, calls = tmp_path / "killed", []

    class Killed(Exception):
        pass

    def run(seeds):
        if len(calls) == 1:
            raise Killed
        return runner(killed, accuracy, calls)(seeds)

    with pytest.raises(Killed):
        run_until_decided(killed, PAIRS, ARMS, UNSEEDED, 0.05, 8, run)
    until_decided(killed, accuracy, calls)
    states = [json.loads((folder / STATE_FILE).read_text()) for folder in (tmp_path / "whole", killed)]
    assert states[0] == states[1]
    assert [call["equal"] for call in calls] == sorted({call["equal"] for call in calls}), "no look is repeated"


def test_a_grid_killed_before_its_first_look_continues(tmp_path):
    """The runs may be there and grid.json with them; until a look is made, a report decides nothing."""
    accuracy, calls = {"base": 0.4, "better": 0.75, "equal": 0.42}, []

    class Killed(Exception):
        pass

    def run(seeds):
        runner(tmp_path, accuracy, calls)(seeds)
        raise Killed

    with pytest.raises(Killed):
        run_until_decided(tmp_path, PAIRS, ARMS, UNSEEDED, 0.05, 8, run)
    rows = [row for row in report(tmp_path, plots=False).comparisons if row.condition == "all levels"]
    assert [(row.verdict, row.difference.low, row.p) for row in rows] == [("no look yet", -1, None)] * 2
    assert until_decided(tmp_path, accuracy, calls) == 0
    assert [call["equal"] for call in calls[:2]] == [2, 2], "the look of the first runs is made, not skipped"


def test_a_failed_cell_ends_without_a_look(tmp_path):
    assert run_until_decided(tmp_path, PAIRS, ARMS, UNSEEDED, 0.05, 8, lambda seeds: (1, [])) == 1
    assert not any(json.loads((tmp_path / STATE_FILE).read_text())["looks"].values())


def test_a_grid_begun_with_fixed_seeds_cannot_become_adaptive(tmp_path):
    runner(tmp_path, dict.fromkeys(ARMS, 0.5), [])(dict.fromkeys(ARMS, 2))
    with pytest.raises(UserError, match="holds a grid with fixed seeds, which cannot be made adaptive"):
        until_decided(tmp_path, dict.fromkeys(ARMS, 0.5), [])


def test_settings_cannot_change_after_the_first_look(tmp_path):
    accuracy = {"base": 0.4, "better": 0.75, "equal": 0.42}
    until_decided(tmp_path, accuracy, [], max_seeds=3)
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    for changed in ({"max_seeds": 8}, {"max_seeds": 3, "margin": 0.1}):
        with pytest.raises(UserError, match="holds an adaptive grid with other comparisons, --margin or --max-seeds"):
            until_decided(tmp_path, accuracy, [], **changed)
    assert read_study(tmp_path).adaptive.max_seeds == 3


def test_a_changed_script_or_plugin_is_refused_before_any_run(tmp_path):
    """A look was at 40 against 75 %; runs of another config, or of another endpoint, must not continue it."""
    accuracy, calls = {"base": 0.4, "better": 0.46, "equal": 0.42}, []
    plan = {"endpoint": "accuracy", "unseeded": ("base",), "configs": {"base": "a", "better": "b"}}
    settings = (tmp_path, PAIRS, ARMS, UNSEEDED, 0.05, 3, runner(tmp_path, accuracy, calls), ())
    with pytest.raises(UserError, match=r"are of another config of arm 'base', arm 'better' than grid.json"):
        run_until_decided(*settings, plan)  # as where grid.json was overwritten: its ids are not those planned
    made = len(calls)
    for changed, words in (
        (plan | {"endpoint": "soft_accuracy"}, "other endpoint"),
        (plan | {"unseeded": ()}, "other unseeded"),
        (plan | {"configs": {"base": "a", "better": "c"}}, "other settings or plug-ins of 'better'"),
    ):
        with pytest.raises(UserError, match=f"began with {words}"):
            run_until_decided(*settings, changed)
    assert len(calls) == made, "refused before any run"


def test_a_grid_saved_without_a_plan_continues(tmp_path):
    accuracy = {"base": 0.4, "better": 0.75, "equal": 0.42}
    until_decided(tmp_path, accuracy, [], max_seeds=2)
    assert "plan" not in json.loads((tmp_path / STATE_FILE).read_text())
    settings = (tmp_path, PAIRS, ARMS, UNSEEDED, 0.05, 2, runner(tmp_path, accuracy, []), ())
    assert run_until_decided(*settings, {"endpoint": "soft_accuracy"}) == 0


def test_the_plan_of_an_adaptive_grid_has_the_first_config_of_each_arm():
    grid = Grid("g", "?", seeds=(4, 7), control="a", arms={"a": {}, "b": {"train.max_steps": 3}})
    cells = grid.cells("nano")
    plan = adaptive_plan(grid, cells, 3)
    assert plan["configs"] == {"a": cells[0].id, "b": cells[2].id} and plan["seeds"] == [4, 7, 8]
    assert plan["endpoint"] == "accuracy" and set(plan) >= {"unseeded", "positive_controls", "negative_controls"}


def test_with_one_level_it_has_the_whole_error_rate():
    def share(levels, transfer):
        settings = {"eval.splits": levels, "eval.transfer": transfer}
        return adaptive_share(Grid("g", "?", (0,), "a", arms={"a": {}}, settings=settings).cells("nano"))

    assert (share(["L1"], []), share(["L1", "L2"], []), share(["L1"], ["kitchen_long"])) == (1, 0.5, 0.5)


def test_an_interaction_is_decided_like_a_comparison(tmp_path):
    """`better` gains 35 points over the base and `equal` none: the change to the base costs `better` more."""
    named, calls, accuracy = ("better", "base", "equal", "base"), [], {"base": 0.4, "better": 0.75, "equal": 0.42}
    run = runner(tmp_path, accuracy, calls)

    def run_and_plan(seeds):
        done = run(seeds)
        plan = json.loads((tmp_path / "grid.json").read_text())
        (tmp_path / "grid.json").write_text(json.dumps(plan | {"interactions": [named]}))
        return done

    settings = (tmp_path, PAIRS, ARMS, UNSEEDED, 0.05, 8)
    run_until_decided(*settings, run_and_plan, [named])
    state = json.loads((tmp_path / STATE_FILE).read_text())
    looks = state["looks"]["better to base | equal to base"]
    assert looks[-1]["verdict"] == "better" and state["contrasts"]["better to base | equal to base"]["base"] == 0
    alpha = read_study(tmp_path).adaptive.comparisons["better | base"].alpha
    assert alpha == pytest.approx(0.05 / 2 / 3), "all levels' half is for two comparisons and one interaction"
    [row] = report(tmp_path, plots=False).interactions
    assert row.verdict == "costs more" and row.difference.low == pytest.approx(looks[-1]["low"])
    shown = [row for row in report(tmp_path, plots=False).looks if row.comparison == "better to base | equal to base"]
    assert shown[-1].verdict == "costs more"
    with pytest.raises(UserError, match="other comparisons"):
        run_until_decided(*settings, run_and_plan)


def test_further_seeds_follow_the_named_ones():
    grid = Grid("g", "?", seeds=(4, 7), control="a", arms={"a": {}, "b": {}})
    assert grid.seed_numbers(1) == [4] and grid.seed_numbers(4) == [4, 7, 8, 9]
    assert grid.pairs(grid.all_arms("nano")) == [("b", "a")]


def test_the_margin_is_a_third_of_the_effect_at_stake():
    grid = Grid("g", "?", seeds=(0,), control="a", arms={"a": {}})
    assert grid.margin == 0.03
    assert Grid("g", "?", (0,), "a", effect_at_stake=0.12).margin == pytest.approx(0.04)
    assert Grid("g", "?", (0,), "a", effect_at_stake=0.12, equivalence_margin=0.02).margin == 0.02
