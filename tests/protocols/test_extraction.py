"""Published ways to read an answer: by hand, and as lmms-eval's own code scored the same replies."""

from dataclasses import replace

import pytest

from rlvid.answer import mean_relative_accuracy, parse_number
from rlvid.bench import lmms_eval
from rlvid.protocols import DEFAULT, EXTRACTIONS, extract
from rlvid.protocols.extraction import number_of

OPTIONS = ("open tap", "wash pan", "cut onion", "dry hands")

# What lmms-eval 0.7.3 scored the replies of `lmms_eval.LETTER_REPLIES` on 2026-11-29, in their order: 1, 0, ? for a
# random letter, j where it would ask a judge. `python -m rlvid.bench.lmms_eval` runs it again.
SCORES = {
    "videomme": "111011101110100000000101110111000",
    "mvbench": "111111101111000000000101110111000",
    "tempcompass": "11jjj11jjjjjjj0j0jjjjjjjjjj1jjjjj",
    "vsibench": "110100100000000000000000000100000",
    "videommmu": "111011101110100000000101110111000",
    "video_holmes": "111???1?111011000???1??11??111??0",
    "longvideobench": "111?111?0111000000???101110111??0",
    "egoplan": "111011100111000000000101110111000",
    "egoplan2": "111011100111000000000101110111000",
}
NUMBER_SCORES = [1.0, 1.0, 0.9, 0.6, 0.6, 0.1, 0.6, 0.0, 1.0, 0.9, 0.6, 0.0, 0.0, 0.0, 1.0, 0.6, 0.9, 1.0]


def scores_of(task, replies, record):
    """Our scores of replies to a task's record under lmms_eval/TASK."""
    protocol, _ = lmms_eval._protocols(task)
    prompt = lmms_eval._prompt(task, record)
    return [lmms_eval._score(prompt, reply, protocol) for reply in replies]


@pytest.mark.parametrize("task", sorted(SCORES))
def test_a_task_of_lmms_eval_scores_replies_as_lmms_eval_does(task):
    record = next(record for name, record, _ in lmms_eval._questions() if name == task)
    ours = scores_of(task, lmms_eval.LETTER_REPLIES, record)
    pairs = list(zip(SCORES[task], ours, lmms_eval.LETTER_REPLIES, strict=True))
    assert not [reply for theirs, score, reply in pairs if theirs in "01" and float(theirs) != score]
    assert sum(theirs in "01" for theirs, _, _ in pairs) >= 7


def test_numbers_are_read_and_scored_as_lmms_eval_does():
    *_, (_, record, replies) = [row for row in lmms_eval._questions() if row[0] == "vsibench"]
    assert scores_of("vsibench", replies, record) == pytest.approx(NUMBER_SCORES)


def test_lmms_eval_also_counts_replies_to_mmvu_that_hold_the_right_text_anywhere():
    record = next(record for name, record, _ in lmms_eval._questions() if name == "mmvu")
    theirs = "111111111111110000001101110111101"
    ours = scores_of("mmvu", lmms_eval.LETTER_REPLIES, record)
    more = [r for t, s, r in zip(theirs, ours, lmms_eval.LETTER_REPLIES, strict=True) if float(t) > s]
    assert len(more) == 6 and "wash pan" in more and "A or B" in more
    assert all(float(t) >= s for t, s in zip(theirs, ours, strict=True))


def test_the_table_names_the_replies_that_differ():
    cases = [lmms_eval.Case("videomme", "B", 1.0, "", 1.0, 0.0), lmms_eval.Case("videomme", "A?", 1.0, "", 0.0, 1.0)]
    cases.append(lmms_eval.Case("videomme", "", 0.0, "random", 1.0, 0.0))
    table = lmms_eval.table(cases)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["videomme", "3", "1", "0", "1 of 2", "1 of 2", "0 of 0", "'A?'"]


@pytest.mark.parametrize(
    ("reply", "strict", "lenient", "seed_bench_r1", "video_r1"),
    [
        ("<answer>B</answer>", "B", "B", "B", "B"),
        ("<answer>B.</answer>", "B", "B", "B", None),
        ("<answer> B. wash pan </answer>", "B", "B", "B", None),
        ("<answer>Add oil</answer>", None, None, "A", None),
        ("<answer>(B)</answer>", "B", "B", None, None),
        ("B", None, "B", None, "B"),
        ("<answer></answer>B", None, "B", None, None),
        ("<answer>A</answer><answer>B</answer>", None, "B", "A", "A"),
        ("<answer>E</answer>", None, None, None, None),
    ],
)
def test_a_reply_read_in_each_way(reply, strict, lenient, seed_bench_r1, video_r1):
    names = ("strict", "lenient", "seed_bench_r1", "video_r1")
    assert [extract(name, reply, OPTIONS) for name in names] == [strict, lenient, seed_bench_r1, video_r1]


