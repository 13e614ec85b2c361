"""Published counts: the paper's findings follow from its own table, and impossible counts are refused."""

import pytest

from rlvid.__main__ import main
from rlvid.study.published_counts import compare_counts, read_counts
from tests.helpers.reports import ROOT

PAPER = ROOT / "experiments" / "paper_counts.toml"


def test_the_counts_are_the_published_shares():
    published = {  # in per cent, as printed
        "Qwen2-VL-7B": (34.79, 34.02, 31.57, 32.9),
        "SFT": (43.79, 44.10, 38.15, 40.0),
        "GRPO": (46.01, 50.16, 44.89, 43.4),
    }
    counts = read_counts(PAPER)
    for arm, shares in published.items():
        for (level, correct), share, digits in zip(counts.right[arm].items(), shares, (2, 2, 2, 1), strict=True):
            assert round(100 * correct / counts.of[level], digits) == share, (arm, level)


def test_grpo_beats_sft_on_l2_and_l3_only_and_both_beat_the_base():
    rows = {(row.a, row.b, row.condition): row for row in compare_counts(read_counts(PAPER))}
    assert len(rows) == 12
    with_base = [row.verdict for (_, b, _), row in rows.items() if b == "Qwen2-VL-7B"]
    assert with_base == ["better"] * 8
    with_sft = {level: rows["GRPO", "SFT", level] for level in read_counts(PAPER).of}
    assert {level: row.verdict for level, row in with_sft.items()} == {
        "L1": "undecided",
        "L2": "better",
        "L3": "better",
        "LongVideoBench": "undecided",
    }
    points = [round(100 * row.difference.value, 2) for row in with_sft.values()]
    assert points == [2.22, 6.07, 6.74, 3.37], "as published, to a question"
    needed = with_sft["L1"].needed
    assert needed.questions > 4 and needed.seeds == float("inf"), "nothing is known about seeds"


def test_the_command_prints_accuracies_and_comparisons(capsys):
    assert main(["report", str(PAPER)]) == 0
    out = capsys.readouterr().out
    assert "44.9" in out and "42.2–47.6" in out and "+6.7" in out
    assert "all 12 comparisons" in " ".join(out.split())
    assert "SEED-Bench-R1 (arXiv:2503.24376)" in out and "seeds  " not in out.split("comparison")[0]


ONE_COUNT = "[of]\nL1 = 4\n[right.a]\nL1 = 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("of = 3", "needs [of]"),
        ("[of]\nL1 = 4\n[right.a]\nL1 = 5", "right.a: L1 must be a whole number from 0 to 4, not 5"),
        ("[of]\nL1 = 4\n[right.a]\nL1 = 0.5", "must be a whole number"),
        ("[of]\nL1 = 4\n[right.a]\nL2 = 1", "right.a has no level 'L2'"),
        (f"comparisons = [['a', 'c']]\n{ONE_COUNT}", "must be two of the arms, a"),
        (f"equivalence_margin = 3\n{ONE_COUNT}", "equivalence_margin must be a share such as 0.03, not 3"),
        (f"comparisons = [1]\n{ONE_COUNT}", "comparisons: 1 must be two of the arms, a"),
        (f"comparisons = 3\n{ONE_COUNT}", "comparisons: 3 must be two of the arms, a"),
        ("[of]\nL1 = 0\n[right.a]\nL1 = 0", "of.L1 must be a whole number of questions, 1 or more, not 0"),
        ("[of]\nL1 = 4.0\n[right.a]\nL1 = 1", "of.L1 must be a whole number of questions, 1 or more, not 4.0"),
        ("rigth = 3", "unknown key 'rigth'. Did you mean 'right'?"),
        ("of = [", "cannot be read as TOML"),
    ],
)
def test_impossible_counts_are_refused_in_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "counts.toml"
    path.write_text(text)
    assert main(["report", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
