"""Which runs are compared on which levels: incomplete ones, copies, missing values, arms that share runs."""

import json

import numpy as np
import pytest

from rlvid.errors import UserError
from rlvid.grids.adaptive import run_until_decided
from rlvid.study.comparison import NOTHING_NEEDED, Comparison, exact_p, fit_seed_model, weights_of_levels
from rlvid.study.footnotes import rare_runs
from rlvid.study.noise_rows import NoiseCellRow
from rlvid.study.report import build_report
from rlvid.study.stats import Interval, permutation_test
from rlvid.study.study import read_study
from tests.helpers.reports import edit_answers, write_arms, write_grid, write_run

HALF = "10" * 50


def reasons(folder):
    return [(row.arm, row.seeds, row.reason) for row in build_report(read_study(folder)).missing]


def write_arm(folder, arm, number, *marks, count=3):
    """Write runs of an arm, one for each seed; `marks[seed]` are its answers on L1 and L2, the last for the rest."""
    cells = []
    for seed in range(count):
        name = f"{number}-{seed}"
        settings = (f"seed={seed}", f"algorithm.epsilon={0.1 + number / 100}")
        id = write_run(folder / name, *settings, right=marks[min(seed, len(marks) - 1)])
        cells.append((arm, seed, name, id))
    return cells


def test_runs_that_answered_all_levels_are_compared_on_all_levels(tmp_path):
    """The third run lacks a question of L1: it, not the level, is left out. L1 -20 and L2 +20 points are 0."""
    cells = write_arm(tmp_path, "ctl", 0, (HALF, HALF))
    low, high = "1" * 30 + "0" * 70, "1" * 70 + "0" * 30
    cells += write_arm(tmp_path, "arm", 1, (low, high), (low, high), (low[:-1], high))
    write_grid(tmp_path, cells, [("arm", "ctl")])
    rows = build_report(read_study(tmp_path)).comparisons
    assert [row.condition for row in rows] == ["all levels", "L1", "L2"]
    assert [row.difference.value for row in rows] == pytest.approx([0, -0.2, 0.2])
    assert reasons(tmp_path) == [
        ("arm", (2,), "L1 left out: 99 of the 100 questions of other runs answered"),
        ("arm", (2,), "not compared: other runs of the arm answered all levels, or more of them"),
    ]


def test_a_level_that_no_run_of_an_arm_answered_is_named(tmp_path):
    cells = write_arm(tmp_path, "ctl", 0, (HALF, HALF))
    cells += write_arm(tmp_path, "arm", 1, (HALF[:-1], "1" * 70 + "0" * 30))
    write_grid(tmp_path, cells, [("arm", "ctl")], positive_controls=[("arm", "ctl")])
    report = build_report(read_study(tmp_path))
    assert report.comparisons[0].condition == "all levels without L1"
    assert report.comparisons[0].difference.value == pytest.approx(0.2) and report.controls[0].difference
    assert ("arm", (), "L1 is in none of its comparisons: no run of the arm answered all levels") in reasons(tmp_path)


def test_a_look_needs_as_many_complete_runs_as_it_claims(tmp_path):
    def run(seeds):
        cells = []
        for number, (arm, count) in enumerate(seeds.items()):
            marks = []
            for seed in range(count):
                rng = np.random.default_rng([number, seed])
                lost = int(seed == 2)  # the third run lacks a question of L1
                shares = ((0.5 - 0.2 * number, 200 - lost), (0.5 + 0.06 * number, 200))
                marks.append(["".join("01"[int(x < share)] for x in rng.random(size)) for share, size in shares])
            cells += write_arm(tmp_path, arm, number, *marks, count=count)
        write_grid(tmp_path, cells, [("x", "ctl")])
        return 0, []

    with pytest.raises(UserError, match="no look after 3 seeds: 2 of 3 runs of 'x' have values of accuracy for all"):
        run_until_decided(tmp_path, [("x", "ctl")], ["ctl", "x"], [], 0.05, 8, run)
    looks = json.loads((tmp_path / "adaptive.json").read_text())["looks"]["x | ctl"]
    assert [look["seeds"] for look in looks] == [2]


def test_a_look_at_an_arm_without_the_endpoint_is_one_line(tmp_path):
    def run(seeds):
        cells = write_arms(tmp_path, dict.fromkeys(seeds, 50))
        for path in tmp_path.glob("0-*/eval/*.jsonl"):
            edit_answers(path, lambda i, row: row | {"rewards/soft_accuracy": i / 100})
        write_grid(tmp_path, cells, [("x", "ctl")], endpoint="soft_accuracy")
        return 0, []

    with pytest.raises(UserError, match="0 of 2 runs of 'x' have values of soft_accuracy"):
        run_until_decided(tmp_path, [("x", "ctl")], ["ctl", "x"], [], 0.05, 8, run)


