"""Score completions in separate rows of the plain model, with its own attention and padding: slow and simple."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs
from rlvid.types import Group


def score_alone(policy: Policy, inputs: ModelInputs, group: Group) -> Tensor:
    """Return (N,) log-probs of a group's tokens, of one completion after another, from one row each, not padded."""
    rows = [Group(group.prompt, [completion]) for completion in group]
    return torch.cat([score_padded(policy, inputs, row) for row in rows])


def score_padded(
    policy: Policy, inputs: ModelInputs, group: Group, padding: int = 0, temperature: float = 1.0
) -> Tensor:
    """Return (N,) log-probs of a group's tokens, from a batch of one row per completion.

    Args:
        policy: the model.
        inputs: of the prompt, which each row repeats, pixels included.
        group: the completions.
        padding: columns that are added to the longest row, on the right.
        temperature: of the distribution.
    """
    start, device = len(inputs.input_ids), policy.device
    lengths = [len(completion.tokens) for completion in group]
    columns = start + max(lengths) + padding
    token_ids = torch.zeros(len(lengths), columns, dtype=torch.long)
    mask = torch.zeros(len(lengths), columns, dtype=torch.long)
    positions = torch.zeros(3, len(lengths), columns, dtype=torch.long)
    for row, (completion, length) in enumerate(zip(group, lengths, strict=True)):
        end = start + length
        token_ids[row, :end] = torch.cat([inputs.input_ids.cpu(), torch.tensor(completion.tokens)])
        mask[row, :end] = 1
        positions[:, row, :start] = inputs.position_ids.cpu()
        positions[:, row, start:end] = torch.arange(length) + inputs.next_position
    with policy.precision():
        hidden = policy.model.model(
            input_ids=token_ids.to(device),
            attention_mask=mask.to(device) if 0 in mask else None,
            position_ids=positions.to(device),
            use_cache=False,
            **media_arguments(policy, inputs, token_ids),
        ).last_hidden_state
        states = torch.cat([hidden[row, start - 1 : start + n - 1] for row, n in enumerate(lengths)])
        logps = policy.logits(states, temperature).log_softmax(-1)
    tokens = torch.tensor([token for completion in group for token in completion.tokens], device=device)
    return logps.gather(-1, tokens[:, None])[:, 0]


def media_arguments(policy: Policy, inputs: ModelInputs, token_ids: Tensor) -> dict[str, Any]:
    """Return the pixels of a prompt as arguments of the model's forward pass, for the rows of `token_ids`, (B, L)."""
    config, rows = policy.model.config, len(token_ids)
    is_image, is_video = token_ids == config.image_token_id, token_ids == config.video_token_id
    arguments: dict[str, Any] = {"mm_token_type_ids": (is_image.int() + 2 * is_video.int()).to(policy.device)}
    patches = list(inputs.pixel_values.split(inputs.grid_thw.prod(-1).tolist()))
    if is_video.any():  # the video comes before the image
        arguments["pixel_values_videos"] = patches[0].repeat(rows, 1)
        arguments["video_grid_thw"] = inputs.grid_thw[:1].repeat(rows, 1)
    if is_image.any():
        arguments["pixel_values"] = patches[-1].repeat(rows, 1)
        arguments["image_grid_thw"] = inputs.grid_thw[-1:].repeat(rows, 1)
    return arguments
