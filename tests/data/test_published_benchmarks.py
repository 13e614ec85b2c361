"""The TOML files of experiments/benchmarks/ on records in each set's published layout, with one small real clip."""

import json
import re
from io import BytesIO
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from rlvid.config import VideoConfig
from rlvid.data import benchmark, check, frames
from rlvid.data.convert import convert, main
from rlvid.errors import UserError
from rlvid.trainer.results import results_table
from rlvid.utils.files import read_jsonl, write_jsonl
from rlvid.video.read import read_image, read_with_decord
from tests.helpers import media

EXAMPLES = Path(__file__).parents[2] / "experiments" / "benchmarks"
CHOICES = {"choice_a": "open tap", "choice_b": "wash pan", "choice_c": "cut onion", "choice_d": "dry hands"}
DIRECTIONS = ("easy", "medium", "hard")

VSI = {"id": 0, "dataset": "scannet", "scene_name": "scene0144_01", "question": "q?", "options": None}
VSI_RECORDS = [
    VSI | {"id": i, "question_type": kind, "ground_truth": value}
    for i, (kind, value) in enumerate({"object_counting": "4", "room_size_estimation": "19.6"}.items())
] + [
    VSI | {"id": 9 + i, "question_type": f"object_rel_direction_{kind}", "options": options, "ground_truth": "B"}
    for i, (kind, options) in enumerate(zip(DIRECTIONS, (["A. left", "B. right"],) * 3, strict=True))
]
MMMU = {"id": "validation_Art_Theory_7", "question": "q?", "options": ["one", "two", "three"], "answer": "B"}
MMMU |= {"question_type": "multiple-choice"}
OPEN = MMMU | {"id": "validation_Math_12", "question_type": "open", "options": [], "answer": "3.5"}
HOLMES = {"video ID": "GEJ2Ck4ym4U", "Question": "Why?", "Options": {k: f"option {k}" for k in "ABCDEF"}, "Answer": "B"}
HOLMES |= {"Question Type": "TCI", "Question ID": 17, "Explanation": "Because."}
LVB = {"id": "q_1", "question": "q?", "option0": "no", "option1": "yes", "option2": "N/A", "option3": "N/A"}
LVB |= {"option4": "N/A", "correct_choice": 1, "duration_group": 600, "question_category": "E3E", "video_path": "v.mp4"}
MVBENCH = {"video": "v.mp4", "question": "q?", "candidates": ["yes", "no", "not sure"], "answer": "no"}
TEMPCOMPASS = {"video_id": "1", "question": "q?\nA. up\nB. down", "answer": "B. down", "dim": "direction"}
# Records of llyx97/TempCompass, questions/, at 87d5cf3, as lines of its copy on the hub.
YES_NO = {"video_id": "1", "question": "Is the man dribbling a basketball?", "answer": "no", "dim": "action"}
CAPTION = "Which caption matches the video better?\nCaption A: The man is moving from right to left.\n"
CAPTION += "Caption B: The man is moving from left to right."
CAPTIONS = {"video_id": "1", "question": CAPTION, "answer": "Caption B: The man is moving from left to right."}
CAPTIONS |= {"dim": "direction"}
OPTION = "Which description is a more suitable match for the video?\nOption 1: The man is dribbling a basketball.\n"
OPTION += "Option 2: A man is dunking a basketball."
OPTIONS = CAPTIONS | {"question": OPTION, "answer": "Option 2: A man is dunking a basketball."}
VIDEO_MME = {"videoID": "abc", "question_id": "001-1", "duration": "short", "domain": "Knowledge", "question": "q?"}
VIDEO_MME |= {"options": ["A. one.", "B. two.", "C. three.", "D. four."], "answer": "B"}
MME_V2 = {"video_id": "001", "url": "u", "group_type": "logic", "group_structure": "[1,2,3,4]", "question_id": "001-1"}
MME_V2 |= {"question": "q?", "options": "A. one\nB. two\nC. three", "answer": "B", "level": None, "second_head": None}
MMVU = {"id": "validation_0", "video_path": "videos/Art/0.mp4", "question": "q?", "question_type": "multiple-choice"}
MMVU |= {"choices": dict(zip("ABCDE", ("one", "two", "three", "four", "five"), strict=True)), "answer": "B"}
VIDEO_R1 = {"problem": "q?", "problem_type": "multiple choice", "options": ["A. up", "B. down"], "data_type": "video"}
VIDEO_R1 |= {"path": "./MVBench/v.mp4", "solution": "<answer>B</answer>"}
NUMBER = VIDEO_R1 | {"problem_type": "regression", "options": [], "solution": "<answer>2.4</answer>"}
NUMBER["path"] = "./VSI/v.mp4"
EGOPLAN = CHOICES | {"sample_id": 115, "task_goal": "store cereal", "golden_choice_idx": "B", "answer": "wash pan"}
EGOPLAN2 = CHOICES | {"sample_id": "7", "task_goal": "bake bread", "domain": "Daily life", "ground_truth": "B"}
EGOPLAN2 |= {"video_file": "videos/7.mp4", "formatted_question": "..."}

