"""How many frames does a policy need, and how large, in training and in evaluation?

The clips of the embedded benchmark have eight frames. Sizes are percentages of the preset's height and width; `video`
rounds them to multiples of 28 pixels.

rlvid grid experiments/frames.py --jobs 2
"""

from collections.abc import Mapping
from functools import partial

from rlvid.config import load
from rlvid.grids import Grid, Settings

FRAMES = ("2 frames", "4 frames", "8 frames")
SIZES = ("50 % size", "100 % size", "150 % size")
FULL_SIZE = SIZES[1]


def scaled_frames(share: float, levels: Mapping[str, str]) -> Settings:
    """Return the settings for a share of the preset's height and width."""
    video = load(levels["preset"]).video
    height, width = video.resized_height or 252, video.resized_width or 252
    return {"video.resized_height": round(share * height), "video.resized_width": round(share * width)}


GRID = Grid(
    name="frames",
    question="How many frames does a policy need, and how large, in training and in evaluation?",
    axes={
        "algorithm": {"base": {"train.max_steps": 0}, "grpo": {}},
        "frames": {name: {"video.min_frames": 2, "video.max_frames": int(name.split()[0])} for name in FRAMES},
        "size": {name: partial(scaled_frames, int(name.split()[0]) / 100) for name in SIZES},
    },
    unseeded=tuple(f"base, {frames}, {size}" for frames in FRAMES for size in SIZES),
    seeds=(0, 1, 2),
    control=f"base, {FRAMES[-1]}, {FULL_SIZE}",
    comparisons=(
        *((f"grpo, {frames}, {size}", f"base, {frames}, {size}") for frames in FRAMES for size in SIZES),
        *((f"grpo, {frames}, {FULL_SIZE}", f"grpo, {FRAMES[-1]}, {FULL_SIZE}") for frames in FRAMES[:-1]),
        *((f"grpo, {FRAMES[-1]}, {size}", f"grpo, {FRAMES[-1]}, {FULL_SIZE}") for size in SIZES if size != FULL_SIZE),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
