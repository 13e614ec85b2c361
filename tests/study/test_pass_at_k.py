"""Pass@k, majority votes and calibration: values computed by hand, and the audit of a real run's samples."""

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from rlvid.study.audit import audit
from rlvid.study.pass_at_k import (
    calibration_error,
    format_mean,
    group_measures,
    group_table,
    half_width,
    vote_share_and_correctness,
)
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.runs import TINY, train


def printed(renderable):
    """A table as text, without colors."""
    console = Console(file=StringIO(), width=140)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("answers", "share", "right"),
    [
        ("AAAB", 0.75, 1),
        ("BBBA", 0.75, 0),
        ("AABB", 0.5, 0.5),  # a tie is broken at random
        ("BCDB", 0.5, 0),
        ("ABCD", 0.25, 0.25),
        (["A", None, None, None], 0.25, 1),  # a completion without an answer does not vote
        ([None] * 4, 0, 0),
    ],
)
def test_a_majority_vote(answers, share, right):
    assert vote_share_and_correctness(answers, "A") == (share, right)


def test_confidence_that_equals_accuracy_is_calibrated():
    confidences = np.repeat([0.5, 0.75, 1.0], 4)
    assert calibration_error(confidences, np.array([1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1])) == 0
    assert calibration_error(confidences, np.zeros(12)) == pytest.approx(0.75)
    opposite_errors = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1])  # 1/4 too low at 0.5, 1/4 too high at 0.75
    assert calibration_error(confidences, opposite_errors) == pytest.approx(1 / 6), "errors do not cancel"


def test_the_measures_of_four_groups():
    groups = [{"answers": answers, "clean": "A"} for answers in ("AAAB", "ABCD", "BBBB", "AAAA")]
    values = {name: text.split()[0] for name, text in group_measures(groups)}
    assert values == {
        "pass@1": "50.0%",
        "pass@2": "62.5%",  # 1, 1/2, 0 and 1
        "pass@4": "75.0%",
        "majority vote of 4 is right": "56.2%",  # 1, 1/4, 0 and 1
        "share of the majority": "75.0%",
        "calibration error of that share": "31.2%",  # 1/4 at 0.75, 0 at 0.25, 1/2 at 1 (two groups)
    }
    assert [name for name, _ in group_measures([{"answers": "ABC", "clean": "A"}])][:3] == [
        "pass@1",
        "pass@2",
        "pass@3",
    ]


def test_of_groups_of_unequal_sizes_the_first_completions_count():
    values = dict(group_measures([{"answers": answers, "clean": "A"} for answers in ("AB", "BAAA")]))
    assert [*values] == [
        "pass@1", "pass@2", "majority vote of 2 is right", "share of the majority", "calibration error of that share",
    ]  # fmt: skip
    assert [text.split()[0] for text in values.values()] == ["50.0%", "100.0%", "50.0%", "50.0%", "0.0%"]


def test_a_mean_has_its_interval_within_0_and_100():
    """1.96 sample standard deviations, .4787, .4179 and .5, by the root of the number of groups."""
    assert format_mean(np.array([1, 0.5, 0, 1])) == "62.5%  16–100"
    assert format_mean(np.tile([1, 0.5, 0, 1], 16)) == "62.5%  52–73"
    assert format_mean(np.array([0, 0, 0, 1])) == "25.0%  0–74"


def test_the_table_has_the_first_and_the_last_steps(tmp_path):
    for step in range(1, 13):  # of twelve steps each end has half
        groups = [{"answers": "AA" if step > 2 else "BB", "clean": "A"}]
        write_jsonl(tmp_path / f"samples/step-{step:06d}.jsonl", groups)
    write_jsonl(tmp_path / "samples/step-000012-not-finite.jsonl", [{"answers": "BB", "clean": "A"}])
    headings, pass_at_1, *_ = printed(group_table(tmp_path)).splitlines()
    assert "first 6 steps, n=6" in headings and "last 6 steps, n=6" in headings
    assert [word for word in pass_at_1.split() if "%" in word] == ["66.7%", "100.0%"]


def test_an_audit_has_these_measures_only_for_groups_of_several_completions(kitchen, tmp_path):
    run = train(tmp_path / "grpo", *TINY, "train.max_steps=1", "eval.splits=['L1']", "eval.limit=2")
    groups = read_jsonl(run / "samples/step-000001.jsonl")
    right = [answer == group["clean"] for group in groups for answer in group["answers"]]
    [line] = [line for line in printed(audit(run)).splitlines() if line.startswith("pass@1")]
    assert float(line.split()[1].strip("%")) == pytest.approx(100 * np.mean(right), abs=0.06)
    for path in (run / "samples").iterdir():
        write_jsonl(path, ({**group, "answers": group["answers"][:1]} for group in groups))
    assert group_table(run) is None


def test_one_group_has_no_interval():
    """The scatter of one value is 0, which would say that nothing is uncertain."""
    [(_, shown), *_] = group_measures([{"answers": ["A", "B"], "clean": "A"}])
    assert shown == "50.0%" and half_width([0.5]) is None