PUBLISHED = {  # TOML file -> its file of records, its records, the levels, and the videos that these name
    "vsi_bench": (
        "test.jsonl",
        VSI_RECORDS,
        {"object_counting", "room_size_estimation", *(f"object_rel_direction_{kind}" for kind in DIRECTIONS)},
        {"scannet/scene0144_01.mp4"},
    ),
    "video_mmmu": (
        "Perception.jsonl",
        [MMMU, OPEN],
        {"video_mmmu"},
        {"Art/validation_Art_Theory_7.mp4", "Science/validation_Math_12.mp4"},
    ),
    "video_mmmu_adaptation": (
        "Adaptation.jsonl",
        [MMMU | {"image": "images/image/1.png"}],
        {"video_mmmu_adaptation"},
        {"Art/validation_Art_Theory_7.mp4"},
    ),
    "video_holmes": ("test_Video-Holmes.json", [HOLMES], {"TCI"}, {"videos_cropped/GEJ2Ck4ym4U.mp4"}),
    "longvideobench": ("validation.jsonl", [LVB], {"600s"}, {"videos/v.mp4"}),
    "mvbench": (
        "json/object_existence.json",
        [MVBENCH],
        {"object_existence"},
        {"video/clevrer/video_validation/v.mp4"},
    ),
    "mvbench_seconds": (
        "json/action_sequence.json",
        [MVBENCH | {"start": 0.5, "end": 2}],
        {"action_sequence"},
        {"video/star/Charades_v1_480/v.mp4#t=0.5,2.0"},
    ),
    "mvbench_frames": (
        "json/episodic_reasoning.json",
        [MVBENCH | {"video": "castle_s03e06_seg02_clip_09", "start": 0.5, "end": 2, "subtitle": "..."}],
        {"episodic_reasoning"},
        {"video/tvqa/frames_fps3_hq/castle_s03e06_seg02_clip_09.mp4#t=0.5,2.0"},
    ),
    "tempcompass": ("multi-choice.jsonl", [TEMPCOMPASS], {"tempcompass"}, {"videos/1.mp4"}),
    "tempcompass_yes_no": ("yes_no.jsonl", [YES_NO], {"tempcompass_yes_no"}, {"videos/1.mp4"}),
    "tempcompass_caption_matching": (
        "caption_matching.jsonl",
        [CAPTIONS, OPTIONS],
        {"tempcompass_caption_matching"},
        {"videos/1.mp4"},
    ),
    "mmvu": ("validation.jsonl", [MMVU, {"question_type": "open-ended"} | MMVU], {"mmvu"}, {"videos/Art/0.mp4"}),
    "video_mme": ("test.jsonl", [VIDEO_MME], {"short"}, {"data/abc.mp4"}),
    "video_mme_v2": ("test.jsonl", [MME_V2], {"video_mme_v2"}, {"videos/001.mp4"}),
    "video_r1_eval": ("eval_mvbench.json", [VIDEO_R1, NUMBER], {"mvbench"}, {"MVBench/v.mp4"}),
    "video_r1_eval_numbers": (
        "eval_vsibench.json",
        [VIDEO_R1, NUMBER],
        {"video_r1_eval_numbers"},
        {"VSI/v.mp4"},
    ),
    "egoplan": ("validation.jsonl", [EGOPLAN], {"egoplan"}, {"115.mp4"}),
    "egoplan2": ("train.jsonl", [EGOPLAN2], {"Daily life"}, {"videos/7.mp4"}),
}
PUBLISHED["mmvu"][1][1]["question_type"] = "open-ended"
PUBLISHED["mmvu"][1][1]["video_path"] = "videos/Art/1.mp4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The one clip of all benchmarks: 24 frames of 3 s."""
    return media.write_video(tmp_path_factory.mktemp("clip") / "v.mp4", media.grey_frames(24), fps=8)


