"""`rlvid data check` on folders that real commands wrote: whole ones pass, and each kind of damage is named."""

import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from rlvid.__main__ import main
from rlvid.data import check, kitchen, kitchen_long
from rlvid.data.check import examine, wrong_with
from rlvid.types import Prompt
from rlvid.video.read import read_with_pyav
from tests.helpers.media import hang_on_slow, write_truncated

LEVELS = {"train": 8, "L1": 14, "L2": 2, "L3": 2}


@pytest.fixture
def root(tmp_path):
    """A small kitchen of its own, to be damaged."""
    kitchen.write(tmp_path / "data", counts=LEVELS)
    return tmp_path / "data"


def checked(name, capsys):
    """The exit code and what is printed."""
    code = main(["data", "check", str(name)])
    return code, capsys.readouterr().out


def rewrite(file: Path, line: int, **change):
    """Change fields of a record, counted from 1; returns the whole record."""
    lines = file.read_text().splitlines()
    record = json.loads(lines[line - 1]) | change
    lines[line - 1] = json.dumps(record)
    file.write_text("\n".join(lines) + "\n")
    return record


def test_an_embedded_benchmark_is_whole(root, tmp_path, capsys):
    code, out = checked(root, capsys)
    assert code == 0 and "problems          none" in out and "licences" in out
    assert "questions, train  16" in out and "questions, L1     14" in out  # the demonstrations are the same eight
    kitchen_long.write(tmp_path / "long", films=4)
    code, out = checked(tmp_path / "long", capsys)
    assert code == 0 and "questions, 60s  8" in out and "videos          8" in out


def test_a_folder_that_is_here_is_checked_before_the_embedded_one_of_its_name(root, capsys, monkeypatch):
    here = root.rename(root.with_name("kitchen"))
    a_missing_clip(here, 1)
    monkeypatch.chdir(here.parent)
    code, out = checked("kitchen", capsys)
    assert code == 2 and "missing media" in out and f"checked {here}\n" in out


def change(root: Path, line: int, **fields):
    """Change a record of L1; returns it."""
    return rewrite(root / "annotations/validation_L1.jsonl", line, **fields)


def filmed(root, line, *narrations):
    """Give a record a clip of its own; returns the clip."""
    clips = root / "videos/EpicKitchens"
    own = clips / f"own{line}.mp4"
    own.write_bytes(next(clips.glob("L1_*.mp4")).read_bytes())
    steps = [{"narration_text": text} for text in ("stir", *narrations)]
    change(root, line, video_basename=own.name, task_progress_metadata=steps)
    return own


def picture(root, line):
    """A record's picture."""
    return root / "images/EpicKitchens" / change(root, line)["current_observation_basename"]


def a_missing_clip(root, line):
    filmed(root, line).unlink()
    return "no such file"


def an_empty_picture(root, line):
    picture(root, line).write_bytes(b"")
    return "is empty"


def a_truncated_clip(root, line):
    clip = filmed(root, line)
    write_truncated(clip, clip, 0.6)
    return clip.name


def a_picture_that_is_none(root, line):
    picture(root, line).write_text("<html>404</html>")
    return "not a readable image"


def a_field_of_the_wrong_kind(root, line):
    change(root, line, question=5)
    return "question: must be str, not 5"


def no_utf8(root, line):
    file = root / "annotations/validation_L1.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[line - 1] = lines[line - 1].replace(b"put", b"p\xfft", 1)
    file.write_bytes(b"\n".join(lines))
    return "no JSON in UTF-8"


def a_way_out(root, line):
    change(root, line, current_observation_basename="../../../../etc/passwd")
    return "leads out of"


def a_second_of_the_same(root, line):
    change(root, line, sample_id=change(root, 1)["sample_id"])
    return "stands on an earlier line too"


def an_answer_in_the_question(root, line):
    change(root, line, question=f"Shall I {change(root, line)['answer'].upper()}, next?")
    return "the question holds the right option and no other"


def an_answer_narrated(root, line):
    filmed(root, line, change(root, line)["answer"])
    return "the last narration is the right option"


def two_options_alike(root, line):
    record = change(root, line)
    wrong = next(c for c in "abcd" if record[f"choice_{c}"] != record["answer"])
    change(root, line, **{f"choice_{wrong}": f"{record['answer'].title()}."})
    return "would not be understood"


DAMAGE = [
    (a_missing_clip, "missing media"),
    (an_empty_picture, "missing media"),
    (a_truncated_clip, "undecodable media"),
    (a_picture_that_is_none, "undecodable media"),
    (a_field_of_the_wrong_kind, "malformed record"),
    (a_way_out, "malformed record"),
    (a_second_of_the_same, "duplicate id"),
    (an_answer_in_the_question, "answer leak"),
    (an_answer_narrated, "answer leak"),
    (two_options_alike, "option collision"),
    (no_utf8, "malformed record"),
]


