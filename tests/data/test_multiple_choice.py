"""Tests of benchmarks that a TOML file describes: all shapes of published ones, and every error in a file."""

import json
import re
import shutil

import numpy as np
import pytest

from rlvid.config import VideoConfig, load
from rlvid.data import benchmark, check
from rlvid.data.check import find_problems
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.interop.trl import from_trl
from rlvid.registry import build
from rlvid.types import Completion, Group
from rlvid.utils.files import read_jsonl
from rlvid.video.cache import FrameCache
from tests.helpers import media
from tests.helpers.runs import TINY, train

FIELDS = {"path": "q.jsonl", "question": "question", "options": "candidates", "answer": "answer"}
RECORD = {"question": "What opens?", "candidates": ["a door", "a tap", "a jar"], "answer": "a tap", "clip": "v"}


def to_toml(table) -> str:
    """Return a table as TOML; keys with None are left out."""
    values = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict | None)]
    tables = [f"[{key}]\n{to_toml(value)}" for key, value in table.items() if isinstance(value, dict)]
    return "\n".join(values + tables)


@pytest.fixture
def write(tmp_path):
    """A function that writes records and a TOML file with a map of fields; it returns the TOML file's name."""

    def write(*records, **fields):
        table = {"layout": "multiple_choice"} | FIELDS | fields
        (tmp_path / "mine.toml").write_text(to_toml(table))
        lines = "\n".join(map(json.dumps, records))
        (tmp_path / table["path"]).write_text(json.dumps(records) if table["path"].endswith(".json") else lines)
        return str(tmp_path / "mine.toml")

    return write


def only_prompt(name):
    """Return the only prompt of a benchmark."""
    [[prompt]] = benchmark.load_levels(name).values()
    return prompt


def test_a_record_becomes_a_prompt_with_defaults_for_unmapped_fields(write, tmp_path):
    prompt = only_prompt(write(RECORD))
    assert (prompt.question, prompt.options, prompt.answer) == (RECORD["question"], tuple(RECORD["candidates"]), "B")
    assert (prompt.id, prompt.level, prompt.domain, prompt.video, prompt.image) == ("1", "mine", "", None, None)
    full = RECORD | {"n": 7, "task": "opening", "kind": "home", "still": "s/1.png"}
    fields = {"id": "n", "level": "task", "domain": "kind", "video": "videos/{task}/{clip}.mp4", "image": "{still}"}
    prompt = only_prompt(write(full, **fields))
    assert (prompt.id, prompt.level, prompt.domain) == ("7", "opening", "home")
    assert prompt.video == f"{tmp_path}/videos/opening/v.mp4" and prompt.image == f"{tmp_path}/s/1.png"
    assert prompt.meta == {"video_id": "v"}
    assert only_prompt(write(full | {"clip": None}, **fields)).video is None


def test_seconds_may_be_so_small_that_python_writes_an_exponent(write):
    prompt = only_prompt(write(RECORD | {"start": 1e-05, "end": 4.0}, video="{clip}.mp4#t={start},{end}"))
    assert str(prompt.video).endswith("/v.mp4#t=0.00001,4.0")


def test_seconds_in_the_path_cut_a_clip_from_a_film(write, tmp_path):
    fields = {"video": "films/{clip}.mp4#t={start},{end}"}
    prompt = only_prompt(write(RECORD | {"start": 1, "end": 2.75}, **fields))
    assert prompt.video == f"{tmp_path}/films/v.mp4#t=1.0,2.75" and prompt.meta == {"video_id": "v"}
    (tmp_path / "films").mkdir()
    media.write_video(tmp_path / "films" / "v.mp4", media.grey_frames(24), fps=8)
    clip = FrameCache(VideoConfig(fps=8, resized_height=56, resized_width=56, cache_dir=str(tmp_path)))(prompt)
    assert np.abs(clip.video.mean((1, 2, 3)) - np.round(np.linspace(8, 22, 14)) * 8).max() < 4


