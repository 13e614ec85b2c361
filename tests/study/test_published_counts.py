"""Published counts: the paper's findings come out of its own table, and counts that cannot be are refused."""

from pathlib import Path

import pytest

from rlvid.__main__ import main
from rlvid.study.published_counts import compare, read

PAPER = Path(__file__).parents[2] / "experiments" / "paper_counts.toml"


def test_the_counts_are_the_published_shares():
    published = {  # %, as printed
        "Qwen2-VL-7B": (34.79, 34.02, 31.57, 32.9),
        "SFT": (43.79, 44.10, 38.15, 40.0),
        "GRPO": (46.01, 50.16, 44.89, 43.4),
    }
    counts = read(PAPER)
    for arm, shares in published.items():
        for (level, right), share, digits in zip(counts.right[arm].items(), shares, (2, 2, 2, 1), strict=True):
            assert round(100 * right / counts.of[level], digits) == share, (arm, level)


def test_the_papers_findings_come_out():
    """GRPO over SFT is clear on L2 and L3, and neither on L1 nor on LongVideoBench; both are clear over the base."""
    found = {(c.a, c.b, c.place): c for c in compare(read(PAPER))}
    assert len(found) == 12
    verdicts = {key: c.verdict for key, c in found.items() if key[1] == "Qwen2-VL-7B"}
    assert set(verdicts.values()) == {"better"} and len(verdicts) == 8
    ours = {place: found["GRPO", "SFT", place] for place in read(PAPER).of}
    assert {place: c.verdict for place, c in ours.items()} == {
        "L1": "not distinguishable",
        "L2": "better",
        "L3": "better",
        "LongVideoBench": "not distinguishable",
    }
    points = [round(100 * c.difference.value, 2) for c in ours.values()]
    assert points == [2.22, 6.07, 6.74, 3.37], "as published, to a question"
    assert ours["L1"].needed.questions > 4 and ours["L1"].needed.seeds != ours["L1"].needed.seeds


def test_the_verb_prints_it(capsys):
    assert main(["report", str(PAPER)]) == 0
    out = capsys.readouterr().out
    assert "44.9" in out and "42.2–47.6" in out and "+6.7" in out and "all 12 comparisons" in " ".join(out.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("of = 3", "needs [of]"),
        ("[of]\nL1 = 4\n[right.a]\nL1 = 5", "right.a: L1 must be whole, of 4: not 5"),
        ("[of]\nL1 = 4\n[right.a]\nL1 = 0.5", "must be whole"),
        ("[of]\nL1 = 4\n[right.a]\nL2 = 1", "right.a has no level 'L2'"),
        ("comparisons = [['a', 'c']]\n[of]\nL1 = 4\n[right.a]\nL1 = 1", "must be two of the arms, a"),
        (
            "equivalence_margin = 3\n[of]\nL1 = 4\n[right.a]\nL1 = 1",
            "equivalence_margin must be a share such as 0.03, not 3",
        ),
        ("rigth = 3", "unknown key 'rigth'. Did you mean 'right'?"),
        ("of = [", "cannot be read as TOML"),
    ],
)
def test_counts_that_cannot_be_are_refused_in_one_line(tmp_path, capsys, text, says):
    path = tmp_path / "counts.toml"
    path.write_text(text)
    assert main(["report", str(path)]) == 2
    assert says in (err := capsys.readouterr().err) and len(err.splitlines()) == 1
