"""The records and maps that experiments/benchmarks/README.md shows are read as it says."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from rlvid.data import benchmark, longvideobench
from rlvid.data.multiple_choice import FieldMap
from rlvid.data.seed_bench_r1 import SPLITS

README = (Path(__file__).parents[2] / "experiments" / "benchmarks" / "README.md").read_text()


def shown(heading, language):
    """The fenced blocks of a language under a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.M | re.S)


def test_the_records_in_seed_bench_r1s_layout(tmp_path):
    records = map(json.loads, shown("Layout of SEED-Bench-R1", "json"))
    (tmp_path / "annotations").mkdir()
    for split, record in zip(("train", "L1", "train_cot"), records, strict=True):
        (tmp_path / "annotations" / SPLITS[split]).write_text(json.dumps(record))
    question, validation, demonstration = (
        benchmark.load_level(str(tmp_path), split)[0] for split in ("train", "L1", "train_cot")
    )
    assert question.options["ABCD".index(question.answer)] == "close cupboard"
    assert question.narrations == ("open cupboard", "put cereal")
    assert question.video == demonstration.video == f"{tmp_path}/videos/EpicKitchens/115.mp4"
    assert (validation.answer, validation.video, validation.domain) == ("C", None, "Daily life")
    assert (demonstration.answer, demonstration.question) == ("C", "What next?")
    assert demonstration.demonstration.endswith("<answer>C</answer>")


@pytest.mark.parametrize("subtitles", [False, True])
def test_the_record_in_longvideobenchs_layout(tmp_path, subtitles):
    [record], [table] = (shown("Layout of LongVideoBench", language) for language in ("json", "toml"))
    (tmp_path / longvideobench.ANNOTATION_FILE).write_text(record)
    (tmp_path / "lvb.toml").write_text(table)
    (tmp_path / "subtitles").mkdir()
    (tmp_path / "subtitles" / "v_en.json").write_text('[{"timestamp": [100, 110], "text": "hello"}]')
    [(level, [prompt])] = benchmark.load_levels(str(tmp_path / "lvb.toml" if subtitles else tmp_path)).items()
    assert (level, prompt.domain, prompt.answer, prompt.video) == ("15s", "E3E", "D", f"{tmp_path}/videos/v.mp4")
    assert prompt.question.startswith("Subtitles:\n[0 s] hello") == subtitles


def test_the_field_map(tmp_path):
    [record], [table] = (shown("Field maps", language) for language in ("json", "toml"))
    (tmp_path / "questions.jsonl").write_text(json.dumps(json.loads(record)))
    (tmp_path / "mine.toml").write_text(table)
    [(level, [prompt])] = benchmark.load_levels(str(tmp_path / "mine.toml")).items()
    assert (level, prompt.id, prompt.answer, prompt.video) == ("opening", "7", "B", f"{tmp_path}/videos/a1.mp4")


def test_the_map_of_two_files(tmp_path):
    [record], [table] = shown("Field maps", "json"), shown("Train on your own data", "toml")
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(json.loads(record)))
    (tmp_path / "mine.toml").write_text(table)
    levels = benchmark.load_levels(str(tmp_path / "mine.toml"))
    assert [(level, prompt.video) for level, [prompt] in levels.items()] == [("test", f"{tmp_path}/videos/a1.mp4")]
    [prompt] = benchmark.load_level(str(tmp_path / "mine.toml"), "train")
    assert (prompt.id, prompt.answer) == ("7", "B")


def test_the_table_of_keys_is_complete():
    rows = re.findall(r"^\| (`.*?) \|", README.split("\n## Field maps\n")[1].split("\n## ")[0], re.M)
    assert sorted(key for row in rows for key in re.findall(r"`(\w+)`", row)) == sorted(
        f.name for f in fields(FieldMap)
    )


def test_every_map_is_listed():
    maps = {path.name for path in (Path(__file__).parents[2] / "experiments" / "benchmarks").glob("*.toml")}
    assert set(re.findall(r"\]\((\w+\.toml)\)", README)) == maps
