"""The part of a memory estimate that grows with the tokens of a step: activations, logits, and the key-value cache.

Symbols in the formulas:

    h   hidden size of the language model         P   tokens of a prompt, visual ones included
    m   hidden size of its MLPs                   T   tokens of a completion, at most
    a   heads of its attention, times their size  G   completions per group
    e   hidden size of the vision tower           N   tokens of a micro-batch
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from rlvid.algorithm import Algorithm
from rlvid.bench.memory_items import BF16, FP32, LEARNING, MemoryItem, Phase
from rlvid.bench.parameter_counts import ParameterCounts
from rlvid.config import TrainConfig, VideoConfig
from rlvid.errors import UserError
from rlvid.policy.families import Family
from rlvid.policy.logprobs import MAX_LOGITS
from rlvid.video.read import Clock
from rlvid.video.resize import target_size

TEXT_TOKENS = 200  # of a question, its options and the chat template: in the paper 930 tokens less 729 visual ones
SEGMENT_TOKENS = 8  # of a segment after the first: its start, its end and its time, "<12.3 seconds>"
PATCHES_PER_TOKEN = 4  # patches of the vision tower that are merged into one visual token


@dataclass(frozen=True)
class StepShape:
    """Numbers of tokens and rows of a step on one device.

    A micro-batch is packed: one row per group, of P + G * T tokens. In attention each completion sees a copy of its
    prompt's keys and values, so there are P + G * (P + T) of those per group.
    """

    prompt: int  # P
    completion: int  # T
    completions: int  # G
    groups: int  # per micro-batch
    visual: int  # visual tokens per prompt
    sampled_rows: int  # completions that are sampled together

    @classmethod
    def of(
        cls, train: TrainConfig, video: VideoConfig, algorithm: Algorithm, num_processes: int, family: Family
    ) -> StepShape:
        """Return the shape of the steps of a run, whose groups are shared by `num_processes` devices."""
        visual = visual_tokens(video, family)
        prompt = TEXT_TOKENS + time_tokens(video, family) + visual
        completions = train.num_generations if algorithm.completion_source == "policy" else 1
        packed_row = prompt + completions * train.max_completion_length
        return cls(
            prompt=prompt,
            completion=train.max_completion_length,
            completions=completions,
            groups=max(1, train.max_tokens_per_forward // packed_row),
            visual=visual,
            sampled_rows=ceil(train.prompts_per_step / num_processes) * completions,
        )

    @property
    def tokens(self) -> int:
        """N, the tokens of a micro-batch."""
        return self.groups * (self.prompt + self.completions * self.completion)

    @property
    def keys(self) -> int:
        """The keys of a micro-batch in one layer, and as many values."""
        return self.groups * (self.prompt + self.completions * (self.prompt + self.completion))

    @property
    def patches(self) -> int:
        """The patches of a micro-batch."""
        return self.groups * self.visual * PATCHES_PER_TOKEN

    @property
    def completion_tokens(self) -> int:
        """The tokens of a micro-batch that are learned from."""
        return self.groups * self.completions * self.completion


def learning_items(
    train: TrainConfig, counts: ParameterCounts, shape: StepShape, mixed_precision: bool
) -> Iterator[MemoryItem]:
    """Yield what the forward pass of one micro-batch keeps for its backward pass."""
    text, vision = counts.config.text_config, counts.config.vision_config
    h, m, a = text.hidden_size, _mlp_width(text), text.num_attention_heads * _head_size(text)
    e, inner = _vision_width(vision), _vision_inner(vision)
    # Bytes that one layer keeps: inputs and outputs of norms, projections, attention and MLP, then keys and values.
    if mixed_precision:  # products in bfloat16; the residual stream and the norms in float32
        layer = (24 * h + 8 * a + 8 * m) * shape.tokens + 4 * a * shape.keys
        block = (22 * e + 2 * inner) * shape.patches
        layer_formula = "24 h + 8 a + 8 m"
    else:
        layer = FP32 * ((6 * h + 3 * a + 4 * m) * shape.tokens + 2 * a * shape.keys)
        block = FP32 * (9 * e + inner) * shape.patches
        layer_formula = "24 h + 12 a + 16 m"
    if train.lora_r or train.freeze_vision_tower:  # no gradient reaches the vision tower
        block = 0

    largest = max(layer, block)
    if train.gradient_checkpointing:  # layers keep their inputs only; the backward pass computes one layer again
        precision = BF16 if mixed_precision else FP32
        layer = FP32 * h * shape.tokens
        block = precision * e * shape.patches if block else 0
        backward, backward_formula = 2 * largest, "computed again, and its gradients"
        kept_formula = "their inputs, 4 h each"
    else:
        backward, backward_formula = largest, "its gradients"
        kept_formula = f"{layer_formula} each, and keys and values"

    logits = min(MAX_LOGITS, shape.completion_tokens * text.vocab_size)  # computed in chunks of MAX_LOGITS
    layers_bytes = layer * text.num_hidden_layers
    yield MemoryItem("layers", layers_bytes, f"N = {shape.tokens} tokens, {kept_formula}", LEARNING)
    yield MemoryItem("vision tower", block * vision.depth, f"{shape.patches} patches", LEARNING)
    yield MemoryItem("one layer", backward, backward_formula, (Phase.BACKWARD,))
    yield MemoryItem("logits", 6 * FP32 * logits, f"{logits / 1e6:.0f} M of them, six copies", (Phase.FORWARD,))


def sampling_items(counts: ParameterCounts, shape: StepShape, mixed_precision: bool) -> Iterator[MemoryItem]:
    """Yield what rlvid's own sampler holds while it decodes all completions of the step at once."""
    precision = BF16 if mixed_precision else FP32
    rows, length = shape.sampled_rows, shape.prompt + shape.completion
    cache = rows * length * _cached_numbers_per_token(counts) * precision
    logits = rows * counts.config.text_config.vocab_size
    yield MemoryItem("key-value cache", cache, f"{rows} rows of {length} tokens", (Phase.SAMPLING,))
    yield MemoryItem("next-token logits", 4 * FP32 * logits, f"{rows} rows, four copies", (Phase.SAMPLING,))


