"""Two processes give what one gives: variants of a clip, views with ZeRO-2, the gate of replies with two answers."""

import pytest

from rlvid.utils.files import read_jsonl
from tests.helpers.processes import Child, finish, several

TINY = ["train.prompts_per_step=3", "train.num_generations=4", "train.max_completion_length=24", "train.max_steps=2"]
TINY += ["train.learning_rate=1e-4", "eval.limit=1"]
NOISY_SEEN = """
from dataclasses import replace

from algorithms.noisy_rollout import NoisyRollout

class NoisySeen(NoisyRollout):
    needs = frozenset({"old_logps", "view_logps:blank"})

    def credit(self, step):
        batch = super().credit(step)
        return replace(batch, advantages=batch.advantages * (1 + self.change(batch)))

    def change(self, batch):
        return (batch.old_logps - batch.view_logps["blank"]).abs() * batch.mask

    def extra_metrics(self, batch):
        return super().extra_metrics(batch) | {"seen": self.change(batch).mean().item()}
"""
# nano never answers before its thought. Each reply gets a first answer in front, whose probability the prompt decides.
ANSWERS_FIRST = """
from dataclasses import replace
from math import log

from algorithms.grpo import GRPO
from rlvid.trainer import evaluation
from rlvid.types import Group
from rlvid.utils.hashing import uniform_hash

apply_gate = evaluation.apply_gate

def with_first_answer(group, threshold, tokenizer):
    text = "<answer>B</answer>"
    tokens = tuple(tokenizer(text)["input_ids"])
    logps = (log(0.5 + 0.5 * uniform_hash(group.prompt.id)),) * len(tokens)
    replies = [replace(c, text=text + c.text, tokens=tokens + c.tokens, logps=logps + c.logps) for c in group]
    return apply_gate(Group(group.prompt, replies, evidence=group.evidence), threshold, tokenizer)

evaluation.apply_gate = with_first_answer

class AnswersFirst(GRPO):
    pass
"""


def assert_same_metrics(run, other):
    """All metrics but for the order of summation; returns those of the run."""
    rows, expected = (read_jsonl(out / "metrics.jsonl") for out in (run, other))
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, expected_row in zip(rows, expected, strict=True):
        assert row == pytest.approx(expected_row, rel=2e-3, abs=2e-4)
    return rows


def test_strive_on_two_processes_is_strive_on_one(kitchen, tmp_path):
    """Three prompts on two processes; each of the four completions of a prompt reads a variant of its own."""
    one, two, settings = tmp_path / "one", tmp_path / "two", [*TINY, "algorithm=strive"]
    finish(Child(one, *settings), *several(two, *settings))
    rows = assert_same_metrics(two, one)
    assert len(rows) == 2 and all(row["views/completions"] == 9 and row["grad_norm"] > 0 for row in rows)
    samples = [{row["id"]: row for row in read_jsonl(out / "samples/step-000001.jsonl")} for out in (one, two)]
    assert samples[0].keys() == samples[1].keys()
    for sample, row in samples[0].items():
        assert row["views"] == samples[1][sample]["views"] == ["", "crop:0.9", "crop:0.8", "crop:0.7"]
        assert row["completions"] == samples[1][sample]["completions"]


def test_views_with_zero_2_give_the_metrics_of_plain_processes(kitchen, tmp_path):
    """An algorithm that learns from completions under noise, and weighs their tokens by log-probs under a view."""
    (tmp_path / "noisy_seen.py").write_text(NOISY_SEEN)
    plain, sharded, settings = tmp_path / "plain", tmp_path / "sharded", [*TINY, f"algorithm={tmp_path}/noisy_seen.py"]
    finish(*several(plain, *settings))
    finish(*several(sharded, *settings, zero=2))
    rows = assert_same_metrics(sharded, plain)
    assert len(rows) == 2 and all(row["grad_norm"] > 0 and row["views/completions"] == 6 for row in rows)
    assert rows[0]["sampling/view_logp_difference/mean"] > 1e-3 and rows[0]["seen"] > 1e-3


def test_the_gate_of_two_answers_on_two_processes_is_that_on_one(kitchen, tmp_path):
    """Five questions in batches of two: the last one leaves a process without a question."""
    (tmp_path / "answers_first.py").write_text(ANSWERS_FIRST)
    one, two = tmp_path / "one", tmp_path / "two"
    settings = ["train.max_steps=0", "train.max_completion_length=24", "eval.limit=5", "eval.confidence_gate=0.85"]
    settings += [f"algorithm={tmp_path}/answers_first.py"]
    finish(Child(one, *settings), *several(two, *settings))
    [row] = assert_same_metrics(two, one)
    assert 0 < row["eval/L1/gate/skipped"] < 1 and 0 < row["eval/L1/gate/tokens_saved"] < 1
    assert read_jsonl(two / "eval/L1.jsonl") == read_jsonl(one / "eval/L1.jsonl")
