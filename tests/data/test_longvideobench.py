"""Tests of LongVideoBench's layout, of the embedded benchmark in this layout, and of evaluation on further levels."""

import json
from collections import Counter
from pathlib import Path

import av
import pytest

from rlvid import api
from rlvid.config import load
from rlvid.data import benchmark, kitchen_long
from rlvid.data.longvideobench import annotation_file
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.utils.files import read_jsonl
from rlvid.video.cache import FrameCache
from rlvid.video.read import frame_indices
from tests.helpers.media import grey_frames, write_video

pytestmark = pytest.mark.usefixtures("quick_runs")

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
    """A function that writes records, a real clip and its subtitles, and returns the data set's folder."""

    def write(*records, subtitles=()):
        (tmp_path / "lvb_val.json").write_text("[" + ",\n".join(map(json.dumps, records)) + "]")
        for folder in ("videos", "subtitles"):
            (tmp_path / folder).mkdir(exist_ok=True)
        write_video(tmp_path / "videos" / "v.mp4", grey_frames(20), fps=2)
        (tmp_path / "subtitles" / "v_en.json").write_text(json.dumps(list(subtitles)))
        return tmp_path

    return write


def test_a_record_becomes_a_prompt(write):
    root = write(RECORD)
    [prompt] = annotation_file(root).prompts()
    assert (prompt.id, prompt.answer, prompt.level, prompt.domain) == ("q_1", "D", "15s", "E3E")
    assert prompt.options == tuple(RECORD["candidates"]) and prompt.question == RECORD["question"]
    assert prompt.video == f"{root}/videos/v.mp4" and prompt.image is None
    assert prompt.meta == {"video_id": "v", "topic_category": "NP-News-Programs", "duration": 10.0}
    assert benchmark.load_levels(str(root)) == {"15s": [prompt]}  # `lvb_val.json` identifies the layout


def test_the_subtitles_of_the_shown_moments_precede_the_question_with_seconds_of_the_clip(write):
    """The clip is seconds 100 to 110 of a video; the three moments are 0, 5 and 10."""
    subtitles = [
        {"start": "00:00:10.000", "end": "00:01:39.000", "line": "before the clip"},
        {"start": "00:01:39.800", "end": "00:01:40.300", "line": " hello "},  # 0.5 s counts as 1 s around its middle
        {"start": "00:01:42.000", "end": "00:01:44.500", "line": "between two moments"},
        {"timestamp": [104.0, 106.5], "text": "in the middle"},
        {"timestamp": [109.0, None], "text": "to the end"},
        {"start": "00:02:00.000", "end": "00:02:05.000", "line": "after the clip"},
    ]
    [prompt] = annotation_file(write(RECORD, subtitles=subtitles), subtitles=3).prompts()
    shown = "Subtitles:\n[0 s] hello\n[4 s] in the middle\n[9 s] to the end\n"
    assert prompt.question == shown + RECORD["question"]
    assert prompt.text.startswith(shown + RECORD["question"] + "\nA. a dog barks\n")
    [without_subtitles] = annotation_file(write(RECORD), subtitles=3).prompts()
    assert without_subtitles.question == RECORD["question"]


def test_a_toml_file_sets_the_number_of_subtitles(write, tmp_path_factory):
    root = write(RECORD, subtitles=[{"timestamp": [104.0, 106.5], "text": "in the middle"}])
    file = tmp_path_factory.mktemp("elsewhere") / "lvb.toml"
    file.write_text(f'layout = "longvideobench"\npath = "{root}"\nsubtitles = 3\n')
    [[prompt]] = benchmark.load_levels(str(file)).values()
    assert prompt.question == f"Subtitles:\n[4 s] in the middle\n{RECORD['question']}"
    assert prompt.video == f"{root}/videos/v.mp4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct_choice": 5}, "correct_choice: must be the index of one of the 5 candidates, not 5"),
        ({"correct_choice": -1}, "correct_choice: must be the index of"),
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
def test_the_error_about_a_malformed_record_names_file_line_and_field(write, change, message):
    root = write(RECORD, RECORD | {"id": "q_2"} | change)
    with pytest.raises(UserError) as error:
        annotation_file(root, subtitles=4).prompts()
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
def test_the_error_about_a_malformed_subtitle_names_the_subtitle_file(write, line, message):
    root = write(RECORD, subtitles=[line])
    with pytest.raises(UserError, match=r"v_en.json:1 \(record 1\): ") as error:
        annotation_file(root, subtitles=4).prompts()
    assert message in str(error.value)


@pytest.fixture(scope="module")
def kitchen_long_folder(cache) -> Path:
    """The embedded benchmark, 100 films of each length, in the cache that all tests share."""
    return benchmark.root("kitchen_long")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """A small embedded benchmark: 12 films of each length."""
    root = tmp_path_factory.mktemp("films") / "data"
    kitchen_long.write(root, seed=3, films=12)
    return root


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_depend_on_the_seed_alone(films, tmp_path):
    kitchen_long.write(tmp_path / "same", seed=3, films=12)
    kitchen_long.write(tmp_path / "other", seed=4, films=2)
    assert files_of(films) == files_of(tmp_path / "same") and len(files_of(films)) == 1 + 2 * 24
    assert (tmp_path / "other" / "lvb_val.json").read_text() != (films / "lvb_val.json").read_text()


