"""Tests of `rlvid data check` on real folders: intact ones pass, and each kind of damage is reported."""

import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from rlvid.__main__ import main
from rlvid.config import VideoConfig
from rlvid.data import check, kitchen, kitchen_long
from rlvid.data.check import find_problems, prompt_problems
from rlvid.types import Prompt
from rlvid.video.read import read_with_pyav
from tests.helpers.media import grey_frames, hang_on_slow, write_truncated, write_video

COUNTS = {"train": 8, "L1": 14, "L2": 2, "L3": 2, "dev": 1}


@pytest.fixture
def root(tmp_path):
    """A small kitchen benchmark that a test may damage."""
    kitchen.write(tmp_path / "data", counts=COUNTS)
    return tmp_path / "data"


def run_check(name, capsys):
    """Return the exit code of `rlvid data check NAME`, and what it prints."""
    code = main(["data", "check", str(name)])
    return code, capsys.readouterr().out


def change_line(file: Path, line: int, **fields):
    """Change fields of the record on a line, counted from 1; return the changed record."""
    lines = file.read_text().splitlines()
    record = json.loads(lines[line - 1]) | fields
    lines[line - 1] = json.dumps(record)
    file.write_text("\n".join(lines) + "\n")
    return record


def change(root: Path, line: int, **fields):
    """Change fields of a record of L1; return the changed record."""
    return change_line(root / "annotations/validation_L1.jsonl", line, **fields)


def test_the_embedded_benchmarks_have_no_problems(root, tmp_path, capsys):
    code, out = run_check(root, capsys)
    assert code == 0 and "problems          none" in out and "licences" in out
    assert "questions, train  16" in out and "questions, L1     14" in out  # 8 samples and their 8 demonstrations
    kitchen_long.write(tmp_path / "long", films=4)
    code, out = run_check(tmp_path / "long", capsys)
    assert code == 0 and "questions, 60s  8" in out and "videos          8" in out


def test_a_folder_has_priority_over_the_embedded_benchmark_of_its_name(root, capsys, monkeypatch):
    folder = root.rename(root.with_name("kitchen"))
    missing_clip(folder, 1)
    monkeypatch.chdir(folder.parent)
    code, out = run_check("kitchen", capsys)
    assert code == 2 and "missing media" in out and f"checked {folder}\n" in out


def give_clip(root, line, *narrations):
    """Give a record of L1 a clip of its own, and progress; return the clip's path."""
    folder = root / "videos/EpicKitchens"
    clip = folder / f"line{line}.mp4"
    clip.write_bytes(next(folder.glob("L1_*.mp4")).read_bytes())
    progress = [{"narration_text": text} for text in ("stir", *narrations)]
    change(root, line, video_basename=clip.name, task_progress_metadata=progress)
    return clip


def image_of(root, line):
    """Return the path of the image of a record of L1."""
    return root / "images/EpicKitchens" / change(root, line)["current_observation_basename"]


# Each of the following functions damages one record of L1 and returns a part of the message about it.


def missing_clip(root, line):
    give_clip(root, line).unlink()
    return "no such file"


def empty_image(root, line):
    image_of(root, line).write_bytes(b"")
    return "is empty"


def truncated_clip(root, line):
    clip = give_clip(root, line)
    write_truncated(clip, clip, 0.6)
    return clip.name


def image_that_is_html(root, line):
    image_of(root, line).write_text("<html>404</html>")
    return "not a readable image"


def field_of_the_wrong_type(root, line):
    change(root, line, question=5)
    return "question: must be str, not 5"


def line_that_is_not_utf8(root, line):
    file = root / "annotations/validation_L1.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[line - 1] = lines[line - 1].replace(b"put", b"p\xfft", 1)
    file.write_bytes(b"\n".join(lines))
    return "not JSON in UTF-8"


def path_out_of_the_folder(root, line):
    change(root, line, current_observation_basename="../../../../etc/passwd")
    return "leads out of"


def duplicate_id(root, line):
    change(root, line, sample_id=change(root, 1)["sample_id"])
    return "is the id of an earlier record too"


