"""Turn a prompt's text and frames into what a Qwen2-VL reads: token ids, patches and grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2VLConfig

from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.pixels import patchify

TEXT_KIND, IMAGE_KIND, VIDEO_KIND = 0, 1, 2  # of a token


def chat_token_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, media_kinds: Sequence[str]) -> list[int]:
    """Return the tokens of a prompt in the chat template, with one placeholder for each "video" or "image"."""
    content = [{"type": kind} for kind in media_kinds] + [{"type": "text", "text": prompt.text}]
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
    )


def expand_placeholders(
    token_ids: Sequence[int], grids: Tensor, config: Qwen2VLConfig, prompt: Prompt
) -> tuple[Tensor, Tensor]:
    """Repeat the placeholder of each video or image once per visual token.

    Args:
        token_ids: a prompt's tokens, with M placeholders.
        grids: (M, 3), in patches.
        config: the model's.
        prompt: named in errors.

    Returns:
        (L,) token ids, and (L,) kinds: `TEXT_KIND`, `IMAGE_KIND` or `VIDEO_KIND`.

    Raises:
        UserError: if the prompt's own text contains a placeholder.
    """
    kind_of = {config.image_token_id: IMAGE_KIND, config.video_token_id: VIDEO_KIND}
    if sum(token in kind_of for token in token_ids) != len(grids):
        raise UserError(f"sample {prompt.id}: its text contains a reserved vision token; remove it from the record")
    visual_tokens = iter(merged_grid(grids, config).prod(-1).tolist())  # of each video or image
    expanded: list[int] = []
    for token in token_ids:
        expanded += [token] * next(visual_tokens) if token in kind_of else [token]
    kinds = [kind_of.get(token, TEXT_KIND) for token in expanded]
    return torch.tensor(expanded), torch.tensor(kinds, dtype=torch.int)


def merged_grid(grids: Tensor, config: Qwen2VLConfig) -> Tensor:
    """(M, 3) grids in patches -> (M, 3) grids in visual tokens, each of which stands for a block of patches."""
    merge = config.vision_config.spatial_merge_size
    return grids // torch.tensor([1, merge, merge], device=grids.device)


def media_patches(media: Sequence[np.ndarray], config: Qwen2VLConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cut frames into patches.

    Args:
        media: M videos, (T, H, W, 3) uint8, and images, (H, W, 3) uint8.
        config: the model's.
        device: where the patches are made.

    Returns:
        (patches, values per patch) of all media, on the device, and (M, 3) grids in patches, on the CPU.
    """
    if not media:
        return torch.zeros(0, values_per_patch(config), device=device), torch.zeros(0, 3, dtype=torch.long)
    vision = config.vision_config
    patches, grids = [], []
    for frames in media:
        frames = frames.reshape(-1, *frames.shape[-3:])  # (T, H, W, 3), T = 1 for an image
        contiguous = np.ascontiguousarray(frames)  # a reversed view has negative strides, which torch does not take
        pinned = torch.tensor(contiguous, pin_memory=device.type == "cuda")
        pixels = pinned.to(device, non_blocking=True)
        rows, grid = patchify(pixels, vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
        patches.append(rows)
        grids.append(grid)
    return torch.cat(patches), torch.tensor(grids)


def values_per_patch(config: Qwen2VLConfig) -> int:
    """Return the number of values of a patch."""
    vision = config.vision_config
    return vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
