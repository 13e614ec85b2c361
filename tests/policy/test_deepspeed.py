"""DeepSpeed itself on two CPU processes: ZeRO-2 and ZeRO-3 learn what one process learns, and go on where another did.

The run has what can get out of step: five prompts for two processes, one group a forward, two minibatches, a critic, a
reference that moves, and an evaluation whose last batch leaves one process without a question.
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
UNEVEN = [*SMALL, "train.prompts_per_step=5", "train.num_generations=4", "train.max_tokens_per_forward=1"]
UNEVEN += ["algorithm=ppo", "algorithm.num_iterations=2", "algorithm.num_minibatches=2", "train.max_steps=3"]
UNEVEN += ["train.sync_ref_model=true", "train.ref_model_sync_steps=1", "train.ref_model_mixup_alpha=0.5"]
UNEVEN += ["train.save_steps=1", "train.save_total_limit=3"]
SAVED = ("model", "optimizer", "reference", "critic")


def launch(zero, out, *program):
    """`accelerate launch` with a preset, on two processes."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(PRESETS / f"{zero}.yaml")]
    launcher += ["--num_processes", "2", "--main_process_port", "0", *(program or ("-m", "rlvid"))]
    launcher += ["train", "nano", *UNEVEN]
    done = subprocess.run([*launcher, "--out", str(out)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert read_json(out / "environment.json")["processes"] == 2
    return out


def go_on(zero, out):
    """Resume as two processes, without the launcher."""
    for child in several(out, *UNEVEN, "--resume", zero=int(zero[-1])):
        assert child.end()[0] == 0, child.end()[1]
    return out


def killed(run, copy):
    """A run as it would be, had it been killed in its last step."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints/step-000003")
    (copy / "status.json").write_text(json.dumps(read_json(copy / "status.json") | {"state": "running"}))
    return copy


def tensors(run, name, step=3):
    return load_file(run / f"checkpoints/step-{step:06d}/{name}.safetensors")


def agree(ours, theirs):
    """Metrics and all tensors are equal, but for the order in which sums were taken."""
    rows = [read_jsonl(run / "metrics.jsonl") for run in (ours, theirs)]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for mine, other in zip(*rows, strict=True):
        assert mine == pytest.approx(other, rel=2e-3, abs=2e-4)
    for name in SAVED:
        mine, other = tensors(ours, name), tensors(theirs, name)
        assert mine.keys() == other.keys()
        for key in mine:
            assert torch.allclose(mine[key], other[key], rtol=1e-3, atol=5e-4), (name, key)


@pytest.fixture(scope="module")
def single(kitchen, tmp_path_factory):
    """The run in one process."""
    out = tmp_path_factory.mktemp("runs") / "single"
    api.train("nano", UNEVEN, out)
    return out


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_two_processes_with_shards_are_as_good_as_one(single, zero, tmp_path):
    out = launch(zero, tmp_path / zero)
    agree(out, single)
    base = load_file(NANO_CHECKPOINT / "model.safetensors")
    learnt = tensors(single, "model")
    assert max((learnt[key] - base[key].float()).abs().max() for key in base) > 5e-3  # ten times what `agree` lets pass

    again = go_on(zero, killed(out, tmp_path / "again"))  # bit for bit
    assert (again / "metrics.jsonl").read_bytes() == (out / "metrics.jsonl").read_bytes()
    for name in SAVED:
        mine, other = tensors(again, name), tensors(out, name)
        assert all(torch.equal(mine[key], other[key]) for key in other), name

    alone = killed(out, tmp_path / "alone")  # one process takes up what two began
    api.train("nano", UNEVEN, alone, resume=True)
    agree(alone, single)

    api.export(out, tmp_path / "plain")
    plain, saved = (
        Qwen2VLForConditionalGeneration.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "plain", out / "checkpoints/step-000003")
    )
    assert plain.keys() == saved.keys() and all(torch.equal(plain[key], saved[key]) for key in saved)


def test_processes_make_their_logits_in_equally_many_pieces(single, tmp_path):
    """Or one of them waits for ever for the other to fetch the head's weights with it."""
    program = tmp_path / "in_pieces.py"
    program.write_text(
        "from rlvid.policy import prefix\n"
        "prefix.LOGITS = 753 * 30  # 30 tokens at once, of groups of up to 160\n"
        "from rlvid.__main__ import main\n"
        "raise SystemExit(main())\n"
    )
    agree(launch("zero3", tmp_path / "zero3", str(program)), single)


@pytest.mark.soak
@pytest.mark.timeout(1000)
def test_offloaded_to_the_machines_memory_it_learns_the_same(single, tmp_path):
    """AdamW is DeepSpeed's own then, whose build takes minutes the first time."""
    agree(launch("zero3_offload", tmp_path / "off"), single)


def test_a_build_that_was_killed_is_not_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    old, young = (tmp_path / name / "lock" for name in ("cpu_adam", "deepspeed_shm_comm"))
    for lock in (old, young):
        lock.parent.mkdir()
        lock.touch()
    os.utime(old, (time.time() - 3600,) * 2)
    distributed.remove_stale_build_locks()
    assert not old.exists() and young.exists()
    assert capsys.readouterr().err == f"rlvid: waits for the build of {young}; if none is under way, remove it\n"


def test_two_processes_take_up_what_one_began(single, tmp_path):
    agree(go_on("zero3", killed(single, tmp_path / "both")), single)
