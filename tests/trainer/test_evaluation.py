"""Batches of an evaluation."""

from types import SimpleNamespace

import pytest

from rlvid.config import EvalConfig, TrainConfig
from rlvid.protocols import load_protocol
from rlvid.trainer.evaluation import Evaluation, result_row, unreadable_row
from rlvid.types import Completion, Group, Prompt


@pytest.mark.parametrize("processes", [1, 8])
def test_every_process_answers_a_whole_batch_at_a_time(processes):
    folder = SimpleNamespace(world_size=processes)
    evaluation = Evaluation(EvalConfig(batch_size=4), *[None] * 3, folder, *[None] * 3)
    assert evaluation.questions_at_once == 4 * processes


@pytest.mark.parametrize(
    ("reply", "correct"),
    [("<answer>The Cat.</answer>", True), ("<answer>a black cat</answer>", False), ("cat", False)],
)
def test_a_free_form_answer_is_right_with_the_words_of_the_right_one(reply, correct):
    row = result_row(Group(Prompt("1", "What?", answer="cat"), [Completion(reply)]))
    assert row["correct"] is correct and "excluded" not in row


def test_a_question_without_a_right_answer_is_not_counted():
    prompt = Prompt("1", "What?", ("a", "b"))
    row = result_row(Group(prompt, [Completion("dunno")]))
    assert (row["correct"], row["excluded"], unreadable_row(prompt)["excluded"]) == (False, 1, 1)


def test_the_score_of_a_level_leaves_out_what_its_accuracy_does(monkeypatch):
    """GRPO-CARE leaves out unreadable clips: of one right answer and one such clip, both means are 1."""
    prompt = Prompt("1", "How many?", (), "4", meta={"kind": "regression"}, protocol=load_protocol("grpo_care"))
    rows = [unreadable_row(prompt), result_row(Group(prompt, [Completion("<answer>4</answer>")]))]
    provider = SimpleNamespace(mix=SimpleNamespace(rewards={}), policy=None)
    monkeypatch.setattr("rlvid.trainer.evaluation.replace", lambda *_, **__: provider)
    monkeypatch.setattr(Evaluation, "_sampler", lambda *_: None)
    monkeypatch.setattr(Evaluation, "_answer_level", lambda *_: rows)
    evaluation = Evaluation(EvalConfig(), TrainConfig(), provider, {"L1": [prompt] * 2}, *[None] * 4)
    metrics = evaluation.run(0)
    assert (metrics["eval/L1/accuracy"], metrics["eval/L1/score"]) == (1.0, 1.0)
