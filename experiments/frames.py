"""How many frames, and how large, must a policy be shown, in training and when it is asked?

The embedded benchmark's clips have eight frames. Sizes are shares of the preset's height and width, which `video` takes
to the nearest multiple of 28 pixels.

rlvid grid experiments/frames.py --jobs 2
"""

from collections.abc import Mapping
from functools import partial

from rlvid.config import load
from rlvid.grids.grid import Grid, Settings

FRAMES = ("2 frames", "4 frames", "8 frames")
SIZES = ("50 % size", "100 % size", "150 % size")
WHOLE = SIZES[1]


def sized(share: float, levels: Mapping[str, str]) -> Settings:
    """The preset's frames, scaled."""
    video = load(levels["preset"]).video
    height, width = video.resized_height or 252, video.resized_width or 252
    return {"video.resized_height": round(share * height), "video.resized_width": round(share * width)}


GRID = Grid(
    name="frames",
    question="How many frames, and how large, must a policy be shown, in training and when it is asked?",
    axes={
        "algorithm": {"base": {"train.max_steps": 0}, "grpo": {}},
        "frames": {name: {"video.min_frames": 2, "video.max_frames": int(name.split()[0])} for name in FRAMES},
        "size": {name: partial(sized, int(name.split()[0]) / 100) for name in SIZES},
    },
    unseeded=tuple(f"base, {frames}, {size}" for frames in FRAMES for size in SIZES),
    seeds=(0, 1, 2),
    control=f"base, {FRAMES[-1]}, {WHOLE}",
    comparisons=(
        *((f"grpo, {frames}, {size}", f"base, {frames}, {size}") for frames in FRAMES for size in SIZES),
        *((f"grpo, {frames}, {WHOLE}", f"grpo, {FRAMES[-1]}, {WHOLE}") for frames in FRAMES[:-1]),
        *((f"grpo, {FRAMES[-1]}, {size}", f"grpo, {FRAMES[-1]}, {WHOLE}") for size in SIZES if size != WHOLE),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
