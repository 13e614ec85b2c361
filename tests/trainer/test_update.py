"""The optimizer step and the settings of [train] that belong to it: clipping, a moving reference, top_p."""

import pytest

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.policy.optimizer import check_config
from rlvid.registry import build
from rlvid.utils.files import read_jsonl
from tests.helpers.runs import TINY, train

ONE_STEP = [*TINY, "train.learning_rate=1e-3", "train.lr_scheduler_type=constant", "eval.splits=[]"]
AVERAGE = ["train.sync_ref_model=true", "algorithm.beta=0.0"]


def weights_and_norm(out, *changes):
    """Train one step; return the bytes of the weights after it, and the logged norm of its gradient."""
    folder = train(out, *ONE_STEP, *changes)
    [row] = read_jsonl(folder / "metrics.jsonl")
    return (folder / "checkpoints/step-000001/model.safetensors").read_bytes(), row["grad_norm"]


def test_a_max_grad_norm_of_0_does_not_clip(kitchen, tmp_path):
    off, norm = weights_and_norm(tmp_path / "off", "train.max_grad_norm=0")
    never_reached, same_norm = weights_and_norm(tmp_path / "large", "train.max_grad_norm=1e9")
    assert off == never_reached and norm == same_norm > 0
    always_clipped, _ = weights_and_norm(tmp_path / "small", "train.max_grad_norm=1e-9")
    assert off != always_clipped, "or this would show nothing"


def test_a_moving_reference_that_nothing_reads_is_refused(kitchen, tmp_path):
    with pytest.raises(UserError, match="averages a reference model that nothing reads here") as error:
        api.train("nano", [*ONE_STEP, *AVERAGE], tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("reader", ["algorithm=dpo algorithm.beta=0.1", "eval.rewards.consistency_likelihood=1"])
def test_a_moving_reference_that_something_reads_is_kept(kitchen, tmp_path, reader):
    folder = train(tmp_path / "run", *ONE_STEP, *AVERAGE, *reader.split())
    assert (folder / "checkpoints/step-000001/reference.safetensors").exists()


def test_the_cold_start_of_a_run_with_a_moving_reference_has_none(kitchen, tmp_path):
    cold = ["cold_start.max_steps=1", "cold_start.prompts_per_step=4", "algorithm.beta=0.1"]
    folder = train(tmp_path / "run", *ONE_STEP, "train.sync_ref_model=true", *cold)
    assert not load(folder / "cold_start/config.toml").train.sync_ref_model
    assert load(folder / "config.toml").train.sync_ref_model


@pytest.mark.parametrize(
    ("name", "fields", "settings", "message"),
    [
        ("grpo", {}, ["train.use_vllm=true"], "with train.use_vllm: vLLM's log-probabilities are those of the tokens"),
        ("kto", {}, [], "algorithm 'kto' estimates the KL from completions of the whole policy: set train.top_p=1"),
        ("strive", {"importance_sampling_mode": "token_truncate", "loss_pixels": "clean"}, [], "divides by sampling"),
    ],
)
def test_top_p_is_refused_where_sampling_probabilities_are_read(name, fields, settings, message):
    algorithm, train = build("algorithms", name, **fields), load("nano", ["train.top_p=0.9", *settings]).train
    with pytest.raises(UserError, match=message) as error:
        check_config(train, algorithm, name, 1)
    assert "\n" not in str(error.value)
    check_config(load("nano", ["train.top_p=1"]).train, algorithm, name, 1)
    check_config(load("nano", ["train.top_p=0.9"]).train, build("algorithms", "strive"), "strive", 1)
