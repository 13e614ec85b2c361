"""Files that tell other tools how a model of a packed family was used: its processors, and how it is decoded.

A checkpoint holds weights and tokenizer only, since rlvid makes its inputs itself. Without these files another tool
takes the processors of the published model, which resize frames to other sizes: to 128 visual tokens at least, where
the embedded models were trained with 4. So `rlvid export` writes

    preprocessor_config.json          of images: size, mean and standard deviation, patches
    video_preprocessor_config.json    of videos: the same, and how many frames are shown
    generation_config.json            greedy or sampled as in evaluations, the number of tokens, the end token

The processors of transformers keep a frame's aspect ratio, and choose frames by another rule. They agree with rlvid
where a tool is given frames as rlvid shows them: `video.resized_height` x `video.resized_width`, evenly spaced from the
first to the last.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from rlvid.config import Config, VideoConfig
from rlvid.policy.families import Family, family_of
from rlvid.policy.model import Policy
from rlvid.utils.files import write_text
from rlvid.video.resize import target_size

BICUBIC = 3  # Pillow's number of the filter


def write_usage_files(folder: Path, policy: Policy, config: Config) -> None:
    """Write the processors of a packed family, and for any model how its replies are decoded.

    Args:
        folder: of the exported model.
        policy: the exported model.
        config: that of its evaluation; [video], [eval] and `eval_max_tokens` count.
    """
    if policy.family.packs_rows:
        image, video = processor_settings(policy.model.config, config.video)
        write_text(folder / "preprocessor_config.json", json.dumps(image, indent=2) + "\n")
        write_text(folder / "video_preprocessor_config.json", json.dumps(video, indent=2) + "\n")
    generation_config(policy, config).save_pretrained(folder)


def processor_settings(model_config: Any, video: VideoConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a model's image processor and of its video processor.

    Sizes are limits of a frame's pixels, height times width; Qwen3-VL counts those of all frames of a video together.
    """
    family = family_of(model_config)
    processor, image_processor, video_processor = family.processors
    fewest, most = frame_pixels(video, family)
    common = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(family.mean),
        "image_std": list(family.std),
        "merge_size": family.vision.spatial_merge_size,
        "patch_size": family.vision.patch_size,
        "processor_class": processor,
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
        "temporal_patch_size": family.vision.temporal_patch_size,
    }
    frames = {"fps": video.fps, "min_frames": video.min_frames, "max_frames": video.max_frames}
    shortest, longest = (video.min_frames, video.max_frames) if family.limits_video_pixels else (1, 1)
    return (
        common | {"image_processor_type": image_processor, "size": _size(fewest, most)},
        common | frames | {"video_processor_type": video_processor, "size": _size(shortest * fewest, longest * most)},
    )


def frame_pixels(video: VideoConfig, family: Family) -> tuple[int, int]:
    """Return the fewest and the most pixels of a frame: equal where both sides are fixed."""
    if video.resized_height and video.resized_width:
        height, width = target_size(video.resized_height, video.resized_width, video, family.image_factor)
        return height * width, height * width
    return video.min_pixels, video.max_pixels


def generation_config(policy: Policy, config: Config) -> GenerationConfig:
    """Return how replies are decoded in the run's evaluations.

    Whatever else the base model's file says, such as a repetition penalty, does not hold: rlvid does not use it.
    """
    sampling: dict[str, Any] = {"do_sample": False}
    if config.eval.temperature:
        sampling = {"do_sample": True, "temperature": config.eval.temperature, "top_p": config.eval.top_p, "top_k": 0}
    return GenerationConfig(
        **sampling,
        max_new_tokens=config.eval_max_tokens,
        eos_token_id=policy.tokenizer.eos_token_id,
        pad_token_id=policy.tokenizer.pad_token_id,
        suppress_tokens=list(policy.banned_token_ids) or None,
    )


def _size(shortest_edge: int, longest_edge: int) -> dict[str, int]:
    return {"shortest_edge": shortest_edge, "longest_edge": longest_edge}
