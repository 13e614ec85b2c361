"""Any benchmark by a map of its fields: the shapes that published ones have, and every way to get a map wrong."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rlvid.config import VideoConfig, load
from rlvid.data import benchmark, check
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.types import Completion, Group
from rlvid.utils.files import read_jsonl
from rlvid.video.cache import FrameCache
from tests.helpers import media
from tests.helpers.runs import TINY, train

EXAMPLES = Path(__file__).parents[2] / "experiments" / "benchmarks"
MAP = {"path": "q.jsonl", "question": "question", "options": "candidates", "answer": "answer"}
RECORD = {"question": "What opens?", "candidates": ["a door", "a tap", "a jar"], "answer": "a tap", "clip": "v"}


@pytest.fixture
def write(tmp_path):
    """Write records and their map; returns the TOML file's name."""

    def write(*records, **table):
        table = {"layout": "multiple_choice"} | MAP | table
        lines = [f"{k} = {json.dumps(v)}" for k, v in table.items() if v is not None and not isinstance(v, dict)]
        lines += [
            f"[{k}]\n" + "\n".join(f"{a} = {json.dumps(b)}" for a, b in v.items())
            for k, v in table.items()
            if isinstance(v, dict)
        ]
        (tmp_path / "mine.toml").write_text("\n".join(lines))
        text = "\n".join(map(json.dumps, records))
        (tmp_path / table["path"]).write_text(json.dumps(records) if table["path"].endswith(".json") else text)
        return str(tmp_path / "mine.toml")

    return write


def only(name):
    """The one prompt of a benchmark."""
    [[prompt]] = benchmark.load_levels(name).values()
    return prompt


def test_a_record_and_what_is_taken_where_the_map_is_silent(write, tmp_path):
    prompt = only(write(RECORD))
    assert (prompt.question, prompt.options, prompt.answer) == (RECORD["question"], tuple(RECORD["candidates"]), "B")
    assert (prompt.id, prompt.level, prompt.domain, prompt.video, prompt.image) == ("1", "mine", "", None, None)
    full = RECORD | {"n": 7, "task": "opening", "kind": "home", "still": "s/1.png"}
    fields = {"id": "n", "level": "task", "domain": "kind", "video": "videos/{task}/{clip}.mp4", "image": "{still}"}
    prompt = only(write(full, **fields))
    assert (prompt.id, prompt.level, prompt.domain) == ("7", "opening", "home")
    assert prompt.video == f"{tmp_path}/videos/opening/v.mp4" and prompt.image == f"{tmp_path}/s/1.png"
    assert prompt.meta == {"video_id": "v"}
    assert only(write(full | {"clip": None}, **fields)).video is None


def test_seconds_of_a_film_are_a_clip(write, tmp_path):
    fields = {"video": "films/{clip}.mp4#t={start},{end}"}
    prompt = only(write(RECORD | {"start": 1, "end": 2.75}, **fields))
    assert prompt.video == f"{tmp_path}/films/v.mp4#t=1.0,2.75" and prompt.meta == {"video_id": "v"}
    (tmp_path / "films").mkdir()
    media.write_video(tmp_path / "films" / "v.mp4", media.grey_frames(24), fps=8)
    clip = FrameCache(VideoConfig(fps=8, resized_height=56, resized_width=56, cache_dir=str(tmp_path)))(prompt)
    assert np.abs(clip.video.mean((1, 2, 3)) - np.round(np.linspace(8, 22, 14)) * 8).max() < 4


@pytest.mark.parametrize(
    ("more", "fragment", "message"),
    [
        ({"start": 3, "end": 1}, "#t={start},{end}", "films/v.mp4#t=3.0,1.0 ends before it begins"),
        ({"start": -1, "end": 1}, "#t={start},{end}", "must end in #t=START,END, seconds from 0"),
        ({"start": 1}, "#t={start}", "must end in #t=START,END, seconds from 0"),
        ({"start": None, "end": 1}, "#t={start},{end}", "start: must be float, not null"),
        ({"start": "0:01", "end": 1}, "#t={start},{end}", "start: must be float"),
        ({"start": 0}, "#t={start},{end}", "end: missing"),
    ],
)
def test_seconds_that_are_none(write, more, fragment, message):
    with pytest.raises(UserError, match=re.escape(message)):
        only(write(RECORD | more, video="films/{clip}.mp4" + fragment))


