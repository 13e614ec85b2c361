"""Tests of the loader with files in SEED-Bench-R1's published layout."""

import json
import random
from collections import Counter

import pytest

from rlvid.data.seed_bench_r1 import SPLITS, load
from rlvid.errors import UserError
from tests.helpers.annotations import BASE, TRAINING, VALIDATION

TEXT = "What next?\nA. open tap\nB. close tap\n Output the thinking process in <think> </think> tags. "
DEMONSTRATION = {
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
    """A function that writes records, or raw lines, as the file of a split and returns the data set's folder."""

    def write(split, *records):
        file = tmp_path / "annotations" / SPLITS[split]
        file.parent.mkdir(exist_ok=True)
        lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
        file.write_bytes(b"\n".join(lines) + b"\n")
        return tmp_path

    return write


def without(record, field):
    return {key: value for key, value in record.items() if key != field}


def chat(*content):
    """Return a demonstration whose chat has these parts."""
    return DEMONSTRATION | {"prompt": [{"role": "user", "content": list(content)}]}


def test_a_validation_record_becomes_a_prompt(write):
    root = write("L3", VALIDATION | {"domain": "Work", "scenario": "office"})
    [prompt] = load(root, "L3")
    assert (prompt.id, prompt.level, prompt.domain, prompt.answer) == ("115", "L3", "Work", "C")
    assert prompt.options == ("open tap", "wash pan", "close cupboard", "cut onion")
    assert prompt.video == f"{root}/videos/EpicKitchens/115.mp4"
    assert prompt.image == f"{root}/images/EpicKitchens/115.png"
    assert prompt.narrations == ("open cupboard", "put cereal")
    assert prompt.meta["scenario"] == "office" and prompt.meta["task_goal"] == "store cereal"
    assert prompt.meta["task_progress_metadata"] == BASE["task_progress_metadata"]
    assert prompt.text.startswith("What should I do next in order to store cereal?\nA. open tap\nB. wash pan\nC. close")
    assert "open cupboard" not in prompt.text, "the policy never sees narrations"


def test_a_record_without_progress_has_no_video(write):
    [prompt] = load(write("L1", VALIDATION | {"task_progress_metadata": []}), "L1")
    assert prompt.video is None and prompt.image is not None and prompt.narrations == ()
    assert prompt.domain == "Daily life"


def test_the_options_of_a_training_record_are_the_answer_and_three_different_negatives(write):
    [prompt] = load(write("train", TRAINING), "train")
    assert prompt.level == "train" and len(prompt.options) == 4
    assert prompt.options["ABCD".index(prompt.answer)] == "close cupboard"
    assert len({" ".join(option.casefold().split()) for option in prompt.options}) == 4


def test_options_depend_on_the_data_seed_and_the_sample_alone(write):
    negatives = ["open tap", "wash pan", "cut onion", "dry hands", "open bag"]
    records = [TRAINING | {"sample_id": f"s{i}", "negative_answers": negatives} for i in range(400)]
    prompts = load(write("train", *records), "train")
    random.seed(3)
    some_reversed = [record | {"negative_answers": negatives[::-1]} for record in records[:200:-1]]
    again = load(write("train", *some_reversed), "train")
    assert [(p.id, p.options) for p in again] == [(p.id, p.options) for p in prompts[:200:-1]]
    assert load(write("train", *records), "train", data_seed=1) != prompts
    letters = Counter(prompt.answer for prompt in prompts)
    drawn = Counter(option for prompt in prompts for option in prompt.options)
    assert all(60 <= letters[letter] <= 140 for letter in "ABCD")  # expected 100, standard deviation 8.7
    assert all(190 <= drawn[text] <= 290 for text in negatives)  # expected 240, standard deviation 9.8


def test_a_demonstration_becomes_a_prompt_with_a_reply_to_imitate(write):
    root = write("train_cot", DEMONSTRATION)
    [prompt] = load(root, "train_cot")
    assert (prompt.id, prompt.level, prompt.answer) == ("c1", "train", "B")
    assert (prompt.question, prompt.options) == ("What next?", ("open tap", "close tap"))
    assert prompt.video == f"{root}/videos/EpicKitchens/1.mp4" and prompt.image == f"{root}/images/EpicKitchens/1.png"
    assert prompt.demonstration == DEMONSTRATION["response"]


def test_a_demonstration_may_have_no_video_and_no_id(write):
    record = chat({"type": "image", "image": "images/a.png"}, {"type": "text", "text": TEXT})
    [prompt] = load(write("train_cot", without(record, "sample_id")), "train_cot")
    assert prompt.video is None and prompt.id == "line-1"


@pytest.mark.parametrize(
    ("split", "record", "message"),
    [
        ("L1", b"{", "not JSON in UTF-8: "),
        ("L1", b'{"a": "\xff"}', "not JSON in UTF-8: 'utf-8' codec can't decode byte 0xff"),
        ("L1", json.dumps(VALIDATION | {"question": "\ud800"}).encode(), "not JSON in UTF-8: "),
        ("L1", b"[1]", "must be one JSON object, not [1]"),
        ("L1", b"[" * 100_000, "not JSON in UTF-8: "),
        ("L1", {}, "task_progress_metadata: missing; the record has no fields"),
        ("L1", without(VALIDATION, "question"), "question: missing; the record has sample_id, "),
        ("L1", VALIDATION | {"question": " "}, "question: is blank or holds a zero byte"),
        ("L1", VALIDATION | {"question": "a\0b"}, "question: is blank or holds a zero byte"),
        ("L1", VALIDATION | {"question": 5}, "question: must be str, not 5"),
        ("L1", VALIDATION | {"sample_id": True}, "sample_id: must be str, not true"),
        ("L1", VALIDATION | {"task_progress_metadata": {}}, "task_progress_metadata: must be list, not {}"),
        (
            "L1",
            VALIDATION | {"task_progress_metadata": ["x"]},
            'task_progress_metadata.narration_text: must be dict, not "x"',
        ),
        (
            "L1",
            VALIDATION | {"task_progress_metadata": [{}]},
            "task_progress_metadata.narration_text: must be str, not null",
        ),
        (
            "L1",
            without(VALIDATION, "golden_choice_idx"),
            "golden_choice_idx: missing: a validation record has its four",
        ),
        ("L1", VALIDATION | {"golden_choice_idx": "E"}, "golden_choice_idx: must be A, B, C or D, not 'E'"),
        ("L1", VALIDATION | {"golden_choice_idx": "AB"}, "golden_choice_idx: must be A, B, C or D, not 'AB'"),
        ("L1", VALIDATION | {"golden_choice_idx": 2}, "golden_choice_idx: must be str, not 2"),
        (
            "L1",
            VALIDATION | {"golden_choice_idx": "A"},
            "golden_choice_idx: A is 'open tap', but answer is 'close cupboard'",
        ),
        ("L1", VALIDATION | {"choice_d": None}, "choice_d: must be str, not null"),
        ("train", TRAINING | {"negative_answers": ["a", "A ", "b"]}, "negative_answers: needs 3 that differ"),
        ("train", TRAINING | {"negative_answers": ["a", "b", 3]}, "negative_answers: must be str, not 3"),
        (
            "L1",
            VALIDATION | {"video_basename": "../../../etc/passwd"},
            "video_basename: videos/EpicKitchens/../../../etc/passwd leads out of ",
        ),
        ("L1", VALIDATION | {"video_basename": "/etc/passwd"}, "video_basename: /etc/passwd leads out of "),
        ("L1", VALIDATION | {"video_source": ".."}, "video_basename: videos/../115.mp4 leads out of "),
        ("L1", VALIDATION | {"current_observation_basename": "a/../../../x"}, "current_observation_basename: images/"),
        ("train_cot", chat({"type": "video", "video": "/x.mp4"}, {"text": TEXT}), "prompt.video: /x.mp4 leads out of "),
        (
            "train_cot",
            DEMONSTRATION | {"response": "<answer>A or B</answer>"},
            "response: must name one option in one <answer>",
        ),
        ("train_cot", DEMONSTRATION | {"prompt": "What next?"}, 'prompt: must be list, not "What next?"'),
        ("train_cot", chat("What next?"), 'prompt.content: must be dict, not "What next?"'),
        ("train_cot", chat({"type": "image", "image": "a.png"}), 'prompt: has no {"type": "text"} part'),
        ("train_cot", chat({"type": "text", "text": "What next?"}), "prompt.text: must hold lines 'A. ..' and 'B. ..'"),
    ],
)
def test_the_error_about_a_malformed_record_names_file_line_and_field(write, split, record, message):
    valid = {"train": TRAINING, "train_cot": DEMONSTRATION}.get(split, VALIDATION) | {"sample_id": "valid"}
    root = write(split, valid, record)
    with pytest.raises(UserError) as error:
        load(root, split)
    assert str(error.value).startswith(f"{root}/annotations/{SPLITS[split]}:2: {message}")
    assert "\n" not in str(error.value)


def test_links_may_lead_to_files_in_the_folder_but_not_out_of_it(write, tmp_path_factory):
    root = write("L1", VALIDATION)
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


def test_two_records_with_one_id_are_an_error(write):
    with pytest.raises(UserError, match=r"validation_L1.jsonl:2: sample_id: 115 is the id of an earlier record too"):
        load(write("L1", VALIDATION, VALIDATION | {"sample_id": "115"}), "L1")


def test_a_missing_file_an_unknown_split_and_a_file_without_records_are_errors(write, tmp_path):
    with pytest.raises(UserError, match=r"validation_L2.jsonl: no such file, but split 'L2' .* rlvid data get "):
        load(tmp_path, "L2")
    with pytest.raises(UserError, match=r"no split 'trian'\. Did you mean 'train'\?"):
        load(tmp_path, "trian")
    with pytest.raises(UserError, match="holds no record"):
        load(write("L1", b"", b"  "), "L1")