def answer_in_the_question(root, line):
    change(root, line, question=f"Shall I {change(root, line)['answer'].upper()}, next?")
    return "the question holds the right option and no other"


def answer_in_the_narrations(root, line):
    give_clip(root, line, change(root, line)["answer"])
    return "the last narration is the right option"


def two_equal_options(root, line):
    record = change(root, line)
    wrong = next(letter for letter in "abcd" if record[f"choice_{letter}"] != record["answer"])
    change(root, line, **{f"choice_{wrong}": f"{record['answer'].title()}."})
    return "would not be parsed as"


DAMAGE = [
    (missing_clip, "missing media"),
    (empty_image, "missing media"),
    (truncated_clip, "undecodable media"),
    (image_that_is_html, "undecodable media"),
    (field_of_the_wrong_type, "malformed record"),
    (path_out_of_the_folder, "malformed record"),
    (duplicate_id, "duplicate id"),
    (answer_in_the_question, "answer leak"),
    (answer_in_the_narrations, "answer leak"),
    (two_equal_options, "option collision"),
    (line_that_is_not_utf8, "malformed record"),
]


def test_each_kind_of_damage_is_reported_and_counted_and_nothing_else(root, capsys):
    expected = {line: (kind, damage(root, line)) for line, (damage, kind) in enumerate(DAMAGE, 2)}
    code, out = run_check(root, capsys)
    file = root / "annotations/validation_L1.jsonl"
    reported = [text for text in out.splitlines() if str(file) in text]
    for line, (kind, message) in expected.items():
        matching = [text for text in reported if text.startswith(f"{kind}: {file}:{line}: ") and message in text]
        assert matching, (line, kind, message, reported)
        reported = [text for text in reported if text not in matching]
    assert code == 2 and not reported
    counts = dict(re.findall(r"^(\w+ \w+) +(\d+) *$", out, re.M))
    assert counts == {
        "missing media": "2",
        "undecodable media": "2",
        "malformed record": "3",
        "duplicate id": "1",
        "answer leak": "2",
        "option collision": "2",  # one for each of the two options
    }


def test_a_file_that_cannot_be_read_is_no_malformed_record(root, capsys):
    file = root / "annotations/validation_L3.jsonl"
    outside = root.parent / "elsewhere.jsonl"
    file.rename(outside)
    file.symlink_to(outside)
    code, out = run_check(root, capsys)
    assert code == 2 and f"unreadable file: {file}: leads out of {root}; move the annotation file into" in out
    assert "malformed record" not in out and re.search(r"^unreadable file +1 *$", out, re.M)


def test_checking_continues_after_a_bad_record(root, capsys):
    field_of_the_wrong_type(root, 2)
    next((root / "images/Ego4D").glob("L3_*")).unlink()
    code, out = run_check(root, capsys)
    assert code == 2 and "malformed record: " in out and "missing media: " in out and "questions, L3     2" in out


def test_a_clip_that_hangs_its_decoder_is_reported_and_the_others_are_decoded(root, monkeypatch):
    """A reader that never returns from one file, in real processes with the kernel's timer."""
    give_clip(root, 2).rename(root / "videos/EpicKitchens/slow.mp4")
    change(root, 2, video_basename="slow.mp4")
    monkeypatch.setattr(check, "read_with_decord", hang_on_slow)
    monkeypatch.setattr(check, "read_with_pyav", hang_on_slow)
    monkeypatch.setattr(check, "DECODE_TIMEOUT", 1.0)
    start = time.monotonic()
    [problem] = find_problems(str(root)).problems
    assert problem.kind == "undecodable media" and "took longer than" in problem.message
    assert problem.message.startswith(f"{root}/annotations/validation_L1.jsonl:2: ")
    assert time.monotonic() - start < 30


