"""A copy of the embedded model that uses the published M-RoPE positions."""

import json
import math
import shutil

from rlvid.policy.mrope import TRANSFORMERS_POSITIONS
from rlvid.registry import NANO_CHECKPOINT


def model_with_published_positions(folder):
    """Write a copy of nano whose config does not name the positions of transformers; returns its folder."""
    copy = shutil.copytree(NANO_CHECKPOINT, folder / "published")
    config = json.loads((copy / "config.json").read_text())
    remaining = {key: value for key, value in config.items() if key not in TRANSFORMERS_POSITIONS}
    (copy / "config.json").write_text(json.dumps(remaining))
    return copy


def published_positions(token_ids, config, grids, seconds_per_step=1.0):
    """The positions of a prompt by the published formulas, one token at a time.

    Text counts up; a medium counts its steps, rows and columns from where it starts, and text goes on after the largest
    (arXiv:2409.12191). Qwen2.5-VL's steps are seconds times `tokens_per_second`, rounded down (arXiv:2502.13923);
    Qwen3-VL's video is one medium per step (arXiv:2511.21631).

    Args:
        token_ids: the prompt's.
        config: the model's.
        grids: (t, h, w) in patches, of each video or image, in order.
        seconds_per_step: of the video.

    Returns:
        One (time, row, column) per token, and the position of the next token.
    """
    merge = config.vision_config.spatial_merge_size
    media = []  # (grid in visual tokens, positions from step to step)
    first_media = [token for token in token_ids if token in (config.video_token_id, config.image_token_id)]
    is_video = [True, False] if first_media[:1] == [config.video_token_id] else [False]
    for (t, h, w), video in zip(grids, is_video, strict=False):
        if video and config.model_type.startswith("qwen3_vl"):
            media += [((1, h // merge, w // merge), 1.0)] * t
        else:
            seconds = video and config.model_type == "qwen2_5_vl"
            pace = seconds_per_step * config.vision_config.tokens_per_second if seconds else 1.0
            media.append(((t, h // merge, w // merge), pace))
    positions, start, index = [], 0, 0
    while index < len(token_ids):
        if token_ids[index] in (config.video_token_id, config.image_token_id):
            (t, h, w), pace = media.pop(0)
            for step in range(t):
                for row in range(h):
                    for column in range(w):
                        positions.append((start + math.floor(step * pace), start + row, start + column))
            index += t * h * w
            start = max(max(position) for position in positions) + 1
        else:
            positions.append((start,) * 3)
            index, start = index + 1, start + 1
    return positions, start
