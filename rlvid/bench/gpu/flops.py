"""What a step needs at least: products in learning, and bytes that are read for a decoded token.

Symbols: P tokens of a prompt, G completions of T tokens, N = P + G * T tokens of a packed row. A product of a weight
matrix with a token takes 2 FLOP per parameter. Recomputation by gradient checkpointing is not counted, nor what a
kernel computes and masks; so these are model FLOPs, as in MFU (PaLM, arXiv:2204.02311, appendix B). Nor is what nothing
reads and rlvid leaves out: of a prompt, all but keys and values in the last layer.
"""

from __future__ import annotations

from typing import Any

from rlvid.bench.parameter_counts import ParameterCounts
from rlvid.bench.token_memory import StepShape

PATCHES_PER_TOKEN = 4  # patches of the vision tower that are merged into one visual token


def learning_flops(counts: ParameterCounts, shape: StepShape) -> float:
    """Return the FLOP of the forward and backward pass of packed rows; the vision tower's attention is not counted.

    A backward pass takes two products for each of the forward pass, or one where the weights are frozen.
    """
    text = counts.config.text_config
    backward = 1 if counts.adapters else 2
    row = shape.prompt + shape.completions * shape.completion
    layer = counts.language / text.num_hidden_layers  # parameters
    keys_and_values = 2 * text.hidden_size * text.num_key_value_heads * _head_size(text)
    unread = shape.prompt * (layer - keys_and_values)  # in the last layer
    language = 2 * (counts.language * row - unread)
    head = 2 * text.hidden_size * text.vocab_size * shape.completions * shape.completion
    flops = (language + head) * (1 + backward)
    if not counts.adapters:  # else the tower is frozen, and its features are cached
        flops += 3 * _vision_flops(counts, shape.visual)
    return shape.groups * flops + 3 * attention_flops(counts, shape)


def attention_flops(counts: ParameterCounts, shape: StepShape) -> float:
    """Return the FLOP of a forward pass's attention: each token attends to its row up to itself.

    The last layer has one query for each completion token, from the token before it.
    """
    text = counts.config.text_config
    prompt_pairs = shape.prompt * (shape.prompt + 1) / 2  # of a query and a key
    own_pairs = shape.completion * (shape.completion + 1) / 2
    pairs = prompt_pairs + shape.completions * (shape.completion * shape.prompt + own_pairs)
    last_pairs = shape.completions * (shape.completion * shape.prompt + own_pairs - shape.completion)
    all_pairs = pairs * (text.num_hidden_layers - 1) + last_pairs
    return 4 * text.num_attention_heads * _head_size(text) * all_pairs * shape.groups


def _vision_flops(counts: ParameterCounts, visual_tokens: int) -> float:
    """Return the FLOP of the tower's forward pass: blocks work on patches, the merger on visual tokens."""
    vision = counts.config.vision_config
    merged = PATCHES_PER_TOKEN * vision.embed_dim
    merger = merged * (merged + vision.hidden_size)
    return 2 * visual_tokens * (merger + PATCHES_PER_TOKEN * (counts.vision - merger))


def _head_size(text: Any) -> int:
    """Return the size of an attention head of a language model, by its config."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def decoded_bytes(
    counts: ParameterCounts, precision: int, rows: int, prompts: int, prompt_tokens: int, decoded: int
) -> float:
    """Return the bytes that are read to decode one token of each row: all weights, and keys and values.

    Args:
        counts: of the model.
        precision: bytes per number.
        rows: completions that are decoded together.
        prompts: how many times a prompt's keys and values are read.
        prompt_tokens: of a prompt.
        decoded: tokens of each row before this one.
    """
    text = counts.config.text_config
    head = text.hidden_size * text.vocab_size
    per_token = 2 * text.num_key_value_heads * _head_size(text) * text.num_hidden_layers
    cached = per_token * (prompts * prompt_tokens + rows * decoded)
    return precision * (counts.language + head + cached)
