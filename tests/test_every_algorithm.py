"""Every algorithm in the folder trains the real nano model from a config, and a run cut short goes on exactly."""

import pytest

from rlvid.files import read_jsonl
from rlvid.resolve import available
from tests.test_loop import train
from tests.test_ppo import stop_after

TINY = ["train.prompts_per_step=4", "train.num_generations=4", "train.max_completion_length=32", "train.steps=2"]
TINY += ["train.save_steps=1", "eval.splits=['L1']", "eval.limit=1", "rewards.format=0.2"]


@pytest.mark.parametrize("name", available("algorithms"))
def test_it_trains_and_resumes_exactly(kitchen, tmp_path, name):
    whole = read_jsonl(train(tmp_path, *TINY, f"algorithm={name}") / "metrics.jsonl")
    assert [row["step"] for row in whole] == [1, 2]
    assert all(abs(row[key]) < float("inf") for row in whole for key in ("loss", "grad_norm"))
    stop_after(tmp_path, 1)
    train(tmp_path, *TINY, f"algorithm={name}", resume=True)
    assert read_jsonl(tmp_path / "metrics.jsonl") == whole
