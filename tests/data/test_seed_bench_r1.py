"""The loader against hand-made files in the published layout."""

import json
import random
from collections import Counter

import pytest

from rlvid.data.seed_bench_r1 import SPLITS, load
from rlvid.errors import UserError
from tests.helpers.annotations import BASE, TRAIN, VAL

TEXT = "What next?\nA. open tap\nB. close tap\n Output the thinking process in <think> </think> tags. "
COT = {
    "sample_id": "c1",
    "prompt": [
        {
            "role": "user",
            "content": [
                {"type": "video", "video": "videos/EpicKitchens/1.mp4", "image": None, "text": None},
                {"type": "image", "video": None, "image": "images/EpicKitchens/1.png", "text": None},
                {"type": "text", "video": None, "image": None, "text": TEXT},
            ],
        }
    ],
    "response": "<think>It runs.</think><answer>B. close tap</answer>",
}


@pytest.fixture
def write(tmp_path):
    """Write records (or raw lines) as a split's annotation file; returns the root."""

    def write(split, *records):
        file = tmp_path / "annotations" / SPLITS[split]
        file.parent.mkdir(exist_ok=True)
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
        file.write_bytes(b"\n".join(lines) + b"\n")
        return tmp_path

    return write


def chat(*content):
    return COT | {"prompt": [{"role": "user", "content": list(content)}]}


def test_a_validation_record(write):
    root = write("L3", VAL | {"domain": "Work", "scenario": "office"})
    [prompt] = load(root, "L3")
    assert (prompt.id, prompt.level, prompt.domain, prompt.answer) == ("115", "L3", "Work", "C")
    assert prompt.options == ("open tap", "wash pan", "close cupboard", "cut onion")
    assert prompt.video == f"{root}/videos/EpicKitchens/115.mp4"
    assert prompt.image == f"{root}/images/EpicKitchens/115.png"
    assert prompt.narrations == ("open cupboard", "put cereal")
    assert prompt.meta["scenario"] == "office" and prompt.meta["task_goal"] == "store cereal"
    assert prompt.meta["task_progress_metadata"] == BASE["task_progress_metadata"]
    assert prompt.text.startswith("What should I do next in order to store cereal?\nA. open tap\nB. wash pan\nC. close")
    assert "open cupboard" not in prompt.text  # narrations are never shown


def test_without_progress_there_is_no_video(write):
    [prompt] = load(write("L1", VAL | {"task_progress_metadata": []}), "L1")
    assert prompt.video is None and prompt.image is not None and prompt.narrations == ()
    assert prompt.domain == "Daily life"


def test_a_training_record_draws_three_proper_negatives(write):
    [prompt] = load(write("train", TRAIN), "train")
    assert prompt.level == "train" and len(prompt.options) == 4
    assert prompt.options["ABCD".index(prompt.answer)] == "close cupboard"
    assert len({" ".join(o.casefold().split()) for o in prompt.options}) == 4


def test_options_depend_on_seed_and_sample_and_nothing_else(write):
    negatives = ["open tap", "wash pan", "cut onion", "dry hands", "open bag"]
    rows = [TRAIN | {"sample_id": f"s{i}", "negative_answers": negatives} for i in range(400)]
    first = load(write("train", *rows), "train")
    random.seed(3)
    turned = [r | {"negative_answers": negatives[::-1]} for r in rows[:200:-1]]
    again = load(write("train", *turned), "train")
    assert [(p.id, p.options) for p in again] == [(p.id, p.options) for p in first[:200:-1]]
    assert load(write("train", *rows), "train", data_seed=1) != first
    places, drawn = Counter(p.answer for p in first), Counter(o for p in first for o in p.options)
    assert all(60 <= places[letter] <= 140 for letter in "ABCD")  # 100 expected, 8.7 its standard deviation
    assert all(190 <= drawn[text] <= 290 for text in negatives)  # 240 expected, 9.8 its standard deviation


def test_a_demonstration(write):
    root = write("train_cot", COT)
    [prompt] = load(root, "train_cot")
    assert (prompt.id, prompt.level, prompt.answer) == ("c1", "train", "B")
    assert (prompt.question, prompt.options) == ("What next?", ("open tap", "close tap"))
    assert prompt.video == f"{root}/videos/EpicKitchens/1.mp4" and prompt.image == f"{root}/images/EpicKitchens/1.png"
    assert prompt.demonstration == COT["response"]


def test_a_demonstration_of_an_image_only_record_without_id(write):
    record = chat({"type": "image", "image": "images/a.png"}, {"type": "text", "text": TEXT})
    [prompt] = load(write("train_cot", {k: v for k, v in record.items() if k != "sample_id"}), "train_cot")
    assert prompt.video is None and prompt.id == "line-1"