def test_a_copy_of_a_run_is_no_seed(tmp_path):
    for name, epsilon in (("a", 0.2), ("b", 0.3), ("a-copy", 0.2), ("b-copy", 0.3)):
        write_run(tmp_path / name, "seed=0", f"algorithm.epsilon={epsilon}", right=(HALF,))
    study = read_study(tmp_path)
    assert [len(runs) for runs in study.arms.values()] == [1, 1]
    assert [(folder, why.split(", ")[1]) for folder, why in study.set_aside] == [
        ("a-copy", "seed 0 again: a counts"),
        ("b-copy", "seed 0 again: b counts"),
    ]


def test_a_seed_that_a_plan_names_twice_counts_once(tmp_path):
    cells = write_arm(tmp_path, "ctl", 0, (HALF,), count=1) * 2 + write_arm(tmp_path, "x", 1, (HALF,), count=1)
    cells.append(("x", 1, "1-0", cells[-1][3]))  # another seed in the same folder
    write_grid(tmp_path, cells, [("x", "ctl")])
    report = build_report(read_study(tmp_path))
    assert report.runs_planned == 2 and report.comparisons[0].verdict == "one seed: these runs only"


@pytest.fixture
def soft(tmp_path):
    """Two arms with two seeds on L1 and L2, whose soft accuracy is 0.5 everywhere."""
    write_grid(tmp_path, write_arms(tmp_path, {"ctl": 50, "x": 60}), [("x", "ctl")], endpoint="soft_accuracy")
    for path in tmp_path.glob("*/eval/*.jsonl"):
        edit_answers(path, lambda i, row: row | {"rewards/soft_accuracy": 0.5})
    return tmp_path


def test_missing_values_of_the_endpoint_are_counted(soft):
    edit_answers(soft / "1-1/eval/L1.jsonl", lambda i, row: row | {"rewards/soft_accuracy": 0.5 if i % 4 else None})
    edit_answers(soft / "1-1/eval/L2.jsonl", lambda i, row: row | {"rewards/soft_accuracy": None})
    assert reasons(soft) == [
        ("x", (1,), "L1: 25 of 100 values of soft_accuracy missing, counted as 0"),
        ("x", (1,), "L2: 100 of 100 values of soft_accuracy missing, counted as 0"),
    ]


def test_runs_without_the_endpoint_are_listed(soft):
    for path in soft.glob("1-*/eval/*.jsonl"):
        edit_answers(path, lambda i, row: {key: row[key] for key in row if key != "rewards/soft_accuracy"})
    words = "is not compared: soft_accuracy was not measured; name it in eval.rewards"
    assert reasons(soft) == [("x", (0, 1), f"{level} {words}") for level in ("L1", "L2")]


def test_a_value_that_is_not_finite_is_one_line(soft):
    edit_answers(soft / "0-0/eval/L1.jsonl", lambda i, row: row | {"rewards/soft_accuracy": np.nan if i == 7 else 0.5})
    with pytest.raises(UserError, match=r"0-0/eval/L1.jsonl: question L1-7 has rewards/soft_accuracy nan"):
        build_report(read_study(soft))


def test_verdicts_do_not_depend_on_the_scale_of_the_endpoint(soft):
    """Scores of 0 or 1, and the same in 0 or 100: hundredfold differences, equal p and verdicts."""
    found = []
    for scale in (1, 100):
        for path in soft.glob("*/eval/*.jsonl"):
            edit_answers(path, lambda i, row, scale=scale: row | {"rewards/soft_accuracy": scale * row["correct"]})
        found.append(build_report(read_study(soft)).comparisons)
    for plain, scaled in zip(*found, strict=True):
        assert scaled.p == pytest.approx(plain.p) and scaled.difference.value == pytest.approx(10.0)
        assert scaled.difference.low == pytest.approx(100 * plain.difference.low)


def test_untrained_runs_that_answer_alike_count_as_one(tmp_path):
    cells = write_arms(tmp_path, {"x": 60, "y": 50})
    for seed in (0, 1):
        id = write_run(tmp_path / f"b{seed}", f"seed={seed}", "train.max_steps=0", right=(HALF, HALF))
        cells.append(("base", seed, f"b{seed}", id))
    write_grid(tmp_path, cells, [("x", "base")])
    model = fit_seed_model(read_study(tmp_path))
    assert model.unseeded == {"base"} and model.seeds("base") == 1 and set(model.scatter.tau) == {"x", "y"}
    words = "its runs took no step and gave the same answers: counted as one run that depends on no seed"
    assert reasons(tmp_path) == [("base", (), words)]