@pytest.mark.parametrize(
    ("more", "fragment", "message"),
    [
        ({"start": 3, "end": 1}, "#t={start},{end}", "films/v.mp4#t=3.0,1.0: its end is not after its start"),
        ({"start": -1, "end": 1}, "#t={start},{end}", "must end in #t=START,END, with seconds from 0"),
        ({"start": 1}, "#t={start}", "must end in #t=START,END, with seconds from 0"),
        ({"start": None, "end": 1}, "#t={start},{end}", "start: must be float, not null"),
        ({"start": "0:01", "end": 1}, "#t={start},{end}", "start: must be float"),
        ({"start": 0}, "#t={start},{end}", "end: missing"),
    ],
)
def test_seconds_that_cannot_be_a_clip_are_an_error(write, more, fragment, message):
    with pytest.raises(UserError, match=re.escape(message)):
        only_prompt(write(RECORD | more, video="films/{clip}.mp4" + fragment))


def test_a_link_out_of_the_folder_is_an_error_with_seconds_too(write, tmp_path):
    outside = tmp_path.with_name("outside.mp4")
    outside.write_bytes(b"")
    (tmp_path / "v.mp4").symlink_to(outside)
    with pytest.raises(UserError, match="leads out of"):
        only_prompt(write(RECORD, video="{clip}.mp4#t=0,1"))


@pytest.mark.parametrize("answer", [1, "B", "b", "(B)", "B.", "a tap", "A Tap.", "B. a tap"])
def test_an_answer_may_be_a_letter_an_index_or_a_text(write, answer):
    assert only_prompt(write(RECORD | {"answer": answer})).answer == "B"


@pytest.mark.parametrize(
    "options",
    [
        ["A. a door", "B. a tap", "C. a jar"],
        ["(A) a door", "(B) a tap", "(C) a jar"],
        ["A: a door", "B: a tap", "C: a jar"],
        {"A": "a door", "B": "a tap", "C": "a jar", "D": None, "E": ""},
    ],
)
def test_options_may_be_a_list_or_a_table_and_lose_their_letters(write, options):
    assert only_prompt(write(RECORD | {"candidates": options})).options == ("a door", "a tap", "a jar")


def test_options_may_be_in_several_fields_or_in_lines_of_the_question(write):
    record = {"question": "What opens?", "option0": "a door", "option1": "a tap", "answer": 1}
    assert only_prompt(write(record, options=["option0", "option1"])).options == ("a door", "a tap")
    prompt = only_prompt(write({"question": "What opens?\nA. a door\nB. a tap", "answer": "B. a tap"}, options=None))
    assert (prompt.question, prompt.options, prompt.answer) == ("What opens?", ("a door", "a tap"), "B")


def test_options_that_only_look_lettered_keep_their_text(write):
    options = ("A. Bell", "C. Dodo")
    assert only_prompt(write(RECORD | {"candidates": options, "answer": 0})).options == options


def test_where_selects_records_and_a_field_gives_their_levels(write):
    records = [RECORD | {"id": i, "type": "mc" if i % 2 else "open", "task": f"t{i % 3}"} for i in range(12)]
    levels = benchmark.load_levels(write(*records, id="id", level="task", where={"type": "mc"}, path="q.json"))
    assert {level: [p.id for p in prompts] for level, prompts in levels.items()} == {
        "t1": ["1", "7"],
        "t0": ["3", "9"],
        "t2": ["5", "11"],
    }


