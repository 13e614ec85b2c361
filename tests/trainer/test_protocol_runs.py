"""Evaluations of the embedded model under a protocol: what is asked, recorded, printed, and refused in comparisons."""

from dataclasses import replace

import pytest

from rlvid.__main__ import main
from rlvid.config import load
from rlvid.protocols import PROTOCOLS, load_protocol, recorded_protocol
from rlvid.study.extractions import extraction_rows
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.reports import write_run

SETTINGS = ("eval.limit=4", "eval.transfer=[]", "train.max_completion_length=24")
MINE = """
text = "letters only"
extraction = "lenient"
[prompt]
multiple_choice = "{question}\\n{options}\\nA letter:"
[eval]
max_completion_length = 9
"""


@pytest.fixture(scope="module")
def runs(kitchen, tmp_path_factory):
    """nano evaluated under the default and under mine.toml, and the default's replies read by Video-R1's parser."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "mine.toml").write_text(MINE)
    small = ("video.resized_height=56", "video.resized_width=56", "eval.max_completion_length=24")
    for name, *overrides in (
        ("a", "eval.protocol=rlvid"),
        ("b", f"eval.protocol={folder}/mine.toml"),
        ("c", "eval.protocol=video_r1", f"eval.completions={folder}/a/eval", *small),
    ):
        assert main(["eval", "nano", *SETTINGS, *overrides, "--split", "L1", "--out", str(folder / name)]) == 0
    return folder


def rows(folder):
    """The answers to L1."""
    return read_jsonl(folder / "eval/L1.jsonl")


def test_a_run_records_its_protocol_and_is_asked_and_cut_by_it(runs):
    assert recorded_protocol(runs / "b") == load_protocol(str(runs / "mine.toml"))
    assert recorded_protocol(runs / "c") == PROTOCOLS["video_r1"]
    assert max(row["length"] for row in rows(runs / "b")) <= 9 < max(row["length"] for row in rows(runs / "a"))
    assert [row["completion"] for row in rows(runs / "a")] == [row["completion"] for row in rows(runs / "c")]


def test_runs_under_one_protocol_are_reported_with_its_name_and_others_refused(runs, capsys):
    assert main(["report", str(runs / "a"), "--no-plots"]) == 0
    assert "1 of 1 runs done, protocol rlvid" in capsys.readouterr().out
    assert main(["report", str(runs / "c"), "--no-plots"]) == 0
    changed = "eval.max_completion_length=24, video.resized_height=56, video.resized_width=56"
    assert f"protocol video_r1 with {changed}" in " ".join(capsys.readouterr().out.split())
    for command in (["report", str(runs), "--no-plots"], ["compare", str(runs / "a"), str(runs / "b")]):
        assert main(command) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "was evaluated under the protocol" in line and "cannot be compared" in line


def test_a_runs_of_before_there_were_protocols_have_the_default(tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        write_run(tmp_path / name, f"seed={seed}", right=("1010", "1010", "1010"))
    assert main(["report", str(tmp_path), "--no-plots"]) == 0
    assert "2 of 2 runs done, protocol rlvid" in capsys.readouterr().out


def test_two_files_of_one_name_are_two_protocols(runs, tmp_path, capsys):
    for name, extraction in (("a", "lenient"), ("b", "strict")):
        write_run(tmp_path / name, right=("1010",) * 3)
        text = f'name = "./mine.toml"\nextraction = "{extraction}"\n'
        (tmp_path / name / "protocol.toml").write_text(text)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "under './mine.toml' with another content" in capsys.readouterr().err


def test_the_same_replies_are_read_in_every_way(runs, capsys):
    found = {row.extraction: row for row in extraction_rows({"L1": rows(runs / "a")})}
    own = sum(row["correct"] for row in rows(runs / "a")) / 4
    assert found["strict"].accuracy == own and found["strict"].difference == 0
    assert found["video_r1"].accuracy == sum(row["correct"] for row in rows(runs / "c")) / 4
    assert main(["audit", str(runs / "a")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {line[0]: line[1] for line in lines if line and line[0] in found}
    assert shown == {name: f"{row.accuracy:.1%}" for name, row in found.items()}


def test_groups_of_training_are_read_as_they_were_in_training(tmp_path, monkeypatch):
    """A reply that the protocol of training reads and the default one does not."""
    from rlvid.api.probing import _replies_and_config
    from rlvid.data.benchmark import load_level
    from rlvid.probes.rescoring import rescore

    config = load("nano", ["data=kitchen/small", "train.protocol=lenient.toml", "train.max_steps=1"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lenient.toml").write_text('text = "lenient"\nextraction = "lenient"\n')
    prompt = load_level("kitchen/small", "train")[0]
    row = {"id": prompt.id, "question": prompt.text, "completions": [prompt.answer, "Z"], "gold": prompt.answer}
    write_jsonl(tmp_path / "run/samples/step-000001.jsonl", [row])
    write_jsonl(tmp_path / "run/samples/step-000002-not-finite.jsonl", [row])
    (tmp_path / "run/config.toml").write_text(config.to_toml())
    [group] = _replies_and_config(tmp_path / "run", None, ())[0].groups
    assert group.completions[0].answer == prompt.answer, "and those of a step that was not taken are no groups"
    config = replace(config, eval=replace(config.eval, completions="run/samples"))
    assert rescore(config, tmp_path / "out")["samples/accuracy/mean"] == 0.5


def test_points_of_parsing_by_hand():
    replies = ["<answer>B</answer>", "<answer>B.</answer>", "<answer>(B)</answer>", "B", "<answer>Bake it</answer>"]
    answers = [
        {"completion": text, "options": ["up", "down"], "gold": "B", "correct": i < 3} for i, text in enumerate(replies)
    ]
    found = {row.extraction: row for row in extraction_rows({"L": answers, "open": [{"options": [], "gold": "x"}]})}
    shares = {name: round(row.accuracy, 1) for name, row in found.items()}
    assert (shares["strict"], shares["lenient"], shares["seed_bench_r1"], shares["video_r1"]) == (0.6, 0.8, 0.6, 0.4)
    assert found["video_r1"].difference == pytest.approx(-0.2) and found["strict"].answered == 0.6
