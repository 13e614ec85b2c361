"""LongVideoBench's layout, and its embedded stand-in: honest, the same bytes each time, measured as further levels."""

import json
from collections import Counter
from pathlib import Path

import av
import pytest

from rlvid import api
from rlvid.config import load
from rlvid.data import benchmark, kitchen_long
from rlvid.data.longvideobench import source
from rlvid.data.prompts import held_out
from rlvid.errors import UserError
from rlvid.utils.files import read_jsonl
from rlvid.video.cache import FrameCache
from tests.helpers.media import grey_frames, write_video

RECORD = {
    "id": "q_1",
    "video_id": "v",
    "video_path": "v.mp4",
    "subtitle_path": "v_en.json",
    "question": "What happens after the door opens?",
    "candidates": ["a dog barks", "a cat sleeps", "it rains", "someone sings", "nothing"],
    "correct_choice": 3,
    "question_category": "E3E",
    "topic_category": "NP-News-Programs",
    "duration": 10.0,
    "duration_group": 15,
    "starting_timestamp_for_subtitles": 100,
}


@pytest.fixture
def write(tmp_path):
    """Write records, a real clip and its subtitles; returns the root."""

    def write(*records, subtitles=()):
        (tmp_path / "lvb_val.json").write_text("[" + ",\n".join(map(json.dumps, records)) + "]")
        for folder in ("videos", "subtitles"):
            (tmp_path / folder).mkdir(exist_ok=True)
        write_video(tmp_path / "videos" / "v.mp4", grey_frames(20), fps=2)
        (tmp_path / "subtitles" / "v_en.json").write_text(json.dumps(list(subtitles)))
        return tmp_path

    return write


def test_a_record(write):
    root = write(RECORD)
    [prompt] = source(root).prompts()
    assert (prompt.id, prompt.answer, prompt.level, prompt.domain) == ("q_1", "D", "15s", "E3E")
    assert prompt.options == tuple(RECORD["candidates"]) and prompt.question == RECORD["question"]
    assert prompt.video == f"{root}/videos/v.mp4" and prompt.image is None
    assert prompt.meta == {"video_id": "v", "topic_category": "NP-News-Programs", "duration": 10.0}
    assert benchmark.levels(str(root)) == {"15s": [prompt]}  # the folder is recognised by its file


def test_subtitles_are_those_of_the_moments_shown_in_the_clips_own_seconds(write):
    """Of ten seconds from second 100 on, three moments: 0, 5 and 10."""
    said = [
        {"start": "00:00:10.000", "end": "00:01:39.000", "line": "before the clip"},
        {"start": "00:01:39.800", "end": "00:01:40.300", "line": " hello "},  # 0.5 s: a second around -0.05+..+0.05
        {"start": "00:01:42.000", "end": "00:01:44.500", "line": "between two moments"},
        {"timestamp": [104.0, 106.5], "text": "in the middle"},
        {"timestamp": [109.0, None], "text": "to the end"},
        {"start": "00:02:00.000", "end": "00:02:05.000", "line": "after the clip"},
    ]
    [prompt] = source(write(RECORD, subtitles=said), subtitles=3).prompts()
    shown = "Subtitles:\n[0 s] hello\n[4 s] in the middle\n[9 s] to the end\n"
    assert prompt.question == shown + RECORD["question"]
    assert prompt.text.startswith(shown + RECORD["question"] + "\nA. a dog barks\n")
    [silent] = source(write(RECORD), subtitles=3).prompts()
    assert silent.question == RECORD["question"]


def test_a_toml_file_asks_for_subtitles(write, tmp_path_factory):
    root = write(RECORD, subtitles=[{"timestamp": [104.0, 106.5], "text": "in the middle"}])
    file = tmp_path_factory.mktemp("elsewhere") / "lvb.toml"
    file.write_text(f'layout = "longvideobench"\npath = "{root}"\nsubtitles = 3\n')
    [[prompt]] = benchmark.levels(str(file)).values()
    assert prompt.question == f"Subtitles:\n[4 s] in the middle\n{RECORD['question']}"
    assert prompt.video == f"{root}/videos/v.mp4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct_choice": 5}, "correct_choice: must be one of the 5 candidates, from 0, not 5"),
        ({"correct_choice": -1}, "correct_choice: must be one of"),
        ({"correct_choice": "D"}, 'correct_choice: must be int, not "D"'),
        ({"candidates": ["a", None]}, "candidates: must be str, not null"),
        ({"question_category": "E4E"}, "question_category: must be one of S2E, "),
        ({"duration_group": "15"}, 'duration_group: must be int, not "15"'),
        ({"video_path": "../v.mp4"}, "video_path: videos/../v.mp4 leads out of"),
        ({"subtitle_path": "/etc/passwd"}, "subtitle_path: /etc/passwd leads out of"),
        ({"subtitle_path": "none.json"}, "subtitle_path: "),
        ({"duration": "10"}, 'duration: must be float, not "10"'),
    ],
)
def test_a_malformed_record_is_an_error_with_file_line_and_field(write, change, message):
    root = write(RECORD, RECORD | {"id": "q_2"} | change)
    with pytest.raises(UserError) as error:
        source(root, subtitles=4).prompts()
    assert str(error.value).startswith(f"{root}/lvb_val.json:2 (record 2): {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"start": "1:2", "end": "0:0:3", "line": "x"}, "start: must be "),
        ({"timestamp": [1.0], "text": "x"}, "timestamp: must be a start and an end"),
        ({"timestamp": [1.0, "2"], "text": "x"}, 'timestamp: must be float, not "2"'),
        ({"timestamp": [1.0, 2.0]}, "text: missing"),
    ],
)
def test_malformed_subtitles_are_named_by_their_own_file(write, line, message):
    root = write(RECORD, subtitles=[line])
    with pytest.raises(UserError, match=r"v_en.json:1 \(record 1\): ") as error:
        source(root, subtitles=4).prompts()
    assert message in str(error.value)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("films") / "data"
    kitchen_long.write(root, seed=3, films=12)
    return root