def test_films_are_as_long_as_their_duration_group_allows(films):
    for record in json.loads((films / "lvb_val.json").read_text()):
        with av.open(str(films / "videos" / record["video_path"])) as container:
            seconds = float(container.duration / av.time_base)
        shortest = {15: 8, 60: 15}[record["duration_group"]]
        assert abs(seconds - record["duration"]) < 0.01 and shortest < seconds <= record["duration_group"]


def test_sixteen_frames_show_both_halves_of_every_slot():
    """So each ingredient is seen flying (first half) and at its new position (second half)."""
    for group, (_, hold) in kitchen_long.LENGTHS.items():
        total = 2 * hold * kitchen_long.SLOTS
        shown = frame_indices(total, kitchen_long.FPS, load("nano").video)
        assert len(shown) == 16
        assert {index // hold for index in shown} == set(range(2 * kitchen_long.SLOTS)), group


def test_the_text_does_not_give_the_right_option_away(kitchen_long_folder):
    """Neither its letter nor its position in the recipe is more frequent than others."""
    prompts = annotation_file(kitchen_long_folder, subtitles=16).prompts()
    assert Counter((prompt.level, prompt.domain) for prompt in prompts)["15s", "E3E"] == 100
    assert all(len(set(prompt.options)) == 4 for prompt in prompts)
    letters = Counter(prompt.answer for prompt in prompts)
    assert all(70 <= letters[letter] <= 130 for letter in "ABCD")  # expected 100, standard deviation 8.7
    positions: Counter[int] = Counter()
    for prompt in prompts:
        if prompt.domain != "E3E":
            continue
        first, *others = prompt.question.split(", then ")
        recipe = [first.split()[-1], *(item.strip("?") for item in others)]
        last_item = prompt.question.split(" after the ")[1].split()[0]
        assert last_item not in recipe, "an ingredient that the question names as done would exclude an option"
        steps = [f"put the {item} in the pot" for item in recipe]
        positions[steps.index(prompt.options["ABCD".index(prompt.answer)])] += 1
    assert all(30 <= positions[step] <= 70 for step in range(4))  # expected 50, standard deviation 6.1


def test_transfer_benchmarks_are_evaluated_as_further_levels(kitchen, tmp_path):
    """A run without training, on one question of each level."""
    overrides = ["train.max_steps=0", "eval.splits=['L1']", "eval.transfer=['kitchen_long']", "eval.limit=1"]
    metrics = api.train("nano", overrides, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / "eval").glob("*.jsonl")) == ["15s.jsonl", "60s.jsonl", "L1.jsonl"]
    [row] = read_jsonl(tmp_path / "run" / "eval" / "60s.jsonl")
    assert (row["level"], row["domain"], row["id"]) == ("60s", "E3E", "60s_00_E3E")
    assert row["video"].endswith("_60s_00") and {"eval/15s/accuracy", "eval/60s/accuracy"} <= metrics.keys()
    [prompt] = held_out_prompts("kitchen", ("L1",), ("kitchen_long",), limit=1)["60s"]
    frames = FrameCache(load("nano").video)
    assert frames(prompt).video.shape == (16, 56, 56, 3)
    frames.close()


def test_two_benchmarks_with_a_level_of_one_name_are_an_error(kitchen, films):
    with pytest.raises(UserError, match="has a level '15s', as another benchmark"):
        held_out_prompts("kitchen", ("L1",), ("kitchen_long", "kitchen_long"))
    with pytest.raises(UserError, match=r"no level 'L1'; it has 15s, 60s"):
        held_out_prompts(str(films), ("L1",))
    levels = held_out_prompts(str(films), ("60s",))
    assert {prompt.level for prompt in levels["60s"]} == {"60s"} and len(levels["60s"]) == 24


def test_the_presets_evaluate_transfer_and_an_evaluation_of_one_level_does_not(kitchen, tmp_path):
    assert load("nano").eval.transfer == load("nano_sft").eval.transfer == ("kitchen_long",)
    run = tmp_path / "run"
    api.train("nano", ["train.max_steps=0", "eval.splits=['L1']", "eval.limit=1"], run)
    api.evaluate(run, splits=["L2"], out=tmp_path / "L2")
    api.evaluate(run, data="kitchen_long", splits=["60s"], out=tmp_path / "60s")
    levels = {name: sorted(f.stem for f in (tmp_path / name / "eval").glob("*.jsonl")) for name in ("run", "L2", "60s")}
    assert levels == {"run": ["15s", "60s", "L1"], "L2": ["L2"], "60s": ["60s"]}
