"""What groups know: votes counted by hand, and the audit of a real run's samples."""

import numpy as np
import pytest
from rich.console import Console

from rlvid.study.audit import audit
from rlvid.study.pass_at_k import calibration_error, majority, measures, votes
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.runs import TINY, train


@pytest.mark.parametrize(
    ("answers", "share", "right"),
    [
        ("AAAB", 0.75, 1),
        ("BBBA", 0.75, 0),
        ("AABB", 0.5, 0.5),  # lots are drawn
        ("BCDB", 0.5, 0),
        ("ABCD", 0.25, 0.25),
        (["A", None, None, None], 0.25, 1),  # what names no option does not vote
        ([None] * 4, 0, 0),
    ],
)
def test_a_majority(answers, share, right):
    assert majority(answers, "A") == (share, right)


def test_confidence_that_keeps_its_word_is_calibrated():
    shares = np.repeat([0.5, 0.75, 1.0], 4)
    assert calibration_error(shares, np.array([1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1])) == 0
    assert calibration_error(shares, np.zeros(12)) == pytest.approx(0.75)
    opposed = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1])  # off by a quarter, once below and once above
    assert calibration_error(shares, opposed) == pytest.approx(1 / 6), "errors do not cancel"


def test_measures_of_a_handful_of_groups():
    groups = [{"answers": answers, "clean": "A"} for answers in ("AAAB", "ABCD", "BBBB", "AAAA")]
    found = {name: said.split()[0] for name, said in measures(groups)}
    assert found == {
        "pass@1": "50.0%",
        "pass@2": "62.5%",  # 1, 1/2, 0 and 1
        "pass@4": "75.0%",
        "right by majority of 4": "56.2%",  # 1, 1/4, 0 and 1
        "the majority's share": "75.0%",
        "calibration error of that share": "31.2%",  # 1/4 at 0.75, 0 at 0.25, 1/2 at 1, which two have
    }
    assert [name for name, _ in measures([{"answers": "ABC", "clean": "A"}])][:3] == ["pass@1", "pass@2", "pass@3"]


def test_the_first_steps_stand_beside_the_last(tmp_path):
    for step in range(1, 13):
        groups = [{"answers": "AA" if step > 2 else "BB", "clean": "A"}]
        write_jsonl(tmp_path / f"samples/step-{step:06d}.jsonl", groups)
    write_jsonl(tmp_path / "samples/step-000012-not-finite.jsonl", [{"answers": "BB", "clean": "A"}])
    console = Console(width=100)
    with console.capture() as captured:
        console.print(votes(tmp_path))
    (heads, first, *_) = captured.get().splitlines()
    assert "first steps, n=10" in heads and "last steps, n=10" in heads
    assert [word for word in first.split() if "%" in word] == ["80.0%", "100.0%"]


def test_an_audit_of_a_run_holds_them_and_of_demonstrations_does_not(kitchen, tmp_path):
    run = train(tmp_path / "grpo", *TINY, "train.max_steps=1", "eval.splits=['L1']", "eval.limit=2")
    groups = read_jsonl(run / "samples/step-000001.jsonl")
    right = [answer == group["clean"] for group in groups for answer in group["answers"]]
    console = Console(width=140)
    with console.capture() as captured:
        console.print(audit(run))
    (line,) = [line for line in captured.get().splitlines() if line.startswith("pass@1")]
    assert float(line.split()[1].strip("%")) == pytest.approx(100 * np.mean(right), abs=0.06)
    for path in (run / "samples").iterdir():
        write_jsonl(path, ({**group, "answers": group["answers"][:1]} for group in groups))
    assert votes(run) is None