def test_arrays_and_field_maps_are_checked_too(tmp_path, capsys):
    kitchen_long.write(tmp_path / "long", films=2)
    file = tmp_path / "long" / "lvb_val.json"
    records = json.loads(file.read_text())
    records[2]["candidates"][0] = records[2]["candidates"][1]
    file.write_text("[" + ",\n".join(map(json.dumps, records)) + "]")
    (tmp_path / "long/videos/60s_01.mp4").unlink()
    code, out = run_check(tmp_path / "long", capsys)
    assert code == 2
    assert f"option collision: {file}:3 (record 3): " in out
    assert f"missing media: {file}:7 (record 7): " in out

    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    records = [{"q": "What is it?", "o": ["red", "blue"], "a": 0, "n": n} for n in (1, 2)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, records)))
    fields = {"path": "q.jsonl", "question": "q", "options": "o", "answer": "a", "image": "{n}.png"}
    lines = [f'{key} = "{value}"' for key, value in ({"layout": "multiple_choice"} | fields).items()]
    (tmp_path / "m.toml").write_text("\n".join(lines))
    code, out = run_check(tmp_path / "m.toml", capsys)
    assert code == 2 and f"missing media: {tmp_path}/q.jsonl:2: {tmp_path}/2.png: no such file" in out
    (tmp_path / "q.jsonl").unlink()
    assert run_check(tmp_path / "m.toml", capsys)[0] == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "/no/such/folder: no such folder"),
        ("x.toml", "x.toml: cannot be read"),
        (".", "holds neither"),
    ],
)
def test_a_benchmark_that_cannot_be_read_is_an_error_of_one_line(tmp_path, monkeypatch, capsys, name, message):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", name]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("rlvid: ") and message in output.err
    assert output.err.count("\n") == 1 and not output.out


def test_many_problems_of_a_kind_are_all_counted_but_only_some_are_printed(tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text("\n".join(["oops\x1b[31m"] * 300))
    (tmp_path / "m.toml").write_text('layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\nanswer = "a"\n')
    code, out = run_check(tmp_path / "m.toml", capsys)
    assert code == 2 and out.count("malformed record: /") == check.MAX_SHOWN and "malformed record: and 280 more" in out
    assert "malformed record  300" in out and "\x1b[31m" not in out


@pytest.mark.parametrize(
    ("question", "options", "kinds"),
    [
        ("What is next?", ("open tap", "close tap"), []),
        ("Is it red or blue?", ("red", "blue"), []),  # both options are in the question: no leak
        ("Why is it RED?", ("red", "blue"), ["answer leak"]),
        ("Why is it blue?", ("red", "blue"), []),  # only the wrong option
        ("Is she a redhead?", ("red", "blue"), []),
        ("What is next?", ("open tap", "Open  tap."), ["option collision", "option collision"]),
        ("What is next?", ("B", "open tap"), ["option collision"]),
        ("What is next?", ("open <answer>", "close"), ["option collision"]),
    ],
)
def test_the_problems_with_the_texts_of_a_question(question, options, kinds):
    assert [kind for kind, _ in prompt_problems(Prompt("1", question, options, "A"))] == kinds


def test_the_reader_that_hangs_reads_other_files(root):
    """Otherwise the test of a hanging decoder would prove nothing."""
    clip = next((root / "videos").rglob("*.mp4"))
    frames, expected = (reader(str(clip), VideoConfig()) for reader in (hang_on_slow, read_with_pyav))
    assert (frames.pixels == expected.pixels).all()


@pytest.mark.parametrize(("span", "kinds"), [("#t=0,4", ["variable frame rate"]), ("", [])])
def test_parts_of_a_film_need_a_constant_frame_rate(tmp_path, span, kinds):
    """One frame a second for 5 s and then eight, on average 180 in 47 s: the sixth is at 5 s and not at 1.3 s."""
    ticks = [*range(0, 40, 8), *range(40, 80)]
    write_video(tmp_path / "a.mp4", grey_frames(45, step=5), ticks=ticks)
    write_video(tmp_path / "b.mp4", grey_frames(24))
    records = [{"q": "Which?", "o": ["a pan", "a cup"], "a": "B", "v": f"{name}.mp4"} for name in "ab"]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, records)))
    fields = 'layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\n'
    (tmp_path / "m.toml").write_text(f'{fields}video = "{{v}}{span}"\n')
    found = find_problems(str(tmp_path / "m.toml")).problems
    assert [problem.kind for problem in found] == kinds
    assert all("a frame is 3.7 s from where a constant rate has it" in problem.message for problem in found)
