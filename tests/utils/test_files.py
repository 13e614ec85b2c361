"""JSON-lines files of any content and length."""

import json
import os

import pytest

from rlvid.errors import UserError
from rlvid.utils.files import find_damage, read_checksums, read_json, read_jsonl, read_last_jsonl, write_checksums


def test_unusual_characters_are_read_and_an_unfinished_last_line_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    text = "one\u2028two\u0085three\x0b"  # line breaks to str.splitlines, but not in a JSON-lines file
    path.write_text(json.dumps({"text": text}, ensure_ascii=False) + '\n{"text": "cut')
    assert read_jsonl(path) == [{"text": text}]
    path.write_bytes(b'{"a": 1}\n{"a": \xff}\n')
    with pytest.raises(UserError, match=r"rows.jsonl:2: not JSON in UTF-8: "):
        read_jsonl(path)
    path.write_bytes(b'{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(UserError, match=r"rows.jsonl:2: not JSON in UTF-8: "):
        read_jsonl(path)


def test_a_long_file_is_thinned_evenly_and_keeps_its_last_and_its_marked_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": i} | ({"eval": 1} if i == 15 else {})) + "\n" for i in range(1, 102)))
    steps = [row["step"] for row in read_jsonl(path, thin_to=10, always_keep=b'"eval')]
    assert steps == [10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100, 101]
    assert len(read_jsonl(path)) == len(read_jsonl(path, thin_to=101)) == 101


def test_the_last_row_is_found_without_reading_the_rest_of_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_last_jsonl(path) == {}
    with path.open("wb") as file:
        file.truncate(1 << 36)  # 64 GB that take no space on the disk
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"step": 7}\n{"step"')
    assert read_last_jsonl(path) == {"step": 7}


def test_the_last_row_may_be_long_missing_or_unfinished(tmp_path):
    path = tmp_path / "metrics.jsonl"
    long_row = {"words": "x" * 300_000}
    for content, expected in (
        ("", {}),
        ('{"a', {}),
        (json.dumps(long_row) + "\n", long_row),
        ('{"a": 1}\n', {"a": 1}),
        ('{"a": 1}\n' + json.dumps(long_row) + "\n" + "unfinished" * 10_000, long_row),
    ):
        path.write_text(content)
        assert read_last_jsonl(path) == expected
    path.write_text('{"a": 1}\nno JSON\n')
    with pytest.raises(UserError, match="its last line is not JSON"):
        read_last_jsonl(path)


def test_checksums_that_were_cut_off_are_damage(tmp_path):
    for name in ("config.json", "model.safetensors", "optimizer.safetensors"):
        (tmp_path / name).write_text(name)
    write_checksums(tmp_path)
    sums = tmp_path / "SHA256SUMS"
    whole = sums.read_text()
    assert find_damage(tmp_path) == "" and len(read_checksums(tmp_path)) == 3
    for length in range(len(whole) - 1):
        sums.write_text(whole[:length])
        read_checksums(tmp_path)
        assert find_damage(tmp_path), f"cut off after {length} characters"
    assert find_damage(tmp_path) == "optimizer.safetensor changed since the checkpoint was written"
    sums.write_text("")
    assert find_damage(tmp_path) == "SHA256SUMS lacks model.safetensors and optimizer.safetensors"
    sums.write_text(whole)
    (tmp_path / "notes.txt").write_text("a note of the user's changes nothing")
    assert find_damage(tmp_path) == ""


def test_a_file_that_is_no_json_is_named(tmp_path):
    assert read_json(tmp_path / "status.json") is None
    (tmp_path / "status.json").write_text('{"state": "run')
    with pytest.raises(UserError, match=r"status.json: not JSON in UTF-8: Unterminated string"):
        read_json(tmp_path / "status.json")