def test_each_kind_of_damage_is_found_named_and_counted_and_nothing_else(root, capsys):
    said = {line: (kind, damage(root, line)) for line, (damage, kind) in enumerate(DAMAGE, 2)}
    code, out = checked(root, capsys)
    file = root / "annotations/validation_L1.jsonl"
    found = [line for line in out.splitlines() if str(file) in line]
    for line, (kind, says) in said.items():
        named = [text for text in found if text.startswith(f"{kind}: {file}:{line}: ") and says in text]
        assert named, (line, kind, says, found)
        found = [text for text in found if text not in named]
    assert code == 2 and not found
    rows = dict(re.findall(r"^(\w+ \w+) +(\d+) *$", out, re.M))
    assert rows == {
        "missing media": "2",
        "undecodable media": "2",
        "malformed record": "3",
        "duplicate id": "1",
        "answer leak": "2",
        "option collision": "2",  # either of the two options
    }


def test_the_rest_is_checked_after_a_bad_record(root, capsys):
    a_field_of_the_wrong_kind(root, 2)
    next((root / "images/Ego4D").glob("L3_*")).unlink()
    code, out = checked(root, capsys)
    assert code == 2 and "malformed record: " in out and "missing media: " in out and "questions, L3     2" in out


def test_a_clip_that_hangs_its_decoder_is_named_and_the_others_are_decoded(root, monkeypatch):
    """A reader that never comes back from one file, in real processes under the kernel's alarm clock."""
    filmed(root, 2).rename(root / "videos/EpicKitchens/slow.mp4")
    change(root, 2, video_basename="slow.mp4")
    monkeypatch.setattr(check, "read_with_decord", hang_on_slow)
    monkeypatch.setattr(check, "read_with_pyav", hang_on_slow)
    monkeypatch.setattr(check, "TIMEOUT", 1.0)
    began = time.monotonic()
    [problem] = examine(str(root)).problems
    assert problem.kind == "undecodable media" and "took longer than" in problem.says
    assert problem.says.startswith(f"{root}/annotations/validation_L1.jsonl:2: ") and time.monotonic() - began < 30


def test_arrays_and_maps_of_fields_are_checked_too(tmp_path, capsys):
    kitchen_long.write(tmp_path / "long", films=2)
    file = tmp_path / "long" / "lvb_val.json"
    records = json.loads(file.read_text())
    records[2]["candidates"][0] = records[2]["candidates"][1]
    file.write_text("[" + ",\n".join(map(json.dumps, records)) + "]")
    (tmp_path / "long/videos/60s_01.mp4").unlink()
    code, out = checked(tmp_path / "long", capsys)
    assert (
        code == 2
        and f"option collision: {file}:3 (record 3): " in out
        and f"missing media: {file}:7 (record 7): " in out
    )

    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    rows = [{"q": "What is it?", "o": ["red", "blue"], "a": 0, "n": n} for n in (1, 2)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fields = (
        'layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\nimage = "{n}.png"\n'
    )
    (tmp_path / "m.toml").write_text(fields)
    code, out = checked(tmp_path / "m.toml", capsys)
    assert code == 2 and f"missing media: {tmp_path}/q.jsonl:2: {tmp_path}/2.png: no such file" in out
    (tmp_path / "q.jsonl").unlink()
    assert checked(tmp_path / "m.toml", capsys)[0] == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/no/such/folder", "/no/such/folder: no such folder"),
        ("x.toml", "x.toml: cannot be read"),
        (".", "holds neither"),
    ],
)
def test_what_cannot_be_checked_is_one_line(tmp_path, monkeypatch, capsys, name, says):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", name]) == 2
    out = capsys.readouterr()
    assert out.err.startswith("rlvid: ") and says in out.err and out.err.count("\n") == 1 and not out.out


def test_many_problems_of_a_kind_are_counted_and_some_are_shown(tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text("\n".join(["oops\x1b[31m"] * 300))
    (tmp_path / "m.toml").write_text('layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\nanswer = "a"\n')
    code, out = checked(tmp_path / "m.toml", capsys)
    assert code == 2 and out.count("malformed record: /") == check.SHOWN and "malformed record: and 280 more" in out
    assert "malformed record  300" in out and "\x1b[31m" not in out


@pytest.mark.parametrize(
    ("question", "options", "kinds"),
    [
        ("What is next?", ("open tap", "close tap"), []),
        ("Is it red or blue?", ("red", "blue"), []),  # both are in the question: nothing is given away
        ("Why is it RED?", ("red", "blue"), ["answer leak"]),
        ("Why is it blue?", ("red", "blue"), []),  # the wrong one
        ("Is she a redhead?", ("red", "blue"), []),
        ("What is next?", ("open tap", "Open  tap."), ["option collision", "option collision"]),
        ("What is next?", ("B", "open tap"), ["option collision"]),
        ("What is next?", ("open <answer>", "close"), ["option collision"]),
    ],
)
def test_what_a_questions_own_words_give_away(question, options, kinds):
    assert [kind for kind, _ in wrong_with(Prompt("1", question, options, "A"))] == kinds


def test_the_reader_that_is_slow_only_on_slow_files_reads_others(root):
    clip = next((root / "videos").rglob("*.mp4"))
    from rlvid.config import VideoConfig

    assert (hang_on_slow(str(clip), VideoConfig()) == read_with_pyav(str(clip), VideoConfig())).all()
