"""Vision features on their way into the language model, also those of DeepStack (arXiv:2406.04334).

DeepStack takes features from several depths of the vision tower, and adds one to the visual tokens after each of the
first layers of the language model. Here they are carried as wider features of a visual token:

    [ embedding | level 1 | level 2 | ... ]     hidden * (1 + levels) numbers; without DeepStack, hidden numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from rlvid.policy.types import ModelInputs


def media_features(model: PreTrainedModel, prompts: Sequence[ModelInputs]) -> Tensor:
    """Run the vision tower on all media of some prompts, in one call.

    Prompts with `equal_slices_once` run each run of equal slices (pairs of frames, or an image) as one. A tower attends
    within a slice, so its features do not depend on the others.

    Returns:
        (visual tokens, hidden * (1 + levels)).
    """
    patches = torch.cat([prompt.pixel_values for prompt in prompts])
    grids = torch.cat([prompt.grid_thw for prompt in prompts])
    if not all(prompt.equal_slices_once for prompt in prompts):
        return torch.cat(vision_features(model, patches, grids))
    shapes = [[1, h, w] for t, h, w in grids.tolist() for _ in range(t)]
    slices = patches.split([h * w for _, h, w in shapes])
    index: list[int] = []  # of each slice among the different ones
    different: list[int] = []  # the first slice of each run of equal ones
    for i, (shape, slice_) in enumerate(zip(shapes, slices, strict=True)):
        if not (i and shapes[i - 1] == shape and torch.equal(slices[i - 1], slice_)):
            different.append(i)
        index.append(len(different) - 1)
    chosen = torch.cat([slices[i] for i in different])
    features = vision_features(model, chosen, grids.new_tensor([shapes[i] for i in different]))
    return torch.cat([features[i] for i in index])


def vision_features(model: PreTrainedModel, patches: Tensor, grids: Tensor) -> list[Tensor]:
    """Run the vision tower.

    Args:
        model: with the tower.
        patches: (patches, values per patch), of M videos and images.
        grids: (M, 3), in patches.

    Returns:
        For each video or image, (visual tokens, hidden * (1 + levels)).
    """
    output = model.model.get_image_features(patches, grids)
    levels = getattr(output, "deepstack_features", None) or ()
    return [torch.cat(parts, dim=-1) for parts in zip(output.pooler_output, *levels, strict=True)]


@dataclass(frozen=True)
class PromptEmbeds:
    """The input embeddings of N prompts of L tokens each."""

    tokens: list[Tensor]  # for each prompt, (L, hidden)
    is_visual: list[Tensor]  # for each prompt, (L,) bool
    deepstack: Sequence[Tensor] = ()  # for each level, (visual tokens of all prompts, hidden)

    def model_arguments(self, completions: Sequence[Tensor] = ()) -> dict[str, Any]:
        """Return the language model's arguments for one row per prompt, padded on the right to the longest.

        `completions` holds for each prompt the (tokens, hidden) embeddings that follow it; without it nothing follows.
        """
        rows, masks = self.tokens, self.is_visual
        if completions:
            rows = [torch.cat(row) for row in zip(rows, completions, strict=True)]
            lengths = [len(row) for row in rows]
            masks = [_extend(mask, length) for mask, length in zip(masks, lengths, strict=True)]
        arguments: dict[str, Any] = {"inputs_embeds": pad_sequence(rows, batch_first=True)}
        if self.deepstack:
            arguments["visual_pos_masks"] = pad_sequence(masks, batch_first=True)
            arguments["deepstack_visual_embeds"] = list(self.deepstack)
        return arguments


def _extend(mask: Tensor, length: int) -> Tensor:
    """(L,) bool -> (length,) bool, False after L."""
    return torch.nn.functional.pad(mask, (0, length - len(mask)))
