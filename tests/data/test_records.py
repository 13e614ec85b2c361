"""Tests of annotation files: arrays and lines, damaged and huge ones, and links out of the data set's folder."""

import json
from pathlib import Path

import pytest

from rlvid.data import json_files
from rlvid.data.records import AnnotationRecord, read_records_or_errors, split_lettered_options
from rlvid.data.seed_bench_r1 import load
from rlvid.errors import UserError
from rlvid.utils.files import read_jsonl
from tests.helpers.annotations import VALIDATION


def read(file: Path, data: bytes) -> list:
    """Write a file and read it; return the fields of each record, or the text of its error without the folder."""
    file.write_bytes(data)
    items = list(read_records_or_errors(file, file.parent))
    return [str(i).removeprefix(f"{file.parent}/") if isinstance(i, UserError) else i.fields for i in items]


def test_records_of_an_array_are_read_with_their_line_numbers(tmp_path):
    file = tmp_path / "a.json"
    assert read(file, b'[\n {"a": 1},\n\n {"a":\n 2}\n,{"a": 3}]\n') == [{"a": 1}, {"a": 2}, {"a": 3}]
    lines = [record.where.removeprefix(f"{file}:") for record in read_records_or_errors(file, tmp_path)]
    assert lines == ["2 (record 1)", "4 (record 2)", "6 (record 3)"]
    assert read(file, b"[]") == [] == read(file, b" [ \n ] ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1}', "a.json:1: not JSON in UTF-8: no array"),
        (b"", "a.json:1: not JSON in UTF-8: no array"),
        (b'[{"a": 1}\n{"a": 2}]', "a.json:1: not JSON in UTF-8: no array"),
        (b'[{"a": 1},\n]', "a.json:2: not JSON in UTF-8: Expecting value"),
        (b'[{"a": 1},\n{"a": }]', "a.json:2: not JSON in UTF-8: Expecting value"),
        (b'[{"a": 1},\n5]', "a.json:2 (record 2): must be one JSON object, not 5"),
        (b'[{"a": 1},\n{"b": "\n\xff"}]', "a.json:3: not JSON in UTF-8: 'utf-8' codec can't decode byte 0xff"),
        (b'[{"a": 1},\n{"b": "\\ud800"}]', "a.json:2: not JSON in UTF-8: "),
        (b"[" * 100_000, "a.json:1: not JSON in UTF-8: "),
    ],
)
def test_the_error_about_a_damaged_array_names_the_line(tmp_path, data, message):
    last = read(tmp_path / "a.json", data)[-1]
    assert last.startswith(message) and "\n" not in last


def test_reading_continues_after_a_bad_line_and_a_huge_line_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_RECORD_BYTES", 1000)
    lines = [b'{"a": 1}', b"oops", b'{"a": "' + b"x" * 5000 + b'"}', b"", b"[2]", b'{"a": "' + b"x" * 900 + b'"}']
    assert read(tmp_path / "a.jsonl", b"\n".join(lines)) == [
        {"a": 1},
        "a.jsonl:2: not JSON in UTF-8: Expecting value: line 1 column 1 (char 0); fix or remove this line",
        "a.jsonl:3: is longer than 1,000 bytes, so it cannot be a record; remove it",
        "a.jsonl:5: must be one JSON object, not [2]",
        {"a": "x" * 900},
    ]


def test_a_huge_record_of_an_array_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_RECORD_BYTES", 1000)
    data = json.dumps([{"a": 1}, {"a": "x" * 5000}, {"a": 3}]).encode()
    message = "a.json:1 (record 2): is longer than 1,000 bytes, so it cannot be a record; remove it"
    assert read(tmp_path / "a.json", data) == [{"a": 1}, message, {"a": 3}]


def test_a_missing_file_or_a_folder_is_one_error(tmp_path):
    missing = read_records_or_errors(tmp_path / "a.json", tmp_path)
    assert [str(error) for error in missing] == [f"{tmp_path}/a.json: cannot be read: No such file or directory"]
    folder = read_records_or_errors(tmp_path, tmp_path)
    assert [str(error) for error in folder] == [f"{tmp_path}: cannot be read: Is a directory"]


def test_lines_between_options_belong_to_the_option_before():
    record = AnnotationRecord("a.jsonl:1", 1, Path(), {})
    text = "Which?\nA. open tap\nB. wash\n the pan\n\nC. cut\nD. dry\n\nAnswer with a letter."
    assert split_lettered_options(record, "text", text)[1] == ("open tap", "wash the pan", "cut", "dry")