@pytest.mark.parametrize(
    ("change", "fields", "message"),
    [
        ({"answer": 3}, {}, "answer: '3' is none of the 3 options"),
        ({"answer": "a window"}, {}, "answer: 'a window' is none of the 3 options"),
        ({"answer": True}, {}, "answer: must be str, not true"),
        ({"answer": None}, {}, "answer: must be str, not null"),
        ({"candidates": "a, b"}, {}, 'candidates: must be list, not "a, b"'),
        ({"candidates": ["a"]}, {}, "candidates: must hold 2 to 26 options"),
        ({"candidates": ["a", "", "b"], "answer": 0}, {}, "candidates: is blank"),
        (
            {"candidates": {"A": "a", "C": "b"}, "answer": 0},
            {},
            "candidates: must hold 2 to 26 options; the keys of a table must be A, B, C",
        ),
        ({"candidates": {"B": "a", "C": "b"}, "answer": 0}, {}, "candidates: must hold 2 to 26 options; the keys"),
        ({"candidates": ["x"] * 27}, {}, "candidates: must hold 2 to 26 options"),
        ({"candidates": ["a tap", "A tap"]}, {}, "answer: 'a tap' is none of the 2 options"),
        ({}, {"video": "videos/{clp}.mp4"}, "clp: missing; the record has question, "),
        ({}, {"video": "clip"}, "video: a path is expected, and 'clip' is a field: write \"{clip}\" in the TOML file"),
        ({"clip": "../../x"}, {"video": "videos/{clip}.mp4"}, "video: videos/../../x.mp4 leads out of "),
        ({}, {"options": None}, "question: must hold lines 'A. ..'"),
        ({}, {"id": "sample"}, "sample: missing"),
        ({}, {"level": "split"}, "split: missing"),
    ],
)
def test_the_error_about_a_record_names_file_line_and_field(write, tmp_path, change, fields, message):
    name = write(RECORD | {"question": "first"}, RECORD | change, **fields)
    with pytest.raises(UserError) as error:
        benchmark.load_levels(name)
    line = 1 if fields and "clip" not in change else 2  # a wrong map of fields fails at the first record
    assert str(error.value).startswith(f"{tmp_path}/q.jsonl:{line}: {message}")


def test_an_address_is_read_as_the_path_of_a_file_under_the_folder(write, tmp_path):
    prompt = only_prompt(write(RECORD | {"clip": "https://x.org/v.mp4"}, video="{clip}"))
    assert prompt.video == f"{tmp_path}/https:/x.org/v.mp4"


def test_two_records_with_one_id_are_an_error(write):
    with pytest.raises(UserError, match=r"q.jsonl:2: n: 5 is the id of an earlier record too"):
        benchmark.load_levels(write(RECORD | {"n": 5}, RECORD | {"n": "5"}, id="n"))


def test_two_records_with_one_id_in_two_files_of_a_level_are_an_error(write, tmp_path):
    files = ["a.jsonl", "b.jsonl"]
    name = write(RECORD | {"n": 5})
    for file in files:
        (tmp_path / file).write_text(json.dumps(RECORD | {"n": 5}))
    table = {"layout": "multiple_choice"} | FIELDS | {"path": files, "id": "n"}
    (tmp_path / "mine.toml").write_text(to_toml(table))
    with pytest.raises(UserError, match=r"b.jsonl:1: n: 5 is the id of an earlier record too"):
        benchmark.load_levels(name)
    assert [problem.kind for problem in find_problems(name).problems] == ["duplicate id"]
    (tmp_path / "mine.toml").write_text(to_toml(table | {"level": "file"}))
    assert {level: len(prompts) for level, prompts in benchmark.load_levels(name).items()} == {"a": 1, "b": 1}
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text(json.dumps(RECORD))
    (tmp_path / "mine.toml").write_text(to_toml(table | {"path": ["x/a.jsonl", "y/a.jsonl"], "id": ""}))
    with pytest.raises(UserError, match="a-1 is the id of an earlier record too; map a field as `id`, or rename"):
        benchmark.load_levels(name)


def test_a_folder_with_a_colon_does_not_change_the_name_of_a_file(tmp_path):
    folder = tmp_path / "run:1"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(RECORD))
    (folder / "m.toml").write_text(
        to_toml({"layout": "multiple_choice"} | FIELDS | {"path": ["a.jsonl"], "level": "file"})
    )
    assert list(benchmark.load_levels(str(folder / "m.toml"))) == ["a"]


