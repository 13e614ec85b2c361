"""Turn a prompt's text and frames into what a model reads: token ids, patches and grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlvid.errors import UserError
from rlvid.policy.families import Family, Segment
from rlvid.policy.patches import Patches
from rlvid.policy.types import CachedMedia
from rlvid.video.pixels import patch_grid, patchify
from rlvid.video.read import Clock

TEXT_KIND, IMAGE_KIND, VIDEO_KIND = 0, 1, 2  # of a token
VIDEO_BLOCK = "<|vision_start|><|video_pad|><|vision_end|>"  # a video in a chat template


def media_segments(
    kinds: Sequence[str], grids: Tensor, clock: Clock | None, family: Family, sample: str
) -> list[list[Segment]]:
    """Return the segments of each video or image.

    Args:
        kinds: "video" or "image", for each of M media.
        grids: (M, 3), in visual tokens.
        clock: of the video's frames; None if unknown.
        family: the model's.
        sample: the id of the prompt, for errors.

    Raises:
        UserError: if the model reads the times of frames and they are unknown.
    """
    try:
        return [
            family.video_segments((t, h, w), clock) if kind == "video" else [Segment((t, h, w))]
            for kind, (t, h, w) in zip(kinds, grids.tolist(), strict=True)
        ]
    except UserError as error:
        raise UserError(f"sample {sample}: {error}") from error


def chat_token_ids(tokenizer: PreTrainedTokenizerBase, text: str, media: Mapping[str, Sequence[Segment]]) -> list[int]:
    """Return the tokens of a prompt in the chat template, with one placeholder for each segment.

    As in the published processors, a video's segments take the place of its start token, placeholder and end token
    before the text is tokenized.

    Args:
        tokenizer: with the chat template.
        text: of the message; it comes after the media.
        media: "video" and "image" -> segments.
    """
    content = [{"type": kind} for kind in media] + [{"type": "text", "text": text}]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    if "video" in media:
        blocks = "".join(segment.text + VIDEO_BLOCK for segment in media["video"])
        chat = chat.replace(VIDEO_BLOCK, blocks, 1)
    return tokenizer(chat, add_special_tokens=False)["input_ids"]


def expand_placeholders(
    token_ids: Sequence[int], segments: Sequence[Segment], config: Any, sample: str
) -> tuple[Tensor, Tensor]:
    """Repeat the placeholder of each segment once per visual token.

    Args:
        token_ids: a prompt's tokens, with one placeholder for each segment.
        segments: of all videos and images.
        config: the model's.
        sample: the id of the prompt, for errors.

    Returns:
        (L,) token ids, and (L,) kinds: `TEXT_KIND`, `IMAGE_KIND` or `VIDEO_KIND`.

    Raises:
        UserError: if the prompt's own text contains a placeholder.
    """
    kind_of = {config.image_token_id: IMAGE_KIND, config.video_token_id: VIDEO_KIND}
    if sum(token in kind_of for token in token_ids) != len(segments):
        raise UserError(f"sample {sample}: its text contains a reserved vision token; remove it from the record")
    visual_tokens = iter(prod(segment.grid) for segment in segments)
    expanded: list[int] = []
    for token in token_ids:
        expanded += [token] * next(visual_tokens) if token in kind_of else [token]
    kinds = [kind_of.get(token, TEXT_KIND) for token in expanded]
    return torch.tensor(expanded), torch.tensor(kinds, dtype=torch.int)


def merged_grid(grids: Tensor, config: Any) -> Tensor:
    """(M, 3) grids in patches -> (M, 3) grids in visual tokens, each of which stands for a block of patches."""
    merge = config.vision_config.spatial_merge_size
    return grids // torch.tensor([1, merge, merge], device=grids.device)


def media_patches(
    media: Sequence[np.ndarray], family: Family, device: torch.device, cached: Sequence[CachedMedia] = ()
) -> tuple[Patches, Tensor]:
    """Cut frames into patches.

    Args:
        media: M videos, (T, H, W, 3) uint8, and images, (H, W, 3) uint8.
        family: the model's.
        device: where the patches are made.
        cached: M cache entries. Patches of those with features are made only if something reads them; all others now.

    Returns:
        The patches, and (M, 3) grids in patches, on the CPU.
    """
    vision = family.vision
    parts: list[Tensor | Callable[[], Tensor]] = []
    grids = []
    for index, frames in enumerate(media):
        frames = frames.reshape(-1, *frames.shape[-3:])  # (T, H, W, 3), T = 1 for an image
        grids.append(patch_grid(frames.shape, vision.patch_size, vision.temporal_patch_size))
        cut = partial(_cut, frames, family, device)
        parts.append(cut if cached and cached[index].features is not None else cut())
    empty = torch.zeros(0, values_per_patch(family), device=device)
    return Patches(parts, empty), torch.tensor(grids, dtype=torch.long).reshape(-1, 3)


def _cut(frames: np.ndarray, family: Family, device: torch.device) -> Tensor:
    """(T, H, W, 3) uint8 -> (patches, values per patch), on the device."""
    vision = family.vision
    contiguous = np.ascontiguousarray(frames)  # a reversed view has negative strides, which torch does not take
    pinned = torch.tensor(contiguous, pin_memory=device.type == "cuda")
    pixels = pinned.to(device, non_blocking=True)
    patches, _ = patchify(
        pixels, vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size, family.mean, family.std
    )
    return patches


def values_per_patch(family: Family) -> int:
    """Return the number of values of a patch."""
    vision = family.vision
    return vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