def test_the_exact_test_on_all_levels_weighs_levels_alike(tmp_path):
    """+2 of 4 questions on L1 against -2 of 2 on L2: the levels' shares, not the numbers of right answers, decide."""
    cells = write_arm(tmp_path, "ctl", 0, ("0000", "11"), count=1) + write_arm(
        tmp_path, "x", 1, ("1100", "00"), count=1
    )
    write_grid(tmp_path, cells, [("x", "ctl")])
    p = exact_p(read_study(tmp_path), "x", "ctl", "all levels")
    # in units of 1 / 4: +1 +1 -2 -2 = -2, and of the 16 signs of (1, 1, 2, 2) only (+-1 -+1, +2 -2) give 0: 4 of 16
    assert p == pytest.approx(12 / 16)
    marks = np.array([[1, 1, 0, 0, 0, 0]]), np.array([[0, 0, 0, 0, 1, 1]])
    assert permutation_test(*marks) == 1, "without weights the difference is 0"


def test_levels_without_a_small_common_multiple_weigh_alike_up_to_some_percent():
    sizes = [2433, 1000, 3001]
    weights = weights_of_levels(sizes, 100_000)
    assert weights == [14, 33, 11]
    levels = np.multiply(weights, sizes)
    assert levels.max() / levels.min() < 1.04


def test_arms_that_share_runs_are_one_arm_also_with_fewer_seeds(tmp_path):
    clean = write_arm(tmp_path, "a, clean", 0, (HALF, HALF), ("1" * 60 + "0" * 40, HALF))
    noisy = write_arm(tmp_path, "a, noisy", 1, ("0" * 60 + "1" * 40, HALF), (HALF, HALF))
    contrasts = []
    for count in (3, 2):
        copies = [("b, clean", *cell[1:]) for cell in clean[:count]]
        write_grid(tmp_path, [*clean, *copies, *noisy], [("a, noisy", "a, clean"), ("b, clean", "a, clean")])
        model = fit_seed_model(read_study(tmp_path))
        assert model.same_runs == {"b, clean": "a, clean"} and not reasons(tmp_path)
        contrasts.append(model.contrast({"a, noisy": 1, "b, clean": -1}))
    assert contrasts[0].interval() == pytest.approx(contrasts[1].interval())


def test_an_arm_that_shares_the_run_of_an_unseeded_one_has_no_seed_either(tmp_path):
    cells = write_arms(tmp_path, {"x": 60})
    id = write_run(tmp_path / "b", "train.max_steps=0", right=("1" * 60 + "0" * 40, HALF))
    cells += [("base", 0, "b", id), ("no training", 0, "b", id), ("no training", 1, "b1", "not started")]
    write_grid(tmp_path, cells, [("x", "base")], unseeded=["base"])
    arms = {row.arm: row.seed_sd for row in build_report(read_study(tmp_path)).arms}
    assert arms["base"] is arms["no training"] is None and arms["x"] > 0


def test_answers_in_another_order_are_compared(tmp_path):
    cells = write_arm(tmp_path, "ctl", 0, ("1100",), count=1) + write_arm(tmp_path, "x", 1, ("0110",), count=1)
    path = tmp_path / "1-0/eval/L1.jsonl"
    path.write_text("".join(line + "\n" for line in reversed(path.read_text().splitlines())))
    write_grid(tmp_path, cells, [("x", "ctl")])
    assert not reasons(tmp_path)
    assert read_study(tmp_path).column("x", "L1", "correct").tolist() == [[0, 1, 1, 0]]


def test_a_question_that_is_answered_twice_is_said(tmp_path):
    cells = write_arm(tmp_path, "ctl", 0, ("1100",), count=1)
    edit_answers(tmp_path / "0-0/eval/L1.jsonl", lambda i, row: row | {"id": f"L1-{i // 2}"})
    write_grid(tmp_path, cells)
    assert reasons(tmp_path) == [("ctl", (0,), "L1: 2 lines answer a question again; the last line of each counts")]


def test_equivalent_under_a_noise_says_what_few_seeds_leave_open():
    row = Comparison("ppo", "grpo", "half", Interval(0, -0.01, 0.01), None, 1, 1, "equivalent within 3", NOTHING_NEEDED)
    cells = [NoiseCellRow(m, "half", n, n, 0.0, 0.0, 0.5, {}, Interval(0, 0, 0)) for m, n in (("ppo", 4), ("grpo", 3))]
    assert "rests on 3 runs of an arm here" in rare_runs([row], [], cells) and not rare_runs([row], [])
