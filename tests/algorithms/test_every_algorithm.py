"""Every algorithm in the folder trains the nano model from a config, and an interrupted run resumes exactly."""

import json

import pytest

from rlvid.registry import available
from rlvid.utils.files import read_json, read_jsonl, write_checksums
from tests.helpers.runs import stop_after, train
from tests.helpers.steps import NOISE_CHANNELS

TINY = ["train.prompts_per_step=2", "train.num_generations=4", "train.max_completion_length=32", "train.max_steps=2"]
TINY += ["train.save_steps=1", "eval.splits=[]", "rewards.format=0.2"]
SAME_PROMPTS = [
    *TINY,
    "train.prompts_per_step=4",
    "train.data_fraction=0.034",
    "train.num_generations=16",
    "train.max_steps=3",
]
ESTIMATE = ["algorithm.estimate=true", "noise.kind=verifier", "noise.fresh=true"]
ESTIMATE += ["noise.false_positives=0.3", "noise.false_negatives=0.2", "data=kitchen"]
ESTIMATE += ["train.data_fraction=0.0008"]  # one prompt, whose completions differ in their verdicts
WITH_MEMORY = dict.fromkeys(NOISE_CHANNELS, ESTIMATE) | {
    "olr": ["algorithm.warmup_steps=0", "algorithm.share=0.2", "noise.kind=symmetric", "noise.rate=0.9"],
    "soft_label": [],
    "ema_grpo": [],
}
NEEDS = {
    "cora": ["rewards.consistency_rule=0.5"],  # two kinds of rewards
    "pa_grpo": ["rewards.grounding_narrations=1.0"],
    "gspo": ["train.prompts_per_step=4"],  # a prompt for each of its minibatches
}
WITH_MEMORY["forward"] = [*ESTIMATE, "train.learning_rate=1e-5"]  # replies that stay well-formed, to be counted
WITH_MEMORY["olr"] += ["train.learning_rate=1e-5", "train.data_fraction=0.1", "train.prompts_per_step=12"]


def weights_of(checkpoint):
    """The bytes of all weights and moments of a checkpoint, by file."""
    return {path.name: path.read_bytes() for path in checkpoint.glob("*.safetensors")}


@pytest.mark.parametrize("name", available("algorithms"))
def test_it_trains_and_resumes_exactly(kitchen, tmp_path, name):
    noise = ["noise.kind=symmetric", "noise.rate=0.3"] if name in NOISE_CHANNELS else []  # else nothing to correct
    settings = [*TINY, f"algorithm={name}", *noise, *NEEDS.get(name, [])]
    uninterrupted = read_jsonl(train(tmp_path, *settings) / "metrics.jsonl")
    assert [row["step"] for row in uninterrupted] == [1, 2]
    assert all(abs(row[key]) < float("inf") for row in uninterrupted for key in ("loss", "grad_norm"))
    weights = weights_of(tmp_path / "checkpoints/step-000002")
    assert {"model.safetensors", "optimizer.safetensors"} <= {*weights}
    stop_after(tmp_path, 1)
    train(tmp_path, *settings, resume=True)
    assert read_jsonl(tmp_path / "metrics.jsonl") == uninterrupted
    assert weights_of(tmp_path / "checkpoints/step-000002") == weights


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_its_memory_is_resumed_exactly(kitchen, tmp_path, name):
    """Every step has the same prompts: the credit of step 3 depends on the memory of steps 1 and 2."""
    settings, checkpoints = [*SAME_PROMPTS, f"algorithm={name}", *WITH_MEMORY[name]], tmp_path / "checkpoints"
    uninterrupted = read_jsonl(train(tmp_path, *settings) / "metrics.jsonl")
    memory = read_json(checkpoints / "step-000003/state.json")["memory"]
    weights = weights_of(checkpoints / "step-000003")
    assert memory

    stop_after(tmp_path, 2)
    train(tmp_path, *settings, resume=True)
    assert read_jsonl(tmp_path / "metrics.jsonl") == uninterrupted
    assert read_json(checkpoints / "step-000003/state.json")["memory"] == memory
    assert weights_of(checkpoints / "step-000003") == weights

    stop_after(tmp_path, 2)
    state = read_json(checkpoints / "step-000002/state.json")
    (checkpoints / "step-000002/state.json").write_text(json.dumps(state | {"memory": {}}))
    write_checksums(checkpoints / "step-000002")
    train(tmp_path, *settings, resume=True)
    assert read_jsonl(tmp_path / "metrics.jsonl")[2] != uninterrupted[2], "without its memory the run differs"