def write_published(name, folder, clip):
    """Write a TOML file, its set's records and clips into a folder; returns the file. Of a list of files it has one."""
    file, records, _, videos = PUBLISHED[name]
    text = (EXAMPLES / f"{name}.toml").read_text()
    head, _, rest = text.partition("path = [")
    if rest:
        text = f'{head}path = ["{file}"]\n{rest.partition("]")[2].lstrip()}'
    (folder / f"{name}.toml").write_text(text)
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(map(json.dumps, records))
    path.write_text(json.dumps(records) if path.suffix == ".json" else lines)
    for video in videos:
        target = folder / video.partition("#")[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(clip)
    return str(folder / f"{name}.toml")


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_toml_file_of_the_repository_reads_published_records(name, tmp_path, clip):
    _, _, levels, videos = PUBLISHED[name]
    read = benchmark.load_levels(write_published(name, tmp_path, clip))
    prompts = [prompt for level in read.values() for prompt in level]
    assert set(read) == levels and {p.video for p in prompts} == {f"{tmp_path}/{video}" for video in videos}
    assert all(p.answer == "B" and not p.options[0].startswith("A. ") for p in prompts if p.options)
    assert all("{" not in p.question for p in prompts)


def test_every_toml_file_of_the_repository_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(PUBLISHED)


def test_lists_of_files_name_them_all(tmp_path):
    """All files of MVBench's lists are read, each with a folder of videos."""
    for name, count in (("mvbench", 14), ("mvbench_seconds", 4)):
        (tmp_path / f"{name}.toml").write_text((EXAMPLES / f"{name}.toml").read_text())
        files = benchmark.annotation_files(str(tmp_path / f"{name}.toml")).values()
        for file in files:
            file.path.parent.mkdir(exist_ok=True)
            file.path.write_text(json.dumps([MVBENCH | {"start": 0, "end": 1}] * 2))
        levels = benchmark.load_levels(str(tmp_path / f"{name}.toml"))
        assert len(files) == len(levels) == count
        ids = [prompt.id for prompts in levels.values() for prompt in prompts]
        assert len(set(ids)) == 2 * count and f"{next(iter(levels))}-1" in ids


def test_questions_without_options_are_numbers_or_texts(tmp_path, clip):
    """VSI-Bench's are numbers, scored by the mean relative accuracy; Video-MMMU's are texts."""
    levels = benchmark.load_levels(write_published("vsi_bench", tmp_path, clip))
    [room] = levels["room_size_estimation"]
    assert (room.options, room.answer, room.kind) == ((), "19.6", "regression")
    assert levels["object_rel_direction_easy"][0].kind == "free_form"  # it has options: the kind does not matter
    _, open_question = benchmark.load_levels(write_published("video_mmmu", tmp_path, clip))["video_mmmu"]
    assert (open_question.options, open_question.answer, open_question.kind) == ((), "3.5", "free_form")
    (tmp_path / "test.jsonl").write_text(json.dumps(VSI_RECORDS[0] | {"ground_truth": "four"}))
    with pytest.raises(UserError, match=r"test\.jsonl:1: ground_truth: must be a number, not 'four'"):
        benchmark.load_levels(str(tmp_path / "vsi_bench.toml"))


def test_the_average_of_vsi_bench_is_over_tasks(tmp_path, clip):
    """As lmms-eval's `vsibench_aggregate_results`: three levels are one task, and numbers count by their score."""
    [(name, tasks)] = benchmark.averaged_tasks(write_published("vsi_bench", tmp_path, clip), "kitchen").items()
    assert name == "average of vsi_bench" and len(tasks) == 3
    answers = {"correct": False, "domain": "", "rewards/format": 1.0}
    right = {
        "object_rel_direction_easy": [1, 1],
        "object_rel_direction_medium": [1, 0],
        "object_rel_direction_hard": [0],
    }
    for level, marks in right.items():
        write_jsonl(tmp_path / "eval" / f"{level}.jsonl", [answers | {"correct": bool(mark)} for mark in marks])
    for level, score in {"object_counting": 0.8, "room_size_estimation": 0.3}.items():
        assert results_table(tmp_path / "eval", {name: tasks}).columns[0]._cells[-1] != name, "not all levels are there"
        write_jsonl(tmp_path / "eval" / f"{level}.jsonl", [answers | {"score": score}])
    table = results_table(tmp_path / "eval", {name: tasks})
    assert [column._cells[-1] for column in table.columns][:2] == [name, "3 tasks"]
    assert table.columns[-1]._cells[-1] == f"{(0.5 + 0.8 + 0.3) / 3:.1%}"
    text = (tmp_path / "vsi_bench.toml").read_text()
    (tmp_path / "vsi_bench.toml").write_text(text.replace('"object_rel_direction_hard"]', '"direction_hard"]'))
    with pytest.raises(UserError, match=r"average: 'direction_hard' is no level.*object_rel_direction_hard"):
        benchmark.averaged_tasks(str(tmp_path / "vsi_bench.toml"))


def test_other_oddities_of_published_sets(tmp_path, clip):
    """A question with a video and an image; options in fields of which some are not there; a question that is made."""
    [adaptation] = benchmark.load_levels(write_published("video_mmmu_adaptation", tmp_path, clip)).values()
    assert adaptation[0].image == f"{tmp_path}/images/image/1.png" and adaptation[0].domain == "Art"
    [[lvb]] = benchmark.load_levels(write_published("longvideobench", tmp_path, clip)).values()
    assert lvb.options == ("no", "yes")
    [[holmes]] = benchmark.load_levels(write_published("video_holmes", tmp_path, clip)).values()
    assert (holmes.id, holmes.question, len(holmes.options)) == ("17", "Why?", 6)
    (tmp_path / "ego").mkdir()
    [[ego]] = benchmark.load_levels(write_published("egoplan", tmp_path / "ego", clip)).values()
    assert ego.question.endswith("what action should I take next in order to store cereal?")


def test_options_in_other_words_and_the_same_for_every_question(tmp_path, clip):
    (tmp_path / "yes").mkdir()
    [[yes_no]] = benchmark.load_levels(write_published("tempcompass_yes_no", tmp_path / "yes", clip)).values()
    assert (yes_no.question, yes_no.options, yes_no.domain) == (YES_NO["question"], ("yes", "no"), "action")
    path = Path(write_published("tempcompass_caption_matching", tmp_path, clip))
    [[first, second]] = benchmark.load_levels(str(path)).values()
    assert first.question == "Which caption matches the video better?"
    assert first.options == ("The man is moving from right to left.", "The man is moving from left to right.")
    assert second.options[1] == "A man is dunking a basketball."
    (tmp_path / "caption_matching.jsonl").write_text(json.dumps(CAPTIONS | {"question": "Which?\nCaption A: One."}))
    with pytest.raises(UserError, match=r"jsonl:1: question: must end in two or more different lines like"):
        benchmark.load_levels(str(path))
    for line, message in (
        ("option_line = '('", "option_line is no pattern"),
        ("option_line = 'A'", "must have one group"),
        ('option_line = "(.)"\noptions = "o"', "options and option_line both say what the options are"),
    ):
        text = re.sub("(?m)^option_line = .*$", lambda match, line=line: line, path.read_text())
        (tmp_path / "other.toml").write_text(text)
        with pytest.raises(UserError, match=message):
            benchmark.load_levels(str(tmp_path / "other.toml"))


def test_the_clips_of_a_published_layout_are_decoded(tmp_path, clip):
    findings = check.find_problems(write_published("vsi_bench", tmp_path, clip))
    assert not findings.problems and len(findings.videos) == 1 and findings.levels.total() == 5


def test_folders_of_frames_become_videos(tmp_path, capsys):
    folder = tmp_path / "frames" / "clip"
    folder.mkdir(parents=True)
    for number, level in enumerate((0, 80, 160, 240, 120, 40), 1):
        Image.new("RGB", (65, 48), (level,) * 3).save(folder / f"{number:05}.jpg")
    assert frames.main([str(tmp_path / "frames"), "3"]) == 0
    read = read_with_decord(f"{folder}.mp4", VideoConfig(fps=3.0, max_frames=8))
    assert read.pixels.shape == (6, 48, 64, 3) and read.clock.times.tolist() == pytest.approx([i / 3 for i in range(6)])
    assert [round(frame.mean()) for frame in read.pixels] == pytest.approx([0, 80, 160, 240, 120, 40], abs=3)
    assert frames.main([str(tmp_path / "frames"), "3"]) == 0 and "0 videos written" in capsys.readouterr().out
    (tmp_path / "frames" / "clip.mp4").unlink()
    Image.new("RGB", (32, 32)).save(folder / "00009.jpg")
    assert frames.main([str(tmp_path / "frames"), "3"]) == 2 and "is (32, 32), and the first" in capsys.readouterr().err
    assert frames.main([str(folder), "3"]) == 2 and "no folder with pictures" in capsys.readouterr().err


def test_parquet_files_become_lines_and_their_images_files(tmp_path, capsys):
    data = BytesIO()
    Image.new("RGB", (4, 3), "red").save(data, "PNG")
    stored = {"bytes": data.getvalue(), "path": "a.png"}
    rows = [MMMU | {"image": stored, "keyframes": [stored, stored]}, MMMU | {"image": None, "keyframes": []}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test.parquet")
    assert main([str(tmp_path / "test.parquet"), str(tmp_path / "Adaptation.jsonl")]) == 0
    first, second = read_jsonl(tmp_path / "Adaptation.jsonl")
    assert first["options"] == MMMU["options"] and second["image"] is None
    assert first["image"] == "images/image/1.png" and len(first["keyframes"]) == 2
    with Image.open(tmp_path / first["keyframes"][1]) as image:
        assert image.size == (4, 3)
    bad = pyarrow.Table.from_pylist([{"image": {"bytes": b"no image", "path": ""}}])
    parquet.write_table(bad, tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="record 1: image: bytes that are no image"):
        convert([tmp_path / "bad.parquet"], tmp_path / "bad.jsonl")
    assert main([str(tmp_path / "none.parquet"), str(tmp_path / "x.jsonl")]) == 2
    assert "none.parquet: cannot be read as parquet" in capsys.readouterr().err


def test_images_are_converted_upright_in_rgb_or_keep_the_path_of_their_file(tmp_path):
    picture = Image.new("RGB", (6, 4), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    files = {"turned": BytesIO(), "cmyk": BytesIO()}
    picture.save(files["turned"], "JPEG", exif=exif)
    picture.convert("CMYK").save(files["cmyk"], "JPEG")
    rows = [{"image": {"bytes": file.getvalue(), "path": name}} for name, file in files.items()]
    table = pyarrow.Table.from_pylist([*rows, {"image": {"bytes": None, "path": "images/x.png"}}])
    parquet.write_table(table, tmp_path / "q.parquet")
    convert([tmp_path / "q.parquet"], tmp_path / "q.jsonl")
    turned, cmyk, path = (record["image"] for record in read_jsonl(tmp_path / "q.jsonl"))
    assert read_image("", str(tmp_path / turned)).shape == (6, 4, 3)
    assert read_image("", str(tmp_path / cmyk))[0, 0].tolist() == pytest.approx([255, 0, 0], abs=6)
    assert path == "images/x.png"
