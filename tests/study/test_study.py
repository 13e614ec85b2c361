"""Studies read from folders with and without a grid: arms, control, comparisons, levels."""

import shutil
from pathlib import Path

import pytest

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.study.arms import name_by_differences
from rlvid.study.noise_response import untrained_arm
from rlvid.study.runs import describe_signal
from rlvid.study.study import read_study
from rlvid.utils.files import write_jsonl
from tests.helpers.reports import printed_report, write_grid, write_run


def test_runs_without_a_grid_are_named_by_their_differing_settings(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", f"seed={seed}", right=("1" * 50,))
        write_run(tmp_path / f"b{seed}", f"seed={seed}", "rewards.format=0.5", right=("0" * 50,))
    write_run(tmp_path / "untrained", "train.max_steps=0", right=("10" * 25,))
    study = read_study(tmp_path)
    steps = load("nano").train.max_steps
    base, plain, more = (
        f"train.max_steps={n} rewards.format.weight={weight}" for n, weight in ((0, 0.2), (steps, 0.2), (steps, 0.5))
    )
    seeds = {arm: [run.seed for run in runs] for arm, runs in study.arms.items()}
    assert seeds == {base: [0], plain: [0, 1], more: [0, 1]}
    assert study.comparisons == [(plain, base), (more, base)], "without a grid, the untrained run is the control"
    assert "5 of 5 runs done" in printed_report(tmp_path)


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nothing"):
        read_study(tmp_path / "nothing")
    with pytest.raises(UserError, match="no runs in"):
        read_study(tmp_path)
    write_grid(tmp_path / "quickstart", [("base", 0, "b", "0")])
    with pytest.raises(UserError, match=r"There are grids in .*quickstart"):
        read_study(tmp_path)


def test_levels_are_in_configured_order_and_transfer_levels_by_size(tmp_path):
    id = write_run(tmp_path / "a", 'eval.splits=["L3", "L1"]', right=("10" * 10,) * 3)
    for name in ("600s", "60s", "15s", "3600s"):
        write_jsonl(tmp_path / "a" / "eval" / f"{name}.jsonl", [{"id": "q", "gold": "A", "correct": True}])
    write_grid(tmp_path, [("a", 0, "a", id)])
    order = ["L3", "L1", "15s", "60s", "600s", "3600s", "L2"]
    assert list(read_study(tmp_path).levels) == order, "L2 is in no config's eval.splits"
    printed = [word for word in printed_report(tmp_path, 140).split() if word in order]
    assert printed[: len(order)] == order


def test_runs_without_any_differing_setting_are_named_by_a_folder_of_their_own():
    configs = {Path("runs/added-0"): {"rewards.x.weight": 0.5}, Path("runs/plain-0"): {}, Path("runs/plain-1"): {}}
    assert list(name_by_differences(configs).values()) == ["rewards.x.weight=0.5", "plain-0", "plain-0"]


def test_runs_of_one_seed_are_named_like_their_folders_and_what_they_differ_in_is_shown(tmp_path):
    write_run(tmp_path / "first", right=("1" * 50,))
    write_run(tmp_path / "second", "algorithm=dr_grpo", "rewards.format=0.5", right=("0" * 50,))
    study = read_study(tmp_path)
    assert study.comparisons == [("second", "first")] and not study.unseeded
    write_run(tmp_path / "a", "rewards.format=0.7", state="failed")
    assert read_study(tmp_path).comparisons == [("second", "first"), ("a", "first")], "a failed run is no control"
    shutil.rmtree(tmp_path / "a")
    values = {row.key: (row.value, row.other_value) for row in study.differences}
    assert values["algorithm.name"] == ("dr_grpo", "grpo") and values["rewards.format.weight"] == ("0.5", "0.2")
    assert not {"seed", "train.max_steps"} & {*values}
    assert "rewards.format.weight 0.5 (0.2)" in printed_report(tmp_path, 140)


def test_an_evaluation_of_a_run_beside_it_is_not_taken_for_an_untrained_model(tmp_path):
    write_run(tmp_path / "first", right=("1" * 50,))
    write_run(tmp_path / "second", "rewards.format=0.5", right=("10" * 25,))
    evaluation = ["train.max_steps=0", f"model='{tmp_path}/first/checkpoints/step-000060'"]
    write_run(tmp_path / "eval-first-ab", *evaluation, right=("1" * 50,))
    study = read_study(tmp_path)
    assert study.control == "first" and [*study.arms] == ["first", "second"] and not study.unseeded
    assert "eval-first-ab" in printed_report(tmp_path) and "an evaluation of first, which is here" in printed_report(
        tmp_path
    )


def test_evaluations_alone_are_compared_and_only_an_untrained_model_depends_on_no_seed(tmp_path):
    for name in ("first", "second"):
        write_run(
            tmp_path / name, "train.max_steps=0", f"model='runs/{name}/checkpoints/step-000060'", right=("10" * 25,)
        )
    write_run(tmp_path / "third", "train.max_steps=0", right=("0" * 50,))
    study = read_study(tmp_path)
    assert study.control == "third" and study.unseeded == ["third"] and [*study.arms] == ["third", "first", "second"]


def test_a_noise_seed_that_is_the_seed_of_the_run_makes_no_arm(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"clean{seed}", f"seed={seed}", right=("10" * 25,))
        noise = ("noise.kind='symmetric'", "noise.rate=0.3", f"noise.seed={seed}")
        write_run(tmp_path / f"noisy{seed}", f"seed={seed}", *noise, right=("10" * 25,))
    assert [len(runs) for runs in read_study(tmp_path).arms.values()] == [2, 2]
    write_run(tmp_path / "noisy2", "seed=1", *noise[:2], "noise.seed=7", right=("10" * 25,))
    assert len(read_study(tmp_path).arms) == 4, "where it is not, it is a setting"


def test_a_signal_without_a_name_has_its_number():
    assert describe_signal(35) == "killed by signal 35"


def test_runs_that_only_have_a_cold_start_are_trained(tmp_path):
    """Their seeds count: as an untrained arm they would have no scatter, and a run under noise could gain on them."""
    for seed, right in enumerate(("10" * 30, "1100" * 10 + "0" * 20)):
        cold = (f"seed={seed}", "train.max_steps=0", "cold_start.max_steps=50")
        write_run(tmp_path / f"cold{seed}", *cold, right=(right,))
        write_run(tmp_path / f"grpo{seed}", f"seed={seed}", right=(right,))
    study = read_study(tmp_path)
    assert study.unseeded == [] and untrained_arm(study) is None
    assert not any(run.took_no_step for run in study.runs)


def test_an_evaluation_of_a_cold_start_is_not_taken_for_an_untrained_model(tmp_path):
    cold = ("cold_start.max_steps=50",)
    write_run(tmp_path / "cold", "train.max_steps=0", *cold, right=("10" * 30,))
    write_run(tmp_path / "both", *cold, right=("1100" * 15,))
    models = {"eval-cold": "cold/cold_start/folded", "eval-both": "both/cold_start/folded"}
    models |= {"eval-sft": "both/cold_start/checkpoints/step-000050"}
    for name, model in models.items():
        write_run(tmp_path / name, "train.max_steps=0", f"model='{tmp_path}/{model}'", right=("10" * 30,))
    study = read_study(tmp_path)
    assert {*study.arms} == {"both", "cold"} and study.unseeded == [], "neither a base nor an arm of its own"
    assert dict(study.set_aside) == {
        "eval-cold": "an evaluation of cold, which is here",
        "eval-both": "an evaluation of the cold start of both, which is here",
        "eval-sft": "an evaluation of the cold start of both, which is here",
    }
    for name in ("cold", "both"):
        shutil.rmtree(tmp_path / name)
    assert read_study(tmp_path).unseeded == [], "their runs are elsewhere, but they are trained models all the same"


def test_a_cold_start_from_a_checkpoint_is_no_evaluation_of_it(tmp_path):
    write_run(tmp_path / "first", right=("1" * 50,))
    model = f"model='{tmp_path}/first/checkpoints/step-000060'"
    write_run(tmp_path / "on", "train.max_steps=0", "cold_start.max_steps=50", model, right=("10" * 25,))
    study = read_study(tmp_path)
    assert {*study.arms} == {"first", "on"} and study.unseeded == [] and not study.set_aside
