"""A run that is resumed from a checkpoint, against one without interruption."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image
from safetensors.torch import load_file

from rlvid.bench.gpu.part_run import PartRun
from rlvid.config import load
from rlvid.trainer.loop import train
from rlvid.utils.files import read_jsonl, write_text

STEPS, CHECKPOINT = 4, 2  # of the run; the step after which it is resumed
RECORDS, SIZE = 8, 112  # of the data set; height and width of its images
FACTOR = 3.0  # on a GPU, sums in another order differ from run to run
FLOOR = 1e-3


def resume(run: PartRun) -> None:
    """Train nano, resume a copy of the run from its checkpoint, and compare metrics and weights."""
    folder = Path(mkdtemp(dir=run.scratch))
    data = write_dataset(folder / "data")
    whole = train_nano(run, data, folder / "whole")
    resumed = folder / "resumed"
    shutil.copytree(whole, resumed)
    forget_after(resumed, CHECKPOINT)
    train_nano(run, data, resumed, resume=True)

    expected = read_jsonl(whole / "metrics.jsonl")
    difference = metrics_difference(read_jsonl(resumed / "metrics.jsonl"), expected)
    weights = weights_difference(resumed, whole)
    run.record(metrics_difference=difference, weights_difference=weights, loss=expected[-1]["loss"])
    run.require(expected[-1]["grad_norm"] > 0, "the run learnt nothing, so that it shows nothing")
    if not run.on_gpu:
        run.require(difference == weights == 0, "the resumed run has other bits than the one without interruption")
        return
    again = read_jsonl(train_nano(run, data, folder / "again") / "metrics.jsonl")
    yardstick = metrics_difference(again, expected)
    run.record(two_runs_difference=yardstick)
    bar = FACTOR * max(yardstick, FLOOR)
    run.require(
        difference <= bar, f"metrics of the resumed run differ by {difference:.1e}, two runs by {yardstick:.1e}"
    )


def write_dataset(folder: Path) -> Path:
    """Write questions about images, without a video, in the layout of SEED-Bench-R1; returns the folder."""
    random, lines = np.random.default_rng(0), []
    (folder / "images" / "random").mkdir(parents=True, exist_ok=True)
    for number in range(RECORDS):
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / "random" / f"{number}.png")
        record = {
            "sample_id": number,
            "video_source": "random",
            "video_id": str(number),
            "task_goal": "make a soup",
            "question": "What should I do next in order to make a soup?",
            "answer": "cut the carrot",
            "negative_answers": ["open the tap", "wash the pan", "cut the onion"],
            "task_progress_metadata": [],
            "video_basename": f"{number}.mp4",
            "current_observation_basename": f"{number}.png",
        }
        lines.append(json.dumps(record))
    write_text(folder / "annotations" / "training_6k.jsonl", "\n".join([*lines, ""]))
    return folder


def train_nano(run: PartRun, data: Path, folder: Path, resume: bool = False) -> Path:
    """Train nano with GRPO on a data set; returns the run's folder."""
    overrides = [
        f"data={data}",
        f"train.max_steps={STEPS}",
        f"train.save_steps={CHECKPOINT}",
        "train.save_total_limit=4",
        "train.prompts_per_step=4",
        "train.num_generations=4",
        "train.max_completion_length=16",
        "train.lr_scheduler_type=constant",
        "rewards.random=1.0",
        "algorithm.beta=0.04",
        "eval.splits=[]",
        "eval.transfer=[]",
        f"video.cache_dir={run.scratch / 'cache'}",
    ]
    train(load("nano", overrides), folder, resume)
    return folder


def forget_after(folder: Path, step: int) -> None:
    """Make a finished run look as if it had been killed after a step's checkpoint."""
    for path in (folder / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "running"}))


def metrics_difference(rows: list[dict], expected: list[dict]) -> float:
    """Return the largest difference of a metric of any step, relative to its size, or to 0.01 if it is smaller."""
    if [row.keys() for row in rows] != [row.keys() for row in expected]:
        return math.inf
    return max(
        abs(row[name] - value) / max(abs(value), 1e-2)
        for row, other in zip(rows, expected, strict=True)
        for name, value in other.items()
    )


def weights_difference(folder: Path, expected: Path) -> float:
    """Return the largest difference of a weight of the last checkpoints."""
    name = Path("checkpoints", f"step-{STEPS:06}", "model.safetensors")
    ours, others = load_file(folder / name), load_file(expected / name)
    return max(float((ours[key].float() - others[key].float()).abs().max()) for key in others)