def test_seconds_lead_nowhere_that_their_film_does_not(write, tmp_path):
    outside = tmp_path.with_name("outside.mp4")
    outside.write_bytes(b"")
    (tmp_path / "v.mp4").symlink_to(outside)
    with pytest.raises(UserError, match="leads out of"):
        only(write(RECORD, video="{clip}.mp4#t=0,1"))


@pytest.mark.parametrize("answer", [1, "B", "b", "(B)", "B.", "a tap", "A Tap.", "B. a tap"])
def test_answers_are_letters_places_or_texts(write, answer):
    assert only(write(RECORD | {"answer": answer})).answer == "B"


@pytest.mark.parametrize(
    ("options", "table"),
    [
        (["A. a door", "B. a tap", "C. a jar"], {}),
        (["(A) a door", "(B) a tap", "(C) a jar"], {}),
        (["A: a door", "B: a tap", "C: a jar"], {}),
        ({"A": "a door", "B": "a tap", "C": "a jar", "D": None, "E": ""}, {}),
    ],
)
def test_options_are_lists_or_tables_lettered_or_not(write, options, table):
    assert only(write(RECORD | {"candidates": options}, **table)).options == ("a door", "a tap", "a jar")


def test_options_in_several_fields_or_in_the_questions_lines(write):
    record = {"question": "What opens?", "option0": "a door", "option1": "a tap", "answer": 1}
    assert only(write(record, options=["option0", "option1"])).options == ("a door", "a tap")
    prompt = only(write({"question": "What opens?\nA. a door\nB. a tap", "answer": "B. a tap"}, options=None))
    assert (prompt.question, prompt.options, prompt.answer) == ("What opens?", ("a door", "a tap"), "B")


def test_options_that_only_look_lettered_keep_their_words(write):
    assert only(write(RECORD | {"candidates": ["A. Bell", "C. Dodo"], "answer": 0})).options == ("A. Bell", "C. Dodo")


def test_where_asks_some_records_and_levels_split_the_rest(write):
    records = [RECORD | {"id": i, "type": "mc" if i % 2 else "open", "task": f"t{i % 3}"} for i in range(12)]
    levels = benchmark.load_levels(write(*records, id="id", level="task", where={"type": "mc"}, path="q.json"))
    assert {level: [p.id for p in prompts] for level, prompts in levels.items()} == {
        "t1": ["1", "7"],
        "t0": ["3", "9"],
        "t2": ["5", "11"],
    }


