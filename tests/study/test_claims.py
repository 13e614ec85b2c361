"""experiments/published: counts give back the published accuracies, and what each file's claims come to."""

import tomllib
from math import floor

import pytest

from rlvid.__main__ import main
from rlvid.errors import UserError
from rlvid.study.claims import build_claims_report
from rlvid.study.published_counts import read_counts
from tests.helpers.reports import ROOT

FOLDER = ROOT / "experiments" / "published"
PRINTED = {  # some rows as they were printed, in per cent: L1, L2, L3
    ("grpo_care", "GRPO-CARE"): (57.0, 57.0, 53.4),
    ("grpo_care_ablation", "noKL"): (55.4, 54.4, 51.3),
    ("deepvideo_r1", "Qwen2.5-VL-7B DeepVideo-R1"): (52.0, 55.7, 47.7),
    ("deepvideo_r1_algorithms", "Reg-GRPO"): (44.2, 44.2, 39.5),
}


def test_counts_round_to_the_printed_accuracies():
    for (file, arm), accuracies in PRINTED.items():
        counts = read_counts(FOLDER / f"{file}.toml")
        found = [100 * counts.right[arm][level] / counts.of[level] for level in ("L1", "L2", "L3")]
        assert [floor(10 * each + 0.5) / 10 for each in found] == list(accuracies), (file, arm)
    text = (ROOT / "experiments/paper_counts.toml").read_text()
    assert tomllib.loads(text) == tomllib.loads((FOLDER / "seed_bench_r1.toml").read_text())
    assert "L2" not in read_counts(FOLDER / "deepvideo_r1_algorithms.toml").right["reward regression"], (
        "33.1 is no k/923"
    )


def test_every_claim_is_counted_once(capsys):
    report = build_claims_report(FOLDER)
    claims = {row.file: row for row in report.claims}
    assert sum(row.claims for row in claims.values()) == len(report.comparisons) == 136
    care = claims["grpo_care"]
    assert (care.claims, care.shown, care.contrary, care.undecided) == (12, 10, 0, 2)
    assert claims["appo"].claims == 0 and "only averages" in claims["appo"].left_out
    records = report.to_records()
    assert len(records["claims"]) == len(claims) and len(records["comparisons"]) == 136
    assert main(["report", str(FOLDER)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "nothing is paired" in out and "does not show how seeds vary" in out and "grpo_care 12 10 0 0 2" in out


def test_a_file_without_counts_must_say_what_it_leaves_out(tmp_path):
    (tmp_path / "paper.toml").write_text('question = "?"\n')
    with pytest.raises(UserError, match="needs \\[of\\]"):
        build_claims_report(tmp_path)
