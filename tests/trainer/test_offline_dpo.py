"""Whole runs that learn from a file of preference pairs, written by hand or made from another run's samples."""

import pytest

from rlvid.config import load
from rlvid.data import preferences
from rlvid.data.seed_bench_r1 import load as prompts
from rlvid.errors import UserError
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.runs import train

OFFLINE = ["algorithm=dpo", "eval.limit=1", "train.learning_rate=1e-4"]


@pytest.fixture
def pairs(kitchen, tmp_path):
    """A file of pairs: a well-formed right answer, and one that says nothing."""
    chosen = {p.id: f"<think>It is clear.</think>\n<answer>{p.answer}</answer>" for p in prompts(kitchen, "train")[:12]}
    write_jsonl(tmp_path / "pairs.jsonl", [{"id": k, "chosen": v, "rejected": "no idea"} for k, v in chosen.items()])
    return tmp_path / "pairs.jsonl"


def test_dpo_learns_the_preferences_of_the_file(pairs, tmp_path):
    rows = read_jsonl(
        train(tmp_path / "run", *OFFLINE, f"algorithm.preferences={pairs}", "train.max_steps=3") / "metrics.jsonl"
    )
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-5) and rows[0]["rewards/accuracy/mean"] == 0.5
    assert rows[2]["rewards/margins"] > rows[1]["rewards/margins"] > 0 and rows[2]["rewards/accuracies"] > 0.5
    assert rows[2]["logps/chosen"] - rows[2]["logps/rejected"] > rows[0]["logps/chosen"] - rows[0]["logps/rejected"]
    (group, *_) = read_jsonl(tmp_path / "run/samples/step-000001.jsonl")
    assert group["completions"][1] == "no idea" and group["columns"]["accuracy"] == [1.0, 0.0]


def test_pairs_from_one_runs_samples_train_another_run(kitchen, tmp_path):
    sampled = train(tmp_path / "grpo", "algorithm=grpo", "train.max_steps=2", "eval.limit=1")
    count = preferences.write_pairs_of_run(sampled, tmp_path / "pairs.jsonl")
    informative = {
        group["id"]
        for file in (sampled / "samples").iterdir()
        for group in read_jsonl(file)
        if len(set(group["totals"])) > 1 and all(group["finished"])
    }
    assert len(informative) >= 1 and informative <= {row["id"] for row in read_jsonl(tmp_path / "pairs.jsonl")}
    settings = (*OFFLINE, f"algorithm.preferences={tmp_path}/pairs.jsonl", "train.max_steps=1")
    (row,) = read_jsonl(train(tmp_path / "dpo", *settings) / "metrics.jsonl")
    assert row["reward_std"] > 0 and row["grad_norm"] > 0 and count >= len(informative)


def test_other_file_contents_give_another_run_id(pairs):
    settings = [*OFFLINE, f"algorithm.preferences={pairs}"]
    before = load("nano", settings).id
    write_jsonl(pairs, read_jsonl(pairs)[:6])
    assert load("nano", settings).id != before


def test_pairs_of_other_data_are_refused(kitchen, tmp_path):
    write_jsonl(tmp_path / "pairs.jsonl", [{"id": "elsewhere", "chosen": "yes", "rejected": "no"}])
    with pytest.raises(UserError, match="1 of 1 ids belong to no training sample: elsewhere"):
        train(tmp_path / "run", *OFFLINE, f"algorithm.preferences={tmp_path}/pairs.jsonl", "train.max_steps=1")