def test_training_and_dev_levels_are_no_test(write):
    records = [RECORD | {"split": split} for split in ("train", "test", "dev")]
    name = write(*records, level="split")
    assert list(benchmark.load_levels(name)) == ["test"]
    assert [len(benchmark.load_level(name, level)) for level in ("train", "dev")] == [1, 1]
    with pytest.raises(UserError, match="which no test reads"):
        benchmark.load_levels(write(records[0], level="split"))


def test_a_mapped_column_keeps_its_value_and_missing_options_are_an_error(write):
    prompt = only_prompt(write(RECORD | {"video_id": "film 7"}, columns=["video_id"], video="{clip}.mp4"))
    assert prompt.meta["video_id"] == "film 7"
    fields = {"options": ["x", "y"], "no_option": "N/A", "answer": "question"}
    with pytest.raises(UserError, match=r"q.jsonl:1: x: must be the first of two options or more, not \[\]"):
        benchmark.load_levels(write(RECORD | {"x": "N/A", "y": "N/A"}, **fields))
    assert only_prompt(write(RECORD | {"x": "N/A", "y": "N/A"}, kind="free_form", **fields)).options == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layout = 'multiple_choice'\nqestion = 'q'", r"unknown key 'qestion'. Did you mean 'question'\?"),
        ("layout = 'multiple_choice'\nquestion = 'q'\npath = 'p'", "needs answer"),
        ("layout = 'multiple_choice'\nquestion = 5", "question must be str, not 5"),
        ("question = 'q'", "layout must be"),
        ("layout = ", "cannot be read as TOML"),
        ("layout = 'longvideobench'\nsubtitles = true", "subtitles must be int, not True"),
    ],
)
def test_the_error_about_a_toml_file_is_one_line(tmp_path, text, message):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        benchmark.load_levels(str(tmp_path / "m.toml"))
    assert "\n" not in str(error.value)


def test_the_error_about_a_folder_names_the_layouts_or_a_similar_benchmark(tmp_path):
    with pytest.raises(UserError, match=r"neither annotations/ in SEED-Bench-R1's layout nor lvb_val.json"):
        benchmark.load_levels(str(tmp_path))
    with pytest.raises(UserError, match=r"no such folder. Did you mean 'kitchen_long'\?"):
        benchmark.load_levels("kitchen_lon")


def test_data_of_ones_own_is_trained_on_and_evaluated_by_level(write):
    records = [RECORD | {"id": i, "split": "train" if i < 5 else "test"} for i in range(8)]
    name = write(*records, id="id", level="split")
    assert [prompt.id for prompt in benchmark.load_level(name, "train")] == ["0", "1", "2", "3", "4"]
    assert [prompt.id for prompt in held_out_prompts(name, ("test",))["test"]] == ["5", "6", "7"]


def test_the_id_of_a_run_depends_on_the_contents_of_the_toml_file(write):
    overrides = [f'eval.transfer=["{write(RECORD)}"]']
    before = load("nano", overrides).id
    write(RECORD, level="question")
    assert load("nano", overrides).id != before != load("nano").id


REGION_RECORD = {"question": "When?", "answer": "a tap", "when": [2, 5.5], "where": [0, 8, 10, 20]}


