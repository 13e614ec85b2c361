"""The new families on two CPU processes under DeepSpeed train as one process does."""

import pytest

from rlvid import api
from rlvid.utils.files import read_jsonl
from tests.helpers.processes import SMALL, several
from tests.helpers.tiny_models import write_tiny_model

# Three prompts on two processes; a random reward, since a random model earns no other.
RUN = [*SMALL, "train.prompts_per_step=3", "train.num_generations=4"]
RUN += ["train.max_steps=2", "train.max_completion_length=12", "rewards.random=1.0", "algorithm.beta=0.1"]


# Ranks have two and one forward passes of one group; or one forward pass each, of two groups and of one.
ONE_GROUP, ALL_GROUPS = "train.max_tokens_per_forward=1", "train.max_tokens_per_forward=8192"


@pytest.mark.parametrize(("model_type", "stage", "budget"), [("qwen2_5_vl", 2, ONE_GROUP), ("qwen3_vl", 3, ALL_GROUPS)])
def test_two_sharded_processes_train_as_one_process_does(model_type, stage, budget, kitchen, tmp_path):
    settings = [*RUN, budget, f"model={write_tiny_model(model_type, tmp_path / 'model')}"]
    api.train("nano", settings, tmp_path / "one")
    for child in several(tmp_path / "two", *settings, zero=stage):
        code, log = child.end()
        assert code == 0, log
    one, two = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == 2 and one[1]["grad_norm"] > 0 and one[1]["kl"] > 1e-4
    for row, expected in zip(two, one, strict=True):
        assert row == pytest.approx(expected, rel=2e-3, abs=2e-4)