def vllm_item(
    train: TrainConfig, counts: ParameterCounts, mixed_precision: bool, device_bytes: float | None
) -> MemoryItem:
    """Return what vLLM's engine holds for as long as the run lasts: its share of the device, or at least its minimum.

    The minimum is a copy of the weights, and the key-value cache of one sequence of the greatest length: with less,
    vLLM does not start.
    """
    precision = BF16 if mixed_precision else FP32
    weights = counts.language + counts.vision + counts.embeddings
    length = train.vllm_max_model_length or counts.config.text_config.max_position_embeddings
    minimum = precision * (weights + length * _cached_numbers_per_token(counts))
    share = train.vllm_gpu_memory_utilization
    if device_bytes is None:
        formula = f"at least: {precision} bytes a parameter, and a cache of {length} tokens"
        return MemoryItem("vLLM", minimum, formula)
    if minimum > share * device_bytes:
        raise UserError(
            f"train.vllm_gpu_memory_utilization = {share} of {device_bytes / 1e9:.0f} GB is less than the "
            f"{minimum / 1e9:.1f} GB that vLLM needs for the weights and a cache of {length} tokens: raise it, or "
            "lower train.vllm_max_model_length"
        )
    return MemoryItem("vLLM", share * device_bytes, f"train.vllm_gpu_memory_utilization = {share} of the device")


def _cached_numbers_per_token(counts: ParameterCounts) -> int:
    """Return how many keys and values all layers of the language model cache for one token."""
    text = counts.config.text_config
    return 2 * text.num_key_value_heads * _head_size(text) * text.num_hidden_layers


def _head_size(text: Any) -> int:
    """The size of an attention head of a language model, by its config."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def _mlp_width(text: Any) -> int:
    """The numbers between the two projections of a layer's MLP, by a language model's config.

    Of experts, those that a token is sent to, each with half a hidden state besides: its input and output are copies.
    """
    if not getattr(text, "num_experts", 0):
        return text.intermediate_size
    return text.num_experts_per_tok * (text.moe_intermediate_size + text.hidden_size // 2)


def _vision_width(vision: Any) -> int:
    """The hidden size of a vision tower, by its config, where it may have another name."""
    return getattr(vision, "embed_dim", None) or vision.hidden_size


def _vision_inner(vision: Any) -> int:
    """How many numbers an MLP of a vision tower keeps for a patch: of a plain one three times its size."""
    if hasattr(vision, "mlp_ratio"):
        return 3 * vision.mlp_ratio * vision.embed_dim
    is_gated = vision.hidden_act == "silu"  # SwiGLU
    return (4 if is_gated else 3) * vision.intermediate_size


def visual_tokens(video: VideoConfig, family: Family) -> int:
    """Return the visual tokens of a prompt with `max_frames` frames and an image, all at the largest size."""
    pixels = video.max_pixels
    if video.resized_height and video.resized_width:
        height, width = target_size(video.resized_height, video.resized_width, video, family.image_factor)
        pixels = height * width
    tokens_per_frame_pair = pixels // family.image_factor**2  # two frames, or one image
    return tokens_per_frame_pair * (video.max_frames // 2 + 1)


def time_tokens(video: VideoConfig, family: Family) -> int:
    """Return about how many tokens a family writes between the frames of a video with `max_frames` frames."""
    clock = Clock(np.arange(video.max_frames) / video.fps, video.fps)
    return SEGMENT_TOKENS * (len(family.video_segments((video.max_frames // 2, 1, 1), clock)) - 1)