@pytest.mark.parametrize(
    ("split", "record", "message"),
    [
        ("L1", b"{", "no JSON in UTF-8: "),
        ("L1", b'{"a": "\xff"}', "no JSON in UTF-8: 'utf-8' codec can't decode byte 0xff"),
        ("L1", json.dumps(VAL | {"question": "\ud800"}).encode(), "no JSON in UTF-8: "),
        ("L1", b"[1]", "must be one JSON object, not [1]"),
        ("L1", b"[" * 100_000, "no JSON in UTF-8: "),
        ("L1", {}, "task_progress_metadata: missing; the record has no fields"),
        ("L1", {k: v for k, v in VAL.items() if k != "question"}, "question: missing; the record has sample_id, "),
        ("L1", VAL | {"question": " "}, "question: is blank or holds a zero byte"),
        ("L1", VAL | {"question": "a\0b"}, "question: is blank or holds a zero byte"),
        ("L1", VAL | {"question": 5}, "question: must be str, not 5"),
        ("L1", VAL | {"sample_id": True}, "sample_id: must be str, not true"),
        ("L1", VAL | {"task_progress_metadata": {}}, "task_progress_metadata: must be list, not {}"),
        ("L1", VAL | {"task_progress_metadata": ["x"]}, 'task_progress_metadata.narration_text: must be dict, not "x"'),
        ("L1", VAL | {"task_progress_metadata": [{}]}, "task_progress_metadata.narration_text: must be str, not null"),
        ("L1", VAL | {"golden_choice_idx": "E"}, "golden_choice_idx: must be A, B, C or D, not 'E'"),
        ("L1", VAL | {"golden_choice_idx": "AB"}, "golden_choice_idx: must be A, B, C or D, not 'AB'"),
        ("L1", VAL | {"golden_choice_idx": 2}, "golden_choice_idx: must be str, not 2"),
        ("L1", VAL | {"golden_choice_idx": "A"}, "golden_choice_idx: A is 'open tap', but answer is 'close cupboard'"),
        ("L1", VAL | {"choice_d": None}, "choice_d: must be str, not null"),
        ("train", TRAIN | {"negative_answers": ["a", "A ", "b"]}, "negative_answers: needs 3 that differ"),
        ("train", TRAIN | {"negative_answers": ["a", "b", 3]}, "negative_answers: must be str, not 3"),
        (
            "L1",
            VAL | {"video_basename": "../../../etc/passwd"},
            "video_basename: videos/EpicKitchens/../../../etc/passwd leads out of ",
        ),
        ("L1", VAL | {"video_basename": "/etc/passwd"}, "video_basename: /etc/passwd leads out of "),
        ("L1", VAL | {"video_source": ".."}, "video_basename: videos/../115.mp4 leads out of "),
        ("L1", VAL | {"current_observation_basename": "a/../../../x"}, "current_observation_basename: images/"),
        ("train_cot", chat({"type": "video", "video": "/x.mp4"}, {"text": TEXT}), "prompt.video: /x.mp4 leads out of "),
        ("train_cot", COT | {"response": "<answer>A or B</answer>"}, "response: must name one option in one <answer>"),
        ("train_cot", COT | {"prompt": "What next?"}, 'prompt: must be list, not "What next?"'),
        ("train_cot", chat("What next?"), 'prompt.content: must be dict, not "What next?"'),
        ("train_cot", chat({"type": "image", "image": "a.png"}), 'prompt: has no {"type": "text"} part'),
        ("train_cot", chat({"type": "text", "text": "What next?"}), "prompt.text: must hold lines 'A. ..' and 'B. ..'"),
    ],
)
def test_a_malformed_record_is_an_error_with_file_line_and_field(write, split, record, message):
    good = {"train": TRAIN, "train_cot": COT}.get(split, VAL) | {"sample_id": "good"}
    root = write(split, good, record)
    with pytest.raises(UserError) as error:
        load(root, split)
    assert str(error.value).startswith(f"{root}/annotations/{SPLITS[split]}:2: {message}")
    assert "\n" not in str(error.value)


def test_a_link_out_of_the_root_is_refused_and_one_inside_is_not(write, tmp_path_factory):
    root = write("L1", VAL)
    folder = root / "videos" / "EpicKitchens"
    folder.mkdir(parents=True)
    (folder / "other.mp4").touch()
    (folder / "115.mp4").symlink_to(folder / "other.mp4")
    assert load(root, "L1")[0].video == str(folder / "115.mp4")
    (folder / "115.mp4").unlink()
    outside = tmp_path_factory.mktemp("outside") / "secret.mp4"
    (folder / "115.mp4").symlink_to(outside)
    with pytest.raises(UserError, match=r"video_basename: .* leads out of"):
        load(root, "L1")


def test_a_duplicate_sample_is_an_error(write):
    with pytest.raises(UserError, match=r"validation_L1.jsonl:2: sample_id: 115 stands on an earlier line too"):
        load(write("L1", VAL, VAL | {"sample_id": "115"}), "L1")


def test_a_missing_or_empty_file_and_an_unknown_split(write, tmp_path):
    with pytest.raises(UserError, match=r"validation_L2.jsonl: no such file; split 'L2' .* rlvid data get "):
        load(tmp_path, "L2")
    with pytest.raises(UserError, match=r"no split 'trian'\. Did you mean 'train'\?"):
        load(tmp_path, "trian")
    with pytest.raises(UserError, match="holds no record"):
        load(write("L1", b"", b"  "), "L1")
