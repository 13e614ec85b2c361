"""Tests of training and evaluation on a folder in SEED-Bench-R1's layout with videos and images of many shapes."""

import json

import numpy as np
import pytest
from PIL import Image

from rlvid import api
from rlvid.errors import UserError
from rlvid.utils.files import read_jsonl
from tests.helpers import media

CLIPS = {  # name -> frames, and arguments of `write_video`
    "portrait": (media.grey_frames(20, 160, 90), {"fps": 10}),
    "odd": (media.grey_frames(30, 101, 133, step=3), {"fps": 30, "pix_fmt": "yuv444p"}),
    "one_frame": (media.grey_frames(1, 64, 64), {"fps": 1}),
    "variable": (media.grey_frames(8, 80, 60), {"fps": 8, "ticks": [0, 1, 2, 9, 10, 30, 31, 50]}),
    "long": (media.grey_frames(120, 48, 200, step=2), {"fps": 5}),
    "short": (media.grey_frames(3, 72, 72), {"fps": 24}),
}
OPTIONS = ["öffne den Hahn", "close tap", "take cereal box", "put bag into box"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder: seven records, the last one without a video."""
    root = tmp_path_factory.mktemp("handmade")
    for folder in ("annotations", "videos/EpicKitchens", "images/EpicKitchens"):
        (root / folder).mkdir(parents=True)
    records = []
    for number, name in enumerate([*CLIPS, "no_video"]):
        if name in CLIPS:
            frames, arguments = CLIPS[name]
            media.write_video(root / "videos/EpicKitchens" / f"{name}.mp4", frames, **arguments)
        height, width = 37 + 50 * number, 300 - 30 * number
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images/EpicKitchens" / f"{name}.png")
        progress = [{"narration_text": "x", "start_frame": 0, "stop_frame": 1}] if name in CLIPS else []
        records.append(
            {
                "sample_id": number, "video_source": "EpicKitchens", "video_id": name, "task_goal": "store cereal",
                "question": "What action should I take next in order to store cereal?", "answer": OPTIONS[number % 4],
                "current_observation_frame": 9, "video_basename": f"{name}.mp4",
                "current_observation_basename": f"{name}.png", "task_progress_metadata": progress,
            }
        )  # fmt: skip
    choices = dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), OPTIONS, strict=True))
    training = [r | {"negative_answers": [option for option in OPTIONS if option != r["answer"]]} for r in records]
    validation = [r | choices | {"golden_choice_idx": "ABCD"[r["sample_id"] % 4]} for r in records]
    for file, rows in (("training_6k", training), ("validation_L1", validation)):
        (root / f"annotations/{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def overrides(root, *more):
    small = ["train.max_steps=2", "train.prompts_per_step=7", "train.max_completion_length=8"]
    return [f"data={root}", *small, "eval.splits=['L1']", "eval.transfer=[]", *more]


@pytest.mark.parametrize(
    "size", [[], ["video.resized_height=none", "video.resized_width=none"]], ids=["one size", "sizes of the files"]
)
def test_videos_and_images_of_all_shapes_are_trained_and_evaluated_on(root, tmp_path, size):
    api.train("nano", overrides(root, *size, "video.max_pixels=12544"), tmp_path / "run")
    rows = read_jsonl(tmp_path / "run/eval/L1.jsonl")
    assert [row["id"] for row in rows] == [str(i) for i in range(7)] and not any("unread" in row for row in rows)
    assert len(read_jsonl(tmp_path / "run/metrics.jsonl")) == 2


def test_a_bad_clip_ends_the_run_or_is_skipped_and_counted(root, tmp_path):
    clip = root / "videos/EpicKitchens/long.mp4"
    content = clip.read_bytes()
    clip.write_bytes(b"no video")
    try:
        with pytest.raises(UserError, match=r"sample 4: .*long\.mp4"):
            api.train("nano", overrides(root), tmp_path / "ends")
        api.train("nano", overrides(root, "video.on_bad_video=skip"), tmp_path / "skips")
    finally:
        clip.write_bytes(content)
    first, second = read_jsonl(tmp_path / "skips/metrics.jsonl")
    assert first["data/decode_failures"] == second["data/decode_failures"] == 1
    assert len(read_jsonl(tmp_path / "skips/samples/step-000001.jsonl")) == 6
    trained, evaluated = read_jsonl(tmp_path / "skips/skipped.jsonl")
    assert (trained["level"], evaluated["level"]) == ("train", "L1")
    assert all(row["id"] == "4" and "long.mp4" in row["error"] for row in (trained, evaluated))
    unread = [row["id"] for row in read_jsonl(tmp_path / "skips/eval/L1.jsonl") if row.get("unread")]
    assert unread == ["4"], "the evaluation keeps the question, as a wrong answer"