def test_a_random_letter_is_the_same_each_time_and_not_always_one():
    replies = [f"no letter {i}" for i in range(200)]
    letters = [extract("lmms_eval_random", reply, OPTIONS) for reply in replies]
    assert letters == [extract("lmms_eval_random", reply, OPTIONS) for reply in replies]
    assert {*letters} == {*"ABCD"} and all(30 < letters.count(letter) < 75 for letter in "ABCD")
    assert all(extract(name, "B", ()) is None for name in EXTRACTIONS), "a question without options has no letter"


# By hand from the formula; where the border falls on a threshold, as the published code rounds it.
MRA = [
    (10, 1.0, 1.0),  # the right number
    (7.5, 0.5, 0.6),  # an error of exactly 0.25, which is exact in binary too
    (12.5, 0.5, 0.6),
    (5, 0.0, 0.1),  # an error of exactly 0.5
    (9, 0.9, 0.9),  # 0.8 and 0.9 in real numbers: 1 - 0.9 is above 0.1 in single and in double precision
    (8, 0.6, 0.6),  # 0.6 and 0.7 in real numbers: 1 - 0.8 is below 0.2
    (9.6, 1.0, 1.0),
    (20.1, 0.0, 0.0),
    (-10, 0.0, 0.0),
]


@pytest.mark.parametrize(("number", "below", "at_most"), MRA)
def test_the_mean_relative_accuracy_with_both_inequalities(number, below, at_most):
    assert mean_relative_accuracy(number, 10, "<") == below
    assert mean_relative_accuracy(number, 10, "<=") == at_most


def test_the_mean_relative_accuracy_equals_the_published_code():
    """Video-R1's is of float32 tensors, lmms-eval's of numpy's float64."""
    import numpy as np
    import torch

    thresholds = torch.arange(0.5, 0.95 + 0.05 / 2, 0.05, dtype=torch.float32)
    grid = np.linspace(0.5, 0.95, int((0.95 - 0.5) / 0.05 + 2))
    for gold in (1.0, 2.7, 3.0, 12.5, 33.3):
        for percent in range(0, 210, 5):
            number = round(gold * percent / 100, 6)
            pred, target = torch.tensor(number, dtype=torch.float32), torch.tensor(gold, dtype=torch.float32)
            error = torch.abs(pred - target) / (torch.abs(target) + 1e-8)
            below = (error < (1 - thresholds)).float().mean().item()
            at_most = (abs(number - gold) / gold <= 1 - grid).mean()
            assert mean_relative_accuracy(number, gold, "<") == pytest.approx(below, abs=1e-6)
            assert mean_relative_accuracy(number, gold, "<=") == pytest.approx(at_most, abs=1e-12)


@pytest.mark.parametrize(
    ("reply", "strict", "video_r1", "lmms"),
    [
        ("<answer>7.5</answer>", 7.5, 7.5, 7.5),
        ("<think>3 or 4</think><answer>1,200</answer>", 1200, 1200, 1),  # lmms-eval stops at the comma
        ("7.5", None, 7.5, 7.5),
        ("about seven", None, None, 7),
        ("<answer>7.5 m</answer>", None, None, 7.5),
        ("<answer>inf</answer>", None, None, None),
    ],
)
def test_a_number_read_in_each_way(reply, strict, video_r1, lmms):
    names = ("strict", "video_r1", "lmms_eval")
    assert [parse_number(number_of(name, reply) or "") for name in names] == [strict, video_r1, lmms]


def test_several_letters_are_no_letter_and_the_lenient_way_reads_all_options():
    assert extract("video_r1", "<answer>ABC</answer>", ["w", "x", "y", "z"]) is None
    assert extract("lenient", "<answer>J</answer>", [f"option {i}" for i in range(10)]) == "J"


def test_lmms_eval_reads_a_number_without_its_form():
    protocol = replace(DEFAULT, number="lmms_eval")
    assert [protocol.score(reply, "42", "numerical") for reply in ("42", "42.0", "41")] == [1.0, 1.0, 0.0]