@pytest.mark.parametrize(
    ("change", "table", "message"),
    [
        ({"answer": 3}, {}, "answer: '3' names not one of the 3 options"),
        ({"answer": "a window"}, {}, "answer: 'a window' names not one of the 3 options"),
        ({"answer": True}, {}, "answer: must be str, not true"),
        ({"answer": None}, {}, "answer: must be str, not null"),
        ({"candidates": "a, b"}, {}, 'candidates: must be list, not "a, b"'),
        ({"candidates": ["a"]}, {}, "candidates: needs 2 to 26 options"),
        ({"candidates": ["a", "", "b"], "answer": 0}, {}, "candidates: is blank"),
        ({"candidates": {"A": "a", "C": "b"}, "answer": 0}, {}, "candidates: needs 2 to 26 options, lettered from A"),
        ({"candidates": ["x"] * 27}, {}, "candidates: needs 2 to 26 options"),
        ({"candidates": ["a tap", "A tap"]}, {}, "answer: 'a tap' names not one"),
        ({}, {"video": "videos/{clp}.mp4"}, "clp: missing; the record has question, "),
        ({"clip": "../../x"}, {"video": "videos/{clip}.mp4"}, "video: videos/../../x.mp4 leads out of "),
        ({"clip": "https://x.org/v.mp4"}, {"video": "{clip}"}, None),
        ({}, {"options": None}, "question: must hold lines 'A. ..'"),
        ({}, {"id": "sample"}, "sample: missing"),
        ({}, {"level": "split"}, "split: missing"),
    ],
)
def test_a_record_that_does_not_fit_is_an_error_with_file_line_and_field(write, tmp_path, change, table, message):
    name = write(RECORD | {"question": "first"}, RECORD | change, **table)
    if message is None:
        assert (
            benchmark.load_levels(name)["mine"][1].video == f"{tmp_path}/https:/x.org/v.mp4"
        )  # a file that is not there
        return
    with pytest.raises(UserError) as error:
        benchmark.load_levels(name)
    first = 1 if table and "clip" not in change else 2
    assert str(error.value).startswith(f"{tmp_path}/q.jsonl:{first}: {message}")


def test_a_repeated_id(write):
    with pytest.raises(UserError, match=r"q.jsonl:2: n: 5 stands on an earlier line too"):
        benchmark.load_levels(write(RECORD | {"n": 5}, RECORD | {"n": "5"}, id="n"))


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
def test_a_map_that_is_wrong_is_one_line(tmp_path, text, message):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        benchmark.load_levels(str(tmp_path / "m.toml"))
    assert "\n" not in str(error.value)


def test_a_folder_without_a_known_layout_says_what_is_read(tmp_path):
    with pytest.raises(UserError, match=r"neither annotations/ in SEED-Bench-R1's layout nor lvb_val.json"):
        benchmark.load_levels(str(tmp_path))
    with pytest.raises(UserError, match=r"no such folder. Did you mean 'kitchen_long'\?"):
        benchmark.load_levels("kitchen_lon")


def test_ones_own_data_is_trained_on_by_its_level(write):
    name = write(*[RECORD | {"id": i, "split": "train" if i < 5 else "test"} for i in range(8)], id="id", level="split")
    config = load("nano", [f'data="{name}"', "eval.splits=['test']"])
    assert [p.id for p in benchmark.load_level(name, "train")] == ["0", "1", "2", "3", "4"]
    assert [p.id for p in held_out_prompts(name, ("test",))["test"]] == ["5", "6", "7"]


def test_the_runs_id_follows_the_maps_contents(write):
    change = [f'eval.transfer=["{write(RECORD)}"]']
    before = load("nano", change).id
    write(RECORD, level="question")
    assert load("nano", change).id != before != load("nano").id


