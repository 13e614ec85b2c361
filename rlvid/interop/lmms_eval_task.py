"""Functions of a task for lmms-eval. `rlvid export --lmms-eval-task` copies this file as utils.py into the task.

It needs neither rlvid nor torch: beside it stand settings.json, with how frames are chosen and resized, and
question_form.py, a copy of rlvid's parser of replies. A document is a line of LEVEL.jsonl: id, prompt, options, answer,
domain, video and image.
"""

from __future__ import annotations

import importlib.util
import json
import re
from functools import lru_cache
from math import ceil, floor, inf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
TIME_SPAN = re.compile(r"(.+)#t=(\d+\.?\d*),(\d+\.?\d*)")


@lru_cache(maxsize=1)
def settings() -> dict[str, Any]:
    """Return the content of settings.json."""
    content: dict[str, Any] = json.loads((HERE / "settings.json").read_text())
    return content


@lru_cache(maxsize=1)
def parser() -> Any:
    """Return the function that reads the answer of a reply."""
    spec = importlib.util.spec_from_file_location("question_form", HERE / "question_form.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.parse


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """Return question, options and instruction, as the model was trained with."""
    return str(doc["prompt"])


def doc_to_target(doc: dict[str, Any]) -> str:
    """Return the letter of the right option."""
    return str(doc["answer"])


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """Return the video's path and the image, for models that choose frames themselves."""
    if doc["video"] and "#t=" in doc["video"]:
        raise ValueError(f"{doc['video']} is a part of a file: use a chat model, which gets the frames")
    visuals = [doc["video"]] if doc["video"] else []
    return visuals + ([read_image(doc["image"])] if doc["image"] else [])


def doc_to_messages(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> list[dict[str, Any]]:
    """Return one message for chat models: frames as the model was trained with, the image, the text."""
    content: list[dict[str, Any]] = []
    if doc["video"]:
        content.append({"type": "video", "url": read_video(doc["video"])})
    if doc["image"]:
        content.append({"type": "image", "url": resize(read_image(doc["image"]))})
    content.append({"type": "text", "text": doc["prompt"]})
    return [{"role": "user", "content": content}]


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Return the score of a reply: 1 if it answers with the right option. Reasoning may have been stripped."""
    answer = parser()(results[0], doc["options"])
    score = float(answer is not None and answer == doc["answer"])
    about = {"pred_answer": answer, "answer": doc["answer"], "domain": doc["domain"], "video": doc["video"]}
    return {"accuracy": {"question_id": doc["id"], **about, "score": score}}


def mean_score(results: list[dict[str, Any]]) -> float:
    """Return the accuracy, a share: the mean of the scores that lmms-eval collected, one for each question."""
    return float(sum(result["score"] for result in results) / len(results))


def frame_indices(total: int, native_fps: float) -> list[int]:
    """Return which of a clip's frames are shown: an even number, from the first to the last, evenly spaced."""
    if total == 1:
        return [0]
    limits = settings()
    fewest, most = ceil(limits["min_frames"] / 2) * 2, limits["max_frames"] // 2 * 2
    wanted = total / native_fps * limits["fps"] if native_fps > 0 else most
    count = int(min(max(wanted, fewest), most, total)) // 2 * 2
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


def read_video(path: str) -> list[Image.Image]:
    """Return the shown frames of a clip as pictures, resized."""
    import decord

    match = TIME_SPAN.fullmatch(path)
    file, start, end = (match[1], float(match[2]), float(match[3])) if match else (path, 0.0, inf)
    reader = decord.VideoReader(file, num_threads=1)
    native_fps, first, last = reader.get_avg_fps(), 0, len(reader) - 1
    if match:
        first = round(start * native_fps)
        last = int(min(round(end * native_fps), last))
    indices = [first + index for index in frame_indices(last - first + 1, native_fps)]
    return [resize(Image.fromarray(frame)) for frame in reader.get_batch(indices).asnumpy()]


def read_image(path: str) -> Image.Image:
    """Return a picture in RGB, upright; transparent pixels become white."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return Image.fromarray(np.asarray(upright.convert("RGB")))


def resize(image: Image.Image) -> Image.Image:
    """Return a picture of the size at which the model was trained."""
    size = settings()["width"], settings()["height"]
    size = free_size(*image.size) if None in size else size
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def free_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of a picture without a fixed one: multiples of `factor`, within the limits of pixels."""
    limits = settings()
    factor, fewest, most = limits["factor"], limits["min_pixels"], limits["max_pixels"]
    new = [max(factor, round(side / factor) * factor) for side in (width, height)]
    if new[0] * new[1] > most:
        shrink = sqrt(height * width / most)
        new = [max(factor, floor(side / shrink / factor) * factor) for side in (width, height)]
    elif new[0] * new[1] < fewest:
        grow = sqrt(fewest / (height * width))
        new = [ceil(side * grow / factor) * factor for side in (width, height)]
    return new[0], new[1]
