"""DeepSpeed on two CPU processes: ZeRO-2 and ZeRO-3 train as one process does, and resume each other's checkpoints.

The run has what can make ranks differ: five prompts on two processes, one group per forward pass, two minibatches, a
critic, a moving reference, and an evaluation whose last batch leaves one process without a question.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2VLForConditionalGeneration

from rlvid import api, distributed
from rlvid.registry import NANO_CHECKPOINT
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.processes import SMALL, several

PRESETS = Path(__file__).parents[2] / "experiments/presets"
UNEVEN = [
    *SMALL,
    "data=kitchen",
    "train.prompts_per_step=5",
    "train.num_generations=4",
    "train.max_tokens_per_forward=1",
    "algorithm=ppo",
    "algorithm.num_iterations=2",
    "algorithm.num_minibatches=2",
    "train.max_steps=2",
    "train.sync_ref_model=true",
    "train.ref_model_sync_steps=1",
    "train.ref_model_mixup_alpha=0.5",
    "train.save_steps=1",
    "train.save_total_limit=2",
]
IN_CHUNKS = """
from algorithms.ppo import PPO
from rlvid.policy import logprobs

logprobs.MAX_LOGITS = 753 * 30  # 30 tokens at once, of groups of up to 160

class InChunks(PPO):
    pass
"""
SAVED = ("model", "optimizer", "reference", "critic")


def launch(preset, out):
    """Run on two processes with `accelerate launch` and a preset of accelerate; returns the run's folder."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(PRESETS / f"{preset}.yaml")]
    command += ["--num_processes", "2", "--main_process_port", "0", "-m", "rlvid"]
    command += ["train", "nano", *UNEVEN, "--out", str(out)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert finished.returncode == 0, finished.stderr
    assert read_json(out / "environment.json")["processes"] == 2
    return out


def run_on_two(stage, out, *arguments):
    """Run on two processes under a ZeRO stage, without the launcher; returns the run's folder."""
    for child in several(out, *UNEVEN, *arguments, zero=stage):
        code, log = child.end()
        assert code == 0, log
    return out


def copy_killed_in_last_step(run, copy):
    """Copy a run as if it had been killed in its last step; returns the copy."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints/step-000002")
    (copy / "status.json").write_text(json.dumps(read_json(copy / "status.json") | {"state": "running"}))
    return copy


def load_tensors(run, name):
    return load_file(run / f"checkpoints/step-000002/{name}.safetensors")


def assert_runs_agree(run, expected):
    """Metrics and all saved tensors are equal up to the order of summation."""
    rows, expected_rows = (read_jsonl(folder / "metrics.jsonl") for folder in (run, expected))
    assert [row.keys() for row in rows] == [row.keys() for row in expected_rows]
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(expected_row, rel=2e-3, abs=2e-4)
    for name in SAVED:
        tensors, expected_tensors = load_tensors(run, name), load_tensors(expected, name)
        assert tensors.keys() == expected_tensors.keys()
        for key, tensor in tensors.items():
            assert torch.allclose(tensor, expected_tensors[key], rtol=1e-3, atol=5e-4), (name, key)


@pytest.fixture(scope="module")
def single(kitchen, tmp_path_factory):
    """The run in one process."""
    out = tmp_path_factory.mktemp("runs") / "single"
    api.train("nano", UNEVEN, out)
    return out


@pytest.mark.parametrize("stage", [2, 3])
def test_two_sharded_processes_train_as_one_process_does(single, stage, tmp_path):
    run = launch("zero2", tmp_path / "run") if stage == 2 else run_on_two(stage, tmp_path / "run")
    assert_runs_agree(run, single)
    base, trained = load_file(NANO_CHECKPOINT / "model.safetensors"), load_tensors(single, "model")
    largest_change = max((trained[key] - base[key].float()).abs().max() for key in base)
    assert largest_change > 5e-3, "ten times the tolerance of the comparison"

    resumed = run_on_two(stage, copy_killed_in_last_step(run, tmp_path / "resumed"), "--resume")
    assert (resumed / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    for name in SAVED:
        tensors, expected = load_tensors(resumed, name), load_tensors(run, name)
        assert all(torch.equal(tensors[key], expected[key]) for key in expected), name

    resumed_on_one = copy_killed_in_last_step(run, tmp_path / "one")
    api.train("nano", UNEVEN, resumed_on_one, resume=True)
    assert_runs_agree(resumed_on_one, single)

    api.export(run, tmp_path / "exported")
    exported, saved = (
        Qwen2VLForConditionalGeneration.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "exported", run / "checkpoints/step-000002")
    )
    assert exported.keys() == saved.keys() and all(torch.equal(exported[key], saved[key]) for key in saved)


def test_ranks_compute_their_logits_in_equally_many_chunks(single, tmp_path):
    """Otherwise one rank would wait forever for the other to gather the head's weights with it."""
    (tmp_path / "in_chunks.py").write_text(IN_CHUNKS)
    algorithm = [f"algorithm={tmp_path}/in_chunks.py", "algorithm.num_iterations=2", "algorithm.num_minibatches=2"]
    assert_runs_agree(run_on_two(3, tmp_path / "run", *algorithm), single)


@pytest.mark.soak
@pytest.mark.timeout(1000)
def test_an_offloaded_optimizer_trains_the_same(single, tmp_path):
    """DeepSpeed then uses its own AdamW, which takes minutes to build the first time."""
    assert_runs_agree(launch("zero3_offload", tmp_path / "run"), single)


def test_two_processes_resume_the_run_of_one(single, tmp_path):
    assert_runs_agree(run_on_two(3, copy_killed_in_last_step(single, tmp_path / "run"), "--resume"), single)


def test_the_lock_of_a_killed_build_is_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    stale, fresh = (tmp_path / name / "lock" for name in ("cpu_adam", "deepspeed_shm_comm"))
    for lock in (stale, fresh):
        lock.parent.mkdir()
        lock.touch()
    os.utime(stale, (time.time() - 3600,) * 2)
    distributed.remove_stale_build_locks()
    assert not stale.exists() and fresh.exists()
    assert f"the build that holds {fresh}" in capsys.readouterr().err