def test_lettered_options_end_at_the_last_letter():
    record = AnnotationRecord("a.jsonl:1", 1, Path(), {})
    lines = [f"{letter}. option {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    question, options = split_lettered_options(record, "text", "\n".join(["Which?", *lines, "Answer with a letter."]))
    assert question == "Which?" and len(options) == 26 and options[-1] == "option Z"


@pytest.fixture
def snapshot(tmp_path):
    """A data set in SEED-Bench-R1's layout as huggingface_hub caches it: a snapshot of links to blobs."""
    repository = tmp_path / "hub" / "datasets--TencentARC--SEED-Bench-R1"
    folder = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    files = {
        "annotations/validation_L1.jsonl": json.dumps(VALIDATION).encode(),
        "videos/EpicKitchens/115.mp4": b"clip",
        "images/EpicKitchens/115.png": b"still",
    }
    for number, (name, data) in enumerate(files.items()):
        (repository / "blobs" / str(number)).write_bytes(data)
        (folder / name).parent.mkdir(parents=True)
        depth = len(Path(name).parts) + 1
        (folder / name).symlink_to(Path(*[".."] * depth, "blobs", str(number)))
    return folder


def test_a_snapshot_of_the_hub_is_read_although_all_its_files_are_links(snapshot):
    [prompt] = load(snapshot, "L1")
    assert Path(prompt.video).read_bytes() == b"clip" and Path(prompt.image).read_bytes() == b"still"
    link = snapshot.parents[2] / "data"
    link.symlink_to(snapshot)
    assert load(link, "L1")[0].video == prompt.video


@pytest.mark.parametrize(
    "target", ["hub/datasets--other--one/blobs/0", "secret", "hub/datasets--TencentARC--x/blobs/0"]
)
def test_links_of_a_snapshot_to_other_places_are_errors(snapshot, target):
    outside = snapshot.parents[3] / target
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_text(json.dumps(VALIDATION))
    clip = snapshot / "videos/EpicKitchens/115.mp4"
    clip.unlink()
    clip.symlink_to(outside)
    with pytest.raises(UserError, match=r"validation_L1.jsonl:1: video_basename: .* leads out of"):
        load(snapshot, "L1")
    file = snapshot / "annotations" / "validation_L1.jsonl"
    file.unlink()
    file.symlink_to(outside)
    with pytest.raises(UserError, match=r"validation_L1.jsonl: leads out of .*; move the annotation file"):
        load(snapshot, "L1")


def test_a_path_that_no_file_can_have_is_an_error(snapshot):
    """A name of 300 letters, and two links that point at each other."""
    file = snapshot / "annotations" / "validation_L1.jsonl"
    file.unlink()
    file.write_text(json.dumps(VALIDATION | {"video_basename": "x" * 300}))
    with pytest.raises(UserError, match=r"L1.jsonl:1: video_basename: videos/EpicKitchens/xxx.*: no file can have"):
        load(snapshot, "L1")
    folder = snapshot / "videos" / "EpicKitchens"
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    file.write_text(json.dumps(VALIDATION | {"video_basename": "a"}))
    with pytest.raises(UserError, match=r"L1.jsonl:1: video_basename: videos/EpicKitchens/a: no file can have"):
        load(snapshot, "L1")


def test_an_ordinary_folder_called_snapshots_gives_no_access_to_blobs(tmp_path):
    root = tmp_path / "mine" / "snapshots" / "one"
    (root / "annotations").mkdir(parents=True)
    (tmp_path / "mine" / "blobs").mkdir()
    (tmp_path / "mine" / "blobs" / "0").write_text(json.dumps(VALIDATION))
    (root / "annotations" / "validation_L1.jsonl").symlink_to(tmp_path / "mine" / "blobs" / "0")
    with pytest.raises(UserError, match="leads out of"):
        load(root, "L1")


def test_lines_of_a_run_may_hold_any_characters_and_only_a_cut_last_line_is_dropped(tmp_path):
    file = tmp_path / "rows.jsonl"
    text = "one\u2028two\u0085three\x0b"
    file.write_text(json.dumps({"text": text}, ensure_ascii=False) + '\n{"text": "cut')
    assert read_jsonl(file) == [{"text": text}]
    for damaged in (b'{"a": 1}\n{"a": \xff}\n', b'{"a": 1}\n{"a": \n{"a": 3}\n'):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"rows.jsonl:2: not JSON in UTF-8: "):
            read_jsonl(file)
