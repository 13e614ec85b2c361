"""A prompt as vLLM takes it: token ids, and the features of the policy's vision tower in place of pixels.

vLLM repeats the token of a video or image itself, and for Qwen3-VL it also writes the times of the frames. So it is
handed one token for each of them:

    the model reads    ... <0.5 seconds> start v v v v end <1.5 seconds> start v v v v end  start i i i i end ...
    vLLM is handed     ... v                                                                start i           end ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from rlvid.errors import UserError
from rlvid.policy.encoding import IMAGE_KIND, VIDEO_KIND, media_segments, merged_grid
from rlvid.policy.families import Segment
from rlvid.policy.model import Policy
from rlvid.policy.mrope import mrope_position_ids
from rlvid.policy.types import ModelInputs
from rlvid.types import Prompt


def vllm_prompt(policy: Policy, prompt: Prompt, inputs: ModelInputs) -> Mapping[str, Any]:
    """Return a prompt for vLLM: one token for each video or image, and its features.

    Raises:
        UserError: if vLLM would place the prompt's tokens elsewhere than the policy does.
    """
    config, ids = policy.model.config, inputs.input_ids.cpu()
    kinds = [kind for kind in ("video", "image") if (ids == getattr(config, f"{kind}_token_id")).any()]
    grids = merged_grid(inputs.grid_thw.cpu(), config)  # (M, 3)
    segments = media_segments(kinds, grids, inputs.clock, policy.family, prompt.id)
    _refuse_other_positions(config, prompt, inputs, list(chain(*segments)))
    written = segments[0] if "video" in kinds else ()
    token_ids = _one_token_for_each(policy, ids.tolist(), written)
    if not kinds:
        return {"prompt_token_ids": token_ids}

    features = policy.vision_features([inputs]).split(grids.prod(-1).tolist())
    media: dict[str, dict[str, Any]] = {
        kind: {f"{kind}_embeds": embeds.cpu(), f"{kind}_grid_thw": grid[None].cpu()}
        for kind, embeds, grid in zip(kinds, features, inputs.grid_thw, strict=True)
    }
    if "video" in media:
        times = policy.family.video_times(inputs.clock)
        # In float64: vLLM multiplies and rounds them as `mrope` does.
        media["video"] |= {name: torch.tensor(values, dtype=torch.float64) for name, values in times.items()}
    return {"prompt_token_ids": token_ids, "multi_modal_data": media}


def _one_token_for_each(policy: Policy, token_ids: list[int], segments: Sequence[Segment]) -> list[int]:
    """Return token ids with one visual token in place of each video or image.

    `segments` are the video's. If they have a text, vLLM writes it together with the start and end tokens.
    """
    config = policy.model.config
    if segments and segments[0].text:
        video = config.video_token_id
        begin = token_ids.index(video) - 1 - len(policy.tokenizer(segments[0].text)["input_ids"])
        end = len(token_ids) - token_ids[::-1].index(video) + 1
        token_ids = [*token_ids[:begin], video, *token_ids[end:]]
    visual = {config.video_token_id, config.image_token_id}
    previous_ids = [None, *token_ids[:-1]]
    return [
        token
        for token, previous in zip(token_ids, previous_ids, strict=True)
        if token not in visual or token != previous
    ]


def _refuse_other_positions(config: Any, prompt: Prompt, inputs: ModelInputs, segments: Sequence[Segment]) -> None:
    """Raise UserError where the published positions, which vLLM computes, are not those of the prompt."""
    ids, positions = inputs.input_ids.cpu(), inputs.position_ids.cpu()
    kinds = IMAGE_KIND * (ids == config.image_token_id).int() + VIDEO_KIND * (ids == config.video_token_id).int()
    published, after = mrope_position_ids(kinds, segments)
    if not torch.equal(published, positions) or after != inputs.next_position:
        raise UserError(
            f"sample {prompt.id}: with train.use_vllm, a video for this model may be at most as long in positions as a "
            f"frame has visual tokens on its longer side, and it is longer: text after it is at {after} in vLLM and at "
            f"{inputs.next_position} here. Lower video.max_frames, use larger frames, or turn train.use_vllm off"
        )