def test_bytes_are_a_function_of_the_seed(films, tmp_path):
    kitchen_long.write(tmp_path / "same", seed=3, films=12)
    kitchen_long.write(tmp_path / "other", seed=4, films=2)
    trees = [
        {p.relative_to(r): p.read_bytes() for p in r.rglob("*") if p.is_file()} for r in (films, tmp_path / "same")
    ]
    assert trees[0] == trees[1] and len(trees[0]) == 1 + 2 * 24
    assert (tmp_path / "other" / "lvb_val.json").read_text() != (films / "lvb_val.json").read_text()


def test_films_last_as_long_as_their_group_says(films):
    for record in json.loads((films / "lvb_val.json").read_text()):
        with av.open(str(films / "videos" / record["video_path"])) as container:
            seconds = float(container.duration / av.time_base)
        shortest = {15: 8, 60: 15}[record["duration_group"]]
        assert abs(seconds - record["duration"]) < 0.01 and shortest < seconds <= record["duration_group"]


def test_each_move_is_seen_flying_and_lying_in_sixteen_frames(films):
    """Of the frames that are shown, some of each busy slot's first half and some of its second half are there."""
    from rlvid.video.read import frame_indices

    for group, (_, hold) in kitchen_long.LENGTHS.items():
        total = 2 * hold * kitchen_long.SLOTS
        shown = frame_indices(total, kitchen_long.FPS, load("nano").video)
        assert len(shown) == 16
        assert {index // hold for index in shown} == set(range(2 * kitchen_long.SLOTS)), group


def test_the_right_option_follows_from_the_film_and_not_from_the_text(tmp_path):
    """Solved from the subtitles' slots and the moves drawn; blind rules are right one time in four."""
    kitchen_long.write(tmp_path / "d", seed=0, films=100)
    prompts = source(tmp_path / "d", subtitles=16).prompts()
    assert Counter((p.level, p.domain) for p in prompts)["15s", "E3E"] == 100
    assert all(len(set(p.options)) == 4 for p in prompts)
    places = Counter(p.answer for p in prompts)
    assert all(70 <= places[letter] <= 130 for letter in "ABCD")  # 100 expected, 8.7 its standard deviation
    planned = [p for p in prompts if p.domain == "E3E"]
    steps = []
    for p in planned:
        recipe = p.question.split(", then ")
        recipe = [recipe[0].split()[-1], *(r.strip("?") for r in recipe[1:])]
        assert p.question.split(" after the ")[1].split()[0] not in recipe  # or it would be one option less
        steps.append([f"put the {item} in the pot" for item in recipe].index(p.options["ABCD".index(p.answer)]))
    counts = Counter(steps)
    assert all(30 <= counts[step] <= 70 for step in range(4))  # 50 expected, 6.1 its standard deviation


def test_transfer_is_measured_as_further_levels(tmp_path):
    """A real run, untrained, on one question of each level."""
    changes = ["train.max_steps=0", "eval.splits=['L1']", "eval.transfer=['kitchen_long']", "eval.limit=1"]
    metrics = api.train("nano", changes, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / "eval").glob("*.jsonl")) == ["15s.jsonl", "60s.jsonl", "L1.jsonl"]
    [row] = read_jsonl(tmp_path / "run" / "eval" / "60s.jsonl")
    assert (row["level"], row["domain"], row["id"]) == ("60s", "E3E", "60s_00_E3E")
    assert row["video"].endswith("_60s_00") and {"eval/15s/accuracy", "eval/60s/accuracy"} <= metrics.keys()
    [prompt] = held_out(load("nano", changes))["60s"]
    frames = FrameCache(load("nano").video)
    assert frames(prompt).video.shape == (16, 56, 56, 3)
    frames.close()


def test_two_benchmarks_with_one_level_are_refused(films):
    with pytest.raises(UserError, match="has a level '15s', and so has another"):
        held_out(load("nano", ["eval.transfer=['kitchen_long', 'kitchen_long']"]))
    with pytest.raises(UserError, match=r"no level 'L1'. Known: 15s, 60s"):
        held_out(load("nano", [f'data="{films}"']))
    only = held_out(load("nano", [f'data="{films}"', "eval.splits=['60s']", "eval.transfer=[]"]))
    assert {p.level for p in only["60s"]} == {"60s"} and len(only["60s"]) == 24


def test_the_embedded_presets_measure_transfer_and_a_question_about_one_level_does_not(tmp_path):
    assert load("nano").eval.transfer == load("nano_sft").eval.transfer == ("kitchen_long",)
    run = tmp_path / "run"
    api.train("nano", ["train.max_steps=0", "eval.splits=['L1']", "eval.limit=1"], run)
    api.evaluate(run, splits=["L2"], out=tmp_path / "L2")
    api.evaluate(run, data="kitchen_long", splits=["60s"], out=tmp_path / "60s")
    asked = {p: sorted(f.stem for f in (tmp_path / p / "eval").glob("*.jsonl")) for p in ("run", "L2", "60s")}
    assert asked == {"run": ["15s", "60s", "L1"], "L2": ["L2"], "60s": ["60s"]}
