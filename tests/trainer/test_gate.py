"""The confidence gate of replies with two answers: by hand, on the real tokenizer, and in an evaluation."""

from math import log

import pytest

from rlvid.config import EvalConfig
from rlvid.errors import UserError
from rlvid.study.two_answers import two_answers_table
from rlvid.trainer.evaluation import Evaluation, result_row
from rlvid.trainer.gate import apply_gate, first_confidence, gate_metrics
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl
from tests.helpers.runs import TINY, train

PROMPT = Prompt("q", "Which?", ("open tap", "close tap"), "B", level="L1")


def completion(tokenizer, text, sure, other=0.5):
    """A reply whose tokens have the probability `other`, the one with the first answer's letter `sure`."""
    tokens = tokenizer(text)["input_ids"]
    pieces = [tokenizer.decode([token]) for token in tokens]
    assert "".join(pieces) == text
    at, logps = 0, []
    letter = text.index(">") + 1
    for piece in pieces:
        logps.append(log(sure if at <= letter < at + len(piece) else other))
        at += len(piece)
    return Completion(text, tuple(tokens), tuple(logps), True)


def test_confidence_is_that_of_the_tokens_of_the_answer():
    """Tokens 0.9 and 0.4 hold "B" and "1": exp((log .9 + log .4) / 2) = .6. White space and tags do not count."""
    pieces = ["<answer>", " ", "B", "1", "</answer>", "<think>t</think>", "<answer>A</answer>"]
    logps = [log(p) for p in (0.1, 0.1, 0.9, 0.4, 0.1, 0.1, 0.1)]
    confidence, end = first_confidence(Completion("".join(pieces), tuple(range(7)), tuple(logps)), pieces)
    assert confidence == pytest.approx(0.6) and end == 5
    joined = ["<answer>B", "1</answer><think>t", "</think><answer>A</answer>"]  # tokens that hold more than the answer
    reply = Completion("".join(joined), (1, 2, 3), tuple(map(log, (0.9, 0.4, 0.1))))
    assert first_confidence(reply, joined) == (pytest.approx(0.6), 2)


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{Let's analyze the problem step by step.}<think>t</think>\boxed{B}",
        "<answer>B</answer><think>t</think>",  # no second answer
        "<think>\\boxed{A}</think><answer>B</answer>",  # the first answer is within the thought
        "<answer> </answer><think>t</think><answer>B</answer>",
        "<answer>B</answer> and <answer>B</answer>",
        "",
    ],
)
def test_where_the_gate_does_not_apply(text):
    reply = Completion(text, tuple(range(len(text))), (0.0,) * len(text))
    assert first_confidence(reply, [*text]) == (None, 0)


def test_a_sure_first_answer_ends_the_reply_and_the_tokens_are_counted(policy):
    tokenizer = policy.tokenizer
    texts = ["<answer>B</answer><think>The tap runs.</think><answer>A</answer>"] * 2
    texts.append("<think>The tap runs.</think><answer>B</answer>")
    replies = [completion(tokenizer, text, sure) for text, sure in zip(texts, (0.97, 0.96, 0.99), strict=True)]
    rows = []
    for reply in replies:
        group = apply_gate(Group(PROMPT, [reply]), 0.97 - 1e-12, tokenizer)
        rows.append(result_row(group))
    assert [row["answer"] for row in rows] == ["B", "A" if rows[1]["answer"] == "A" else None, "B"]
    assert rows[0]["completion"] == "<answer>B</answer>" and rows[0]["finished"]
    assert rows[1]["completion"] == texts[1] and rows[2]["completion"] == texts[2]
    record = rows[0]["evidence"]["confidence_gate"][0]
    assert record["confidence"] == pytest.approx(0.97) and record["text"] == texts[0] and record["first"] == "B"
    kept, full = rows[0]["length"], len(replies[0].tokens)
    assert kept < full == record["length"]
    metrics = gate_metrics(rows)
    total = sum(len(reply.tokens) for reply in replies)
    assert metrics["skipped"] == pytest.approx(1 / 3)
    assert metrics["tokens_saved"] == pytest.approx((full - kept) / total)
    assert metrics["first_accuracy"] == pytest.approx(2 / 3), "the last one has no first answer"
    table = two_answers_table({"L1": rows})
    assert table is not None and [*table.columns[0].cells][-2:] == ["ended at the first answer", "tokens saved"]
    assert two_answers_table({"L1": [result_row(Group(PROMPT, [replies[0]]))]}) is None


def test_a_run_is_worded_and_evaluated_with_two_answers(kitchen, tmp_path):
    settings = [*TINY, "rewards={video_auto=1.0}", "train.protocol=video_auto_tags", "eval.protocol=video_auto_tags"]
    run = train(tmp_path / "a", *settings, "eval.confidence_gate=0.97", "train.prompts_per_step=1", "eval.limit=1")
    sample = read_jsonl(next((run / "samples").glob("*.jsonl")))[0]
    assert "Output format: <answer>...</answer><think>" in sample["question"]
    assert sample["evidence"]["video_auto"][0].keys() == {"first", "second", "fallback"}
    row = read_jsonl(run / "eval/L1.jsonl")[0]
    assert row["evidence"]["confidence_gate"][0]["skipped"] is False, "nano does not answer first"
    evaluation = Evaluation(EvalConfig(completions="x", confidence_gate=0.97), *[None] * 7)
    with pytest.raises(UserError, match="saved replies have none"):
        evaluation._sampler(None, None, "")


# What compute_first_boxed_answer_probs of IVUL-KAUST/VideoAuto-R1 f7d91a3 returned on 2026-11-29 for these replies as
# nano's tokens, token i of the probability 0.5 + 0.5 (7 i mod 10) / 11; and ours where it differs.
PUBLISHED = [
    (r"\boxed{B}<think>The tap runs.</think>\boxed{A}", 0.9090887, 0.9090909),
    (r"\boxed{open tap}<think>t</think>\boxed{A}", 0.7068126, 0.7068130),
    (r"\boxed{Let's analyze the problem step by step.}<think>t</think>\boxed{B}", -1, None),
    (r"\boxed{B}<think>t</think>", -1, None),
    (r"\boxed{(B)}<think>t</think>\boxed{A}", 0.7727268, 0.7646211),  # theirs is of the letter, ours of "(B)"
    (r"\boxed{b}<think>t</think>\boxed{b}", 0.8181815, 0.9090909),  # theirs is of the b in "boxed"
    (r"<think>\boxed{B}</think>\boxed{B}", 0.7727268, None),  # theirs is of a box within the thought
]


@pytest.mark.parametrize(("text", "theirs", "ours"), PUBLISHED)
def test_confidence_equals_the_released_code_but_for_three_differences(policy, text, theirs, ours):
    tokens = policy.tokenizer(text)["input_ids"]
    logps = tuple(log(0.5 + 0.5 * (7 * i % 10) / 11) for i in range(len(tokens)))
    pieces = [policy.tokenizer.decode([token]) for token in tokens]
    confidence, _ = first_confidence(Completion(text, tuple(tokens), logps), pieces)
    assert confidence == (None if ours is None else pytest.approx(ours, abs=1e-6))
    same = (confidence is None and theirs == -1) or (confidence is not None and abs(confidence - theirs) < 1e-5)
    assert same is (not text.startswith(("\\boxed{(", "\\boxed{b", "<think>")))
