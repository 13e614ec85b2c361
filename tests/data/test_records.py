"""Annotation files as they come: arrays and lines, damaged ones, huge ones, and links that lead elsewhere."""

import json
from pathlib import Path

import pytest

from rlvid.data import records
from rlvid.data.records import read
from rlvid.data.seed_bench_r1 import load
from rlvid.errors import UserError
from tests.helpers.annotations import VAL


def found(file: Path, data: bytes) -> list:
    """What is read of a file: fields, or the error's text without the folder."""
    file.write_bytes(data)
    all_of_it = list(read(file, file.parent))
    return [str(x).removeprefix(f"{file.parent}/") if isinstance(x, UserError) else x.fields for x in all_of_it]


def test_an_array_is_read_record_by_record_and_names_their_lines(tmp_path):
    file = tmp_path / "a.json"
    assert found(file, b'[\n {"a": 1},\n\n {"a":\n 2}\n,{"a": 3}]\n') == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [r.where.removeprefix(f"{file}:") for r in read(file, tmp_path)] == [
        "2 (record 1)",
        "4 (record 2)",
        "6 (record 3)",
    ]
    assert found(file, b"[]") == [] == found(file, b" [ \n ] ")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": 1}', "a.json:1: no JSON in UTF-8: no array"),
        (b"", "a.json:1: no JSON in UTF-8: no array"),
        (b'[{"a": 1}\n{"a": 2}]', "a.json:1: no JSON in UTF-8: no array"),
        (b'[{"a": 1},\n]', "a.json:2: no JSON in UTF-8: Expecting value"),
        (b'[{"a": 1},\n{"a": }]', "a.json:2: no JSON in UTF-8: Expecting value"),
        (b'[{"a": 1},\n5]', "a.json:2 (record 2): must be one JSON object, not 5"),
        (b'[{"a": 1},\n{"b": "\n\xff"}]', "a.json:3: no JSON in UTF-8: 'utf-8' codec can't decode byte 0xff"),
        (b'[{"a": 1},\n{"b": "\\ud800"}]', "a.json:2: no JSON in UTF-8: "),
        (b"[" * 100_000, "a.json:1: no JSON in UTF-8: "),
    ],
)
def test_a_damaged_array_says_where(tmp_path, data, says):
    last = found(tmp_path / "a.json", data)[-1]
    assert last.startswith(says) and "\n" not in last


def test_reading_goes_on_after_a_bad_line_and_a_huge_one_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LARGEST", 1000)
    file = tmp_path / "a.jsonl"
    lines = [b'{"a": 1}', b"oops", b'{"a": "' + b"x" * 5000 + b'"}', b"", b"[2]", b'{"a": "' + b"x" * 900 + b'"}']
    assert found(file, b"\n".join(lines)) == [
        {"a": 1},
        "a.jsonl:2: no JSON in UTF-8: Expecting value: line 1 column 1 (char 0); mend or remove this line",
        "a.jsonl:3: is longer than 1,000 bytes: no record; remove it",
        "a.jsonl:5: must be one JSON object, not [2]",
        {"a": "x" * 900},
    ]


def test_a_huge_record_of_an_array_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LARGEST", 1000)
    data = json.dumps([{"a": 1}, {"a": "x" * 5000}, {"a": 3}]).encode()
    says = "a.json:1 (record 2): is longer than 1,000 bytes: no record; remove it"
    assert found(tmp_path / "a.json", data) == [{"a": 1}, says, {"a": 3}]


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    assert [str(e) for e in read(tmp_path / "a.json", tmp_path)] == [
        f"{tmp_path}/a.json: cannot be read: No such file or directory"
    ]
    assert [str(e) for e in read(tmp_path, tmp_path)] == [f"{tmp_path}: cannot be read: Is a directory"]


@pytest.fixture
def hub(tmp_path):
    """SEED-Bench-R1's layout as huggingface_hub's cache keeps it: a snapshot of links to blobs."""
    repository = tmp_path / "hub" / "datasets--TencentARC--SEED-Bench-R1"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    files = {"annotations/validation_L1.jsonl": json.dumps(VAL).encode(), "videos/EpicKitchens/115.mp4": b"clip"}
    for number, (name, data) in enumerate((files | {"images/EpicKitchens/115.png": b"still"}).items()):
        (repository / "blobs" / str(number)).write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True)
        depth = len(Path(name).parts) + 1
        (snapshot / name).symlink_to(Path(*[".."] * depth, "blobs", str(number)))
    return snapshot


def test_a_snapshot_of_the_hub_is_read_though_all_of_it_is_links(hub):
    [prompt] = load(hub, "L1")
    assert Path(prompt.video).read_bytes() == b"clip" and Path(prompt.image).read_bytes() == b"still"
    linked = hub.parents[2] / "data"
    linked.symlink_to(hub)
    assert load(linked, "L1")[0].video == prompt.video


@pytest.mark.parametrize(
    "target", ["hub/datasets--other--one/blobs/0", "secret", "hub/datasets--TencentARC--x/blobs/0"]
)
def test_but_its_links_lead_nowhere_else(hub, target):
    elsewhere = hub.parents[3] / target
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    elsewhere.write_text(json.dumps(VAL))
    clip = hub / "videos/EpicKitchens/115.mp4"
    clip.unlink()
    clip.symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"validation_L1.jsonl:1: video_basename: .* leads out of"):
        load(hub, "L1")
    file = hub / "annotations" / "validation_L1.jsonl"
    file.unlink()
    file.symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"validation_L1.jsonl: leads out of .*; annotations must lie"):
        load(hub, "L1")


def test_a_path_that_no_file_can_have(hub):
    """A name of 300 letters, and two links that point at each other."""
    file = hub / "annotations" / "validation_L1.jsonl"
    file.unlink()
    file.write_text(json.dumps(VAL | {"video_basename": "x" * 300}))
    with pytest.raises(UserError, match=r"L1.jsonl:1: video_basename: videos/EpicKitchens/xxx.*: no file can have"):
        load(hub, "L1")
    folder = hub / "videos" / "EpicKitchens"
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    file.write_text(json.dumps(VAL | {"video_basename": "a"}))
    with pytest.raises(UserError, match=r"L1.jsonl:1: video_basename: videos/EpicKitchens/a: no file can have"):
        load(hub, "L1")


def test_an_ordinary_folder_called_snapshots_grants_nothing(tmp_path):
    root = tmp_path / "mine" / "snapshots" / "one"
    (root / "annotations").mkdir(parents=True)
    (tmp_path / "mine" / "blobs").mkdir()
    (tmp_path / "mine" / "blobs" / "0").write_text(json.dumps(VAL))
    (root / "annotations" / "validation_L1.jsonl").symlink_to(tmp_path / "mine" / "blobs" / "0")
    with pytest.raises(UserError, match="leads out of"):
        load(root, "L1")