def test_an_answer_may_be_a_text_a_span_of_time_or_a_box(write):
    prompt = only_prompt(write(REGION_RECORD, options=[], span="when", box="where"))
    assert (prompt.options, prompt.answer) == ((), "a tap")
    assert prompt.meta == {"span": (2.0, 5.5), "box": (0.0, 8.0, 10.0, 20.0)}
    assert [only_prompt(write(REGION_RECORD | {"answer": n}, options=[])).answer for n in (12, 0.5)] == ["12", "0.5"]
    assert only_prompt(write(RECORD | {"when": [1, 2]}, span="when")).meta == {"span": (1.0, 2.0)}, "with options too"
    assert not list(check.prompt_problems(prompt))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"when": [5, 2]}, "when: span must be 2 numbers, each end after its start"),
        ({"when": [5]}, "when: span must be 2 numbers"),
        ({"when": ["a", 2]}, 'when: must be float, not "a"'),
        ({"when": 5}, "when: must be list, not 5"),
        ({"where": [0, 8, 0, 20]}, "where: box must be 4 numbers"),
        ({"answer": ""}, "answer: is blank"),
        ({"answer": None}, "answer: must be str, not null"),
    ],
)
def test_the_error_about_a_span_or_box_names_the_field(write, change, message):
    with pytest.raises(UserError, match=re.escape(message)):
        only_prompt(write(REGION_RECORD | change, options=[], span="when", box="where"))


@pytest.mark.parametrize(
    ("reward", "gold"),
    [("open_ended", "take corn"), ("grounding_tiou", "0.0 to 1.5"), ("grounding_box_iou", "[0, 0, 28, 28]")],
)
def test_rewards_for_texts_spans_and_boxes_are_trained_on(kitchen, tmp_path, capsys, reward, gold):
    """One step of training on a hand-made file about clips of the kitchen."""
    record = {"question": "What, when and where?", "answer": "take corn", "when": [0, 1.5], "where": [0, 0, 28, 28]}
    clips = sorted(kitchen.rglob("*.mp4"))[:4]
    for number, clip in enumerate(clips):
        shutil.copy(clip, tmp_path / f"{number}.mp4")
    lines = [json.dumps(record | {"n": number}) for number in range(len(clips))]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    fields = {"path": "q.jsonl", "question": "question", "options": [], "answer": "answer", "id": "n"}
    fields |= {"span": "when", "box": "where", "video": "{n}.mp4"}
    (tmp_path / "train.toml").write_text(to_toml({"layout": "multiple_choice"} | fields))
    data = f"data={tmp_path / 'train.toml'}"
    run = train(tmp_path / "run", *TINY, data, f"rewards.{reward}=1", "rewards.accuracy=0", "eval.splits=[]")
    rows = read_jsonl(run / "samples/step-000001.jsonl")
    assert len(rows) == 4 and all(0 <= value <= 1 for row in rows for value in row["columns"][reward])
    assert read_jsonl(run / "metrics.jsonl")[0][f"rewards/{reward}/mean"] >= 0
    prompt = benchmark.load_level(str(tmp_path / "train.toml"), "train")[0]
    assert build("rewards", reward)([Group(prompt, [Completion(f"<answer>{gold}</answer>")])]) == [[1.0]]
    assert "applies to none" not in capsys.readouterr().err


def test_a_warning_before_training_names_a_reward_that_never_applies(kitchen, tmp_path, capsys):
    train(tmp_path / "run", *TINY, "rewards.grounding_tiou=1", "rewards.open_ended=0", "eval.splits=[]")
    assert "'grounding_tiou' applies to none of the 120 samples" in " ".join(capsys.readouterr().err.split())


def test_further_fields_reach_a_reward_function_of_trl(write):
    name = write(RECORD | {"difficulty": 3, "tags": ["x"]}, columns=["difficulty", "tags"])
    [[prompt]] = benchmark.load_levels(name).values()
    assert prompt.meta["difficulty"] == 3
    received = {}

    def reward(completions, difficulty, **columns):
        received.update(columns, difficulty=difficulty)
        return [0.0] * len(completions)

    from_trl(reward)([Group(prompt, [Completion("a"), Completion("b")])])
    assert (received["difficulty"], received["tags"]) == ([3, 3], [["x"], ["x"]])
    with pytest.raises(UserError, match=r"q\.jsonl:1: level_of: is missing; columns names it, and there are question"):
        benchmark.load_levels(write(RECORD, columns=["level_of"]))
