"""Whole runs of the families beside the embedded Qwen2-VL: train, resume, evaluate, export, plan."""

import math

import pytest

from rlvid import api
from rlvid.__main__ import main
from rlvid.utils.files import read_jsonl
from tests.helpers.runs import stop_after, train
from tests.helpers.tiny_models import write_tiny_model

pytestmark = pytest.mark.usefixtures("quick_runs")

EVIDENCE = [
    "rewards.grounding_temporal=0.2",  # a shuffled view
    "rewards.consistency_likelihood=0.2",  # the reference, without reasoning and without pixels
    "rewards.consistency_reanswer=0.1",
    "rewards.grounding_attention=0",
    "rewards.random=0.5",  # a random model earns no other reward
    "noise.kind=frames",
    "noise.rate=0.5",
]
RUN = ["train.max_steps=2", "train.save_steps=1", "train.num_generations=4", "train.max_completion_length=16"]
RUN += ["eval.splits=['L1']", "eval.limit=3", "algorithm.beta=0.1", *EVIDENCE]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def run(request, kitchen, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = write_tiny_model(request.param, folder / "model")
    return train(folder / "run", f"model={model}", *RUN)


def test_a_run_with_evidence_and_noise_learns_from_its_own_samples(run):
    rows = read_jsonl(run / "metrics.jsonl")
    assert len(rows) == 2 and all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    assert all(row["sampling/sampling_logp_difference/max"] < 1e-4 for row in rows)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[1]["kl"] > 0
    assert all(0 < row["rewards/grounding_attention/mean"] < 1 for row in rows)
    assert all(row["data/decode_failures"] == 0 for row in rows)


def test_a_resumed_run_has_the_same_metrics(run):
    metrics, answers = (run / "metrics.jsonl").read_bytes(), read_jsonl(run / "eval/L1.jsonl")
    stop_after(run, 1)
    train(run, f"model={run.parent / 'model'}", *RUN, resume=True)
    assert (run / "metrics.jsonl").read_bytes() == metrics and read_jsonl(run / "eval/L1.jsonl") == answers


def test_an_exported_model_gives_the_same_answers(run, tmp_path):
    api.export(run, tmp_path / "model")
    api.evaluate(tmp_path / "model", out=tmp_path / "again")
    first, again = read_jsonl(run / "eval/L1.jsonl"), read_jsonl(tmp_path / "again/eval/L1.jsonl")
    assert [row["completion"] for row in first] == [row["completion"] for row in again]


@pytest.mark.parametrize("preset", ["qwen2_5_vl_7b", "qwen3_vl_8b_sft"])
def test_a_published_model_is_planned_offline(preset, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["train", preset, "--plan"]) == 0
    assert "peak" in capsys.readouterr().out
