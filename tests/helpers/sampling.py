"""Sample with our sampler, and with transformers' own `generate`, for comparison."""

from contextlib import nullcontext
from dataclasses import replace

import torch

from rlvid.config import load
from rlvid.policy.decoding import SharedPrefixCache
from rlvid.policy.sampler import Sampler


def make_sampler(policy, cache_type=SharedPrefixCache, **changes):
    """A sampler of 4 completions of at most 24 tokens, with changes to the `[train]` section."""
    train = replace(load("nano").train, max_completion_length=24, num_generations=4)
    sampler = Sampler(policy, replace(train, **changes), no_timer)
    sampler.cache_type = cache_type
    return sampler


def no_timer(phase):
    """A timer of phases that does nothing."""
    return nullcontext()


def encode_all(policy, prompts):
    return [policy.encode(prompt) for prompt in prompts]


def generate_greedily(policy, prompt, inputs, **options):
    """The tokens of transformers' own greedy completion."""
    input_ids, config = inputs.input_ids[None], policy.model.config
    names = {"video": ("pixel_values_videos", "video_grid_thw"), "image": ("pixel_values", "image_grid_thw")}
    kinds = [kind for kind, path in (("video", prompt.video), ("image", prompt.image)) if path]
    patches = inputs.pixel_values.split(inputs.grid_thw.prod(-1).tolist())
    pixels = {}
    for kind, kind_patches, grid in zip(kinds, patches, inputs.grid_thw, strict=True):
        pixels |= dict(zip(names[kind], (kind_patches, grid[None]), strict=True))
    output = policy.model.generate(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        mm_token_type_ids=(input_ids == config.image_token_id).int() + 2 * (input_ids == config.video_token_id).int(),
        max_new_tokens=24,
        do_sample=False,
        suppress_tokens=policy.banned_token_ids,
        **pixels,
        **options,
    )
    return output[0, input_ids.shape[1] :].tolist()
