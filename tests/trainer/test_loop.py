"""Whole runs: exact resume after kills, several processes, external plug-ins, failures."""

import fcntl
import json
import signal
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from scipy.stats import binomtest

from rlvid import api
from rlvid.errors import UserError
from rlvid.registry import NANO_CHECKPOINT, embedded_models
from rlvid.trainer.results import results_table
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.processes import Child, several, wait_for
from tests.helpers.runs import SMALL, TINY, stop_after, train

SIX_STEPS = "train.max_steps=6", "train.save_steps=2", "eval.splits=['L1', 'L2', 'L3']"


@pytest.fixture(scope="module")
def uninterrupted(kitchen, tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "uninterrupted", *SIX_STEPS)


def test_a_run_leaves_its_whole_folder(uninterrupted):
    rows = read_jsonl(uninterrupted / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    names = {"reward", "reward_std", "rewards/accuracy/mean", "frac_reward_zero_std", "entropy", "loss", "grad_norm"}
    names |= {"completions/mean_length", "completions/clipped_ratio", "learning_rate", "num_completion_tokens"}
    assert names | {"advantage_share/accuracy", "data/decode_failures"} <= rows[0].keys()
    assert {"eval/L1/accuracy", "eval/L2/accuracy", "eval/L3/accuracy"} <= rows[-1].keys()
    timing = read_jsonl(uninterrupted / "timing.jsonl")[0]
    assert {f"timing_s/{p}" for p in ("decode", "vision", "prefill", "generate", "reward", "learn")} <= timing.keys()
    assert read_json(uninterrupted / "status.json")["state"] == "done"
    question = read_jsonl(uninterrupted / "eval/L3.jsonl")[0]
    assert {"id", "level", "domain", "completion", "answer", "gold", "correct", "rewards/format"} <= question.keys()
    assert len(read_jsonl(uninterrupted / "samples/step-000001.jsonl")) == 4
    assert [c.name for c in sorted((uninterrupted / "checkpoints").glob("*"))] == ["step-000004", "step-000006"]


def test_an_evaluation_of_transfer_benchmarks_alone_saves_a_checkpoint(kitchen, tmp_path):
    settings = ["eval.splits=[]", 'eval.transfer=["kitchen_long"]', "train.eval_steps=1"]
    out = train(tmp_path / "run", *TINY, *settings, "train.max_steps=2")
    assert [path.name for path in sorted((out / "checkpoints").iterdir())] == ["step-000001", "step-000002"]


@pytest.mark.parametrize("lines", [0, 3, 5])
def test_a_run_killed_at_any_moment_and_resumed_has_the_same_bits(uninterrupted, tmp_path, lines):
    out = tmp_path / "killed"
    child = Child(out, *SIX_STEPS, settings=SMALL)
    wait_for(out, lines, child)
    child.send(signal.SIGKILL)
    assert child.end()[0] == -signal.SIGKILL
    assert read_json(out / "status.json")["state"] == "running"
    train(out, *SIX_STEPS, resume=True)
    assert (out / "metrics.jsonl").read_bytes() == (uninterrupted / "metrics.jsonl").read_bytes()
    for file in ("eval/L1.jsonl", "samples/step-000006.jsonl", "checkpoints/step-000006/model.safetensors"):
        assert (out / file).read_bytes() == (uninterrupted / file).read_bytes()


def test_two_processes_learn_what_one_learns(uninterrupted, tmp_path):
    """Gradient norms differ by 1e-7 at step 1. Adam makes more of it, until a sampled token is another one."""
    out = tmp_path / "two"
    for child in several(out, "train.max_steps=4"):
        code, log = child.end()
        assert code == 0, log
    assert read_json(out / "environment.json")["processes"] == 2
    one, two = (read_jsonl(folder / "metrics.jsonl")[:3] for folder in (uninterrupted, out))
    for single, double in zip(one, two, strict=True):
        assert double == pytest.approx(single, rel=1e-4, abs=1e-5)


def test_tokens_per_forward_does_not_change_learning(uninterrupted, tmp_path):
    out = train(tmp_path / "cut", "train.max_steps=3", "train.max_tokens_per_forward=1")
    for whole, cut in zip(read_jsonl(uninterrupted / "metrics.jsonl"), read_jsonl(out / "metrics.jsonl"), strict=False):
        assert cut["reward"] == pytest.approx(whole["reward"], abs=1e-6)
        assert cut["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-3)


def test_a_reward_and_an_algorithm_from_external_files(kitchen, tmp_path, monkeypatch):
    (tmp_path / "my_reward.py").write_text(
        "from rlvid.reward import each\n\n\n@each\ndef brevity(completion, prompt, *, scale=1.0):\n"
        "    return -scale * len(completion.tokens)\n"
    )
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n\nfrom rlvid.algorithm import Algorithm\n\n\n@dataclass(frozen=True)\n"
        "class Mine(Algorithm):\n    '''Scaled advantages.'''\n    scale: float = 2.0\n\n"
        "    def advantages(self, rewards):\n        return self.scale * super().advantages(rewards)\n"
    )
    reward = ['rewards."./my_reward.py:brevity".weight=0.1', 'rewards."./my_reward.py:brevity".scale=0.5']
    rest = ["algorithm=./mine.py", "algorithm.scale=3.0", "train.max_steps=1", "eval.limit=1", "eval.splits=['L1']"]
    monkeypatch.chdir(tmp_path)
    (row,) = read_jsonl(train(tmp_path / "run", *reward, *rest) / "metrics.jsonl")
    name = "./my_reward.py:brevity"
    assert row[f"rewards/{name}/mean"] == pytest.approx(-0.5 * row["completions/mean_length"])
    assert row[f"advantage_share/{name}"] > 0.01


@pytest.mark.parametrize("model", embedded_models())
def test_sft_learns_the_demonstrations(model, kitchen, tmp_path):
    """Each of the six steps sees the same 16 demonstrations, so the loss falls at every step."""
    settings = [f"model={model}", "algorithm=sft", "train.max_steps=6", "train.learning_rate=3e-4"]
    settings += ["train.prompts_per_step=16", "train.data_fraction=0.0134", "eval.splits=['L1']", "eval.limit=2"]
    rows = read_jsonl(train(tmp_path / "sft", *settings) / "metrics.jsonl")
    assert rows[0]["rewards/accuracy/mean"] == rows[0]["rewards/format/mean"] == 1.0
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 2


def test_noise_is_in_the_manifest_and_in_training_only(kitchen, tmp_path):
    noise = ["noise.kind=symmetric", "noise.rate=0.5", "algorithm=sft", "train.max_steps=1"]
    out = train(tmp_path / "noisy", *noise)
    manifest = read_jsonl(out / "noise_manifest.jsonl")
    assert manifest and all(row["answer"]["clean"] != row["answer"]["noisy"] for row in manifest)
    clean = {row["id"]: row["gold"] for row in read_jsonl(train(tmp_path / "clean", *noise[2:]) / "eval/L1.jsonl")}
    assert {row["id"]: row["gold"] for row in read_jsonl(out / "eval/L1.jsonl")} == clean


def test_iterations_and_minibatches_use_old_logps(kitchen, tmp_path):
    out = train(tmp_path / "many", "algorithm.num_iterations=2", "algorithm.num_minibatches=2", "train.max_steps=1")
    assert read_jsonl(out / "metrics.jsonl")[0]["clip_ratio/region_mean"] >= 0


def test_a_moving_reference_is_saved_and_gives_a_kl(kitchen, tmp_path):
    changes = ["algorithm.beta=0.1", "train.sync_ref_model=true", "train.ref_model_sync_steps=1", "train.max_steps=2"]
    out = train(tmp_path / "ema", *changes)
    assert (out / "checkpoints/step-000002/reference.safetensors").exists()
    first, second = read_jsonl(out / "metrics.jsonl")
    assert first["kl"] == pytest.approx(0, abs=1e-6) and second["kl"] > 0


def test_a_non_finite_gradient_stops_the_run_and_keeps_its_samples(kitchen, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from dataclasses import dataclass\nfrom rlvid.algorithm import Algorithm\n\n\n@dataclass(frozen=True)\n"
        "class Bad(Algorithm):\n    def surrogate(self, logps, batch):\n        return logps * float('nan'), {}\n"
    )
    out = tmp_path / "run"
    code, output = Child(out, f"algorithm={tmp_path}/bad.py", "train.max_steps=2", settings=SMALL).end()
    assert code == 2 and "not finite" in output and "Traceback" not in output
    assert "in a new run with another --out" in " ".join(output.split()), "other settings are another run"
    assert len(read_jsonl(out / "samples/step-000001-not-finite.jsonl")) == 4
    assert read_json(out / "status.json")["state"] == "failed"


def test_the_last_checkpoint_and_the_best_are_kept(kitchen, tmp_path):
    out = train(tmp_path, "train.max_steps=4", "train.eval_steps=1", "train.save_total_limit=1", "eval.splits=['L1']")
    scores = {row["step"]: row["eval/L1/accuracy"] for row in read_jsonl(out / "metrics.jsonl")}
    best = max(scores, key=lambda step: (scores[step], -step))
    kept = {int(folder.name.removeprefix("step-")) for folder in (out / "checkpoints").iterdir()}
    assert kept == {best, 4} and (out / "eval/step-000001/L1.jsonl").exists()


def test_gradient_checkpointing_and_a_frozen_vision_tower(uninterrupted, tmp_path):
    out = train(tmp_path / "checked", "train.max_steps=1", "train.gradient_checkpointing=true")
    plain, checked = (read_jsonl(folder / "metrics.jsonl")[0] for folder in (uninterrupted, out))
    assert checked["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4)
    train(tmp_path / "frozen", "train.max_steps=1", "train.freeze_vision_tower=true", "train.weight_decay=0.1")
    before = load_file(NANO_CHECKPOINT / "model.safetensors")
    after = load_file(tmp_path / "frozen/checkpoints/step-000001/model.safetensors")
    same = {name for name in before if torch.equal(before[name].float(), after[name])}
    assert same and all("visual" in name for name in same)


def test_metrics_go_to_trackers_and_an_unknown_tracker_is_refused(kitchen, tmp_path):
    train(tmp_path / "tracked", "train.max_steps=1", "report_to=['tensorboard']", "eval.limit=1")
    assert list((tmp_path / "tracked/rlvid").glob("events.out.tfevents.*"))
    with pytest.raises(UserError, match="Did you mean 'tensorboard'"):
        train(tmp_path / "no", "train.max_steps=1", "report_to=['tensorbord']")


def test_two_processes_report_a_run_with_a_cold_start_to_a_tracker(kitchen, tmp_path):
    out, settings = tmp_path / "run", ["train.max_steps=1", "report_to=['tensorboard']", "eval.limit=1"]
    for child in several(out, *settings, "cold_start.max_steps=1", "cold_start.prompts_per_step=4"):
        code, log = child.end()
        assert code == 0, log
    assert len(read_jsonl(out / "metrics.jsonl")) == len(read_jsonl(out / "cold_start/metrics.jsonl")) == 1
    assert list((out / "rlvid").glob("events.out.tfevents.*")), "the run's metrics"
    assert not (out / "cold_start/rlvid").exists(), "those of the cold start are in its metrics.jsonl alone"


def test_only_answers_of_the_restored_weights_are_kept(kitchen, tmp_path):
    """Steps that are taken again may lead to another policy, so answers from after the checkpoint are made again."""
    settings = ["train.max_steps=2", "train.save_steps=1", "train.eval_steps=1", "eval.limit=2", "eval.views=['blank']"]
    out = train(tmp_path / "run", *settings)
    files = [out / "eval" / name for name in ("L1.jsonl", "views/blank/L1.jsonl", "step-000001/L1.jsonl")]
    texts = [file.read_text() for file in files]
    marked = [text.replace('"correct": ', '"marked": 1, "correct": ') for text in texts]

    def resume_after(step):
        stop_after(out, step)
        for file, text in zip(files, marked, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        train(out, *settings, resume=True)
        return [file.read_text() for file in files]

    assert texts[0] != marked[0] and resume_after(1) == [*texts[:2], marked[2]]
    assert resume_after(2) == marked, "those of the last step's weights"


def test_results_are_by_level_and_domain_with_intervals(uninterrupted):
    console = Console(file=StringIO(), width=120)
    console.print(results_table(uninterrupted / "eval"))
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert [row[0] for row in rows if row[0].startswith("L")] == ["L1", "L2", "L3", "L3", "L3", "L3", "L3"]
    right = sum(row["correct"] for row in read_jsonl(uninterrupted / "eval/L1.jsonl"))
    low, high = binomtest(right, 6).proportion_ci(method="wilson")
    assert [f"{right / 6:.1%}", f"{low:.1%}", "to", f"{high:.1%}"] == rows[1][-5:-1]


def test_a_folder_holds_one_run_only(uninterrupted):
    with pytest.raises(UserError, match=r"holds this run, and it is done: .*give another --out"):
        train(uninterrupted, *SIX_STEPS)
    with pytest.raises(UserError, match="give another --out"):
        train(uninterrupted, "train.max_steps=7", resume=True)


def test_a_folder_in_use_is_refused(kitchen, tmp_path):
    train(tmp_path, "train.max_steps=0", "eval.splits=['L1']")
    status = tmp_path / "status.json"
    status.write_text(status.read_text().replace("done", "running"))
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by another process"):
            train(tmp_path, "train.max_steps=0", "eval.splits=['L1']", resume=True)


def test_eval_reads_a_run_and_agrees_with_it(uninterrupted, tmp_path, capsys):
    api.evaluate(uninterrupted, splits=["L2"], out=tmp_path / "again")
    capsys.readouterr()
    api.evaluate(uninterrupted, splits=["L2"], out=tmp_path / "again")  # a finished evaluation is only printed
    assert "L2" in capsys.readouterr().out
    assert (tmp_path / "again/eval/L2.jsonl").read_bytes() == (uninterrupted / "eval/L2.jsonl").read_bytes()


def test_eval_of_nano_uses_the_questions_of_its_preset(kitchen, tmp_path):
    api.evaluate("nano", splits=["L1"], overrides=["eval.limit=2"], out=tmp_path / "nano")
    assert len(read_jsonl(tmp_path / "nano/eval/L1.jsonl")) == 2


def test_metrics_are_json(uninterrupted):
    for line in Path(uninterrupted / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (uninterrupted / "metrics.jsonl").stat().st_size > 0