PUBLISHED = {  # a record with the fields that each benchmark publishes
    "mvbench": {"video": "v.mp4", "question": "q?", "candidates": ["yes", "no", "not sure"], "answer": "no"},
    "mvbench_seconds": {
        **{"video": "v.mp4", "question": "q?", "candidates": ["yes", "no"], "answer": "no"},
        **{"start": 2.5, "end": 11},
    },
    "tempcompass": {"video_id": "1", "question": "q?\nA. up\nB. down", "answer": "B. down", "dim": "direction"},
    "mmvu": {
        "id": "validation_0",
        "video_path": "videos/Art/0.mp4",
        "question": "q?",
        "question_type": "multiple-choice",
        "choices": {"A": "one", "B": "two", "C": "three", "D": "four", "E": "five"},
        "answer": "B",
    },
    "video_mme": {
        "videoID": "abc",
        "question_id": "001-1",
        "duration": "short",
        "domain": "Knowledge",
        "question": "q?",
        "options": ["A. one.", "B. two.", "C. three.", "D. four."],
        "answer": "B",
    },
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_shipped_maps_read_what_is_published(name, tmp_path):
    text = (EXAMPLES / f"{name}.toml").read_text()
    assert len([line for line in text.splitlines() if line and line[0] != "#"]) <= 10
    (tmp_path / f"{name}.toml").write_text(text)
    source = benchmark.annotation_files(str(tmp_path / f"{name}.toml"))["questions"]
    source.path.parent.mkdir(parents=True, exist_ok=True)
    source.path.write_text(json.dumps([PUBLISHED[name]] if source.path.suffix == ".json" else PUBLISHED[name]))
    [prompt] = source.prompts()
    assert prompt.answer == "B" and ".mp4" in prompt.video and not prompt.options[0].startswith("A. ")


def test_every_shipped_map_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(PUBLISHED)


PLACED = {"question": "When?", "answer": "a tap", "when": [2, 5.5], "where": [0, 8, 10, 20]}


def test_answers_in_words_in_time_and_in_the_picture(write):
    prompt = only(write(PLACED, options=[], span="when", box="where"))
    assert (prompt.options, prompt.answer) == ((), "a tap")
    assert prompt.meta == {"span": (2.0, 5.5), "box": (0.0, 8.0, 10.0, 20.0)}
    assert [only(write(PLACED | {"answer": n}, options=[])).answer for n in (12, 0.5)] == ["12", "0.5"]
    assert only(write(RECORD | {"when": [1, 2]}, span="when")).meta == {"span": (1.0, 2.0)}, "beside options, too"
    assert not list(check.prompt_problems(prompt))


@pytest.mark.parametrize(
    ("wrong", "says"),
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
def test_a_place_that_is_none_says_where(write, wrong, says):
    with pytest.raises(UserError, match=re.escape(says)):
        only(write(PLACED | wrong, options=[], span="when", box="where"))


@pytest.mark.parametrize(
    ("reward", "gold"),
    [("open_ended", "take corn"), ("grounding_tiou", "0.0 to 1.5"), ("grounding_box_iou", "[0, 0, 28, 28]")],
)
def test_a_step_is_trained_on_such_a_file_of_kitchen_clips(kitchen, tmp_path, capsys, reward, gold):
    clips = sorted(benchmark.root("kitchen").rglob("*.mp4"))[:4]
    records = [
        {"question": "What, when and where?", "answer": "take corn", "when": [0, 1.5], "where": [0, 0, 28, 28]}
    ] * 4
    for i, clip in enumerate(clips):
        shutil.copy(clip, tmp_path / f"{i}.mp4")
    lines = [json.dumps(record | {"n": i}) for i, record in enumerate(records)]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    where = {"layout": "multiple_choice", "path": "q.jsonl", "question": "question", "options": [], "answer": "answer"}
    where |= {"span": "when", "box": "where", "video": "{n}.mp4", "id": "n"}
    (tmp_path / "train.toml").write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in where.items()))
    data = f"data={tmp_path / 'train.toml'}"
    out = train(tmp_path / "run", *TINY, data, f"rewards.{reward}=1", "rewards.accuracy=0", "eval.splits=[]")
    rows = read_jsonl(out / "samples/step-000001.jsonl")
    assert len(rows) == 4 and all(0 <= value <= 1 for row in rows for value in row["columns"][reward])
    assert read_jsonl(out / "metrics.jsonl")[0][f"rewards/{reward}/mean"] >= 0
    prompt = benchmark.load_level(str(tmp_path / "train.toml"), "train")[0]
    assert build("rewards", reward)([Group(prompt, [Completion(f"<answer>{gold}</answer>")])]) == [[1.0]]
    assert "applies to none" not in capsys.readouterr().err


def test_a_reward_that_can_never_apply_is_said_before_the_first_step(kitchen, tmp_path, capsys):
    train(tmp_path / "run", *TINY, "rewards.grounding_tiou=1", "rewards.open_ended=0", "eval.splits=[]")
    assert "'grounding_tiou' applies to none of the 1200 samples" in " ".join(capsys.readouterr().err.split())
