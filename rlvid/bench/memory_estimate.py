"""Estimate the memory of a run before anything is loaded: `rlvid train PRESET --plan`.

Parameters are counted (parameter_counts.py). The rest follows formulas, which the printed table shows. What is counted:

- model state: weights, gradients, AdamW's moments and temporaries, the reference, what ZeRO-3 gathers;
- learning: what the layers of one micro-batch keep for the backward pass, and its logits;
- sampling: the key-value cache, and the logits of the next tokens.

Not counted: the CUDA context, fragmentation, and a critic. tests/bench/test_memory_estimate.py compares the estimate
with what torch allocates in a real step.

Symbols in the formulas:

    h   hidden size of the language model         P   tokens of a prompt, visual ones included
    m   hidden size of its MLPs                   T   tokens of a completion, at most
    e   hidden size of the vision tower           G   completions per group
                                                  N   tokens of a micro-batch
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from pathlib import Path

import yaml

from rlvid.algorithm import Algorithm
from rlvid.bench.parameter_counts import ParameterCounts, count_parameters
from rlvid.config import Config, TrainConfig, VideoConfig
from rlvid.errors import UserError
from rlvid.policy.logprobs import MAX_LOGITS
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer.evidence import needs_reference
from rlvid.video.resize import IMAGE_FACTOR

TEXT_TOKENS = 200  # of a question, its options and the chat template: in the paper 930 tokens less 729 visual ones
FP32, BF16 = 4, 2  # bytes per number
PATCHES_PER_TOKEN = 4  # patches of the vision tower that are merged into one visual token


class Phase(StrEnum):
    """The phases of a training step, in their order."""

    SAMPLING = "sampling"
    REFERENCE = "scoring with the reference"
    FORWARD = "the end of the forward pass"
    BACKWARD = "the backward pass"
    UPDATE = "the optimizer step"


ALWAYS = tuple(Phase)
LEARNING = (Phase.FORWARD, Phase.BACKWARD)


@dataclass(frozen=True)
class Devices:
    """How many processes share a run, one device each, and how DeepSpeed's ZeRO shards it."""

    num_processes: int = 1
    zero_stage: int = 0  # 0: no DeepSpeed
    offload_optimizer: bool = False  # AdamW's moments and temporaries, and the gradients, are in the machine's memory
    offload_params: bool = False  # under ZeRO-3 the shards of the weights, too

    @classmethod
    def read(cls, path: Path) -> Devices:
        """Read the YAML file of `accelerate launch --config_file`.

        Raises:
            UserError: if it cannot be read or has no num_processes.
        """
        try:
            settings = yaml.safe_load(path.read_text())
            deepspeed = settings.get("deepspeed_config", {})
            return cls(
                num_processes=int(settings["num_processes"]),
                zero_stage=int(deepspeed.get("zero_stage", 0)),
                offload_optimizer=deepspeed.get("offload_optimizer_device") == "cpu",
                offload_params=deepspeed.get("offload_param_device") == "cpu",
            )
        except (OSError, AttributeError, KeyError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{path}: not an accelerate config with num_processes: {error!r}") from error


@dataclass(frozen=True)
class MemoryItem:
    """Something in the memory of each device: its bytes, the formula behind them, and the phases in which it exists."""

    name: str
    bytes: float
    formula: str
    phases: tuple[Phase, ...] = ALWAYS


@dataclass(frozen=True)
class MemoryEstimate:
    """What each device of a run holds."""

    items: tuple[MemoryItem, ...]

    def bytes_in(self, phase: Phase) -> float:
        """Return the bytes of all items of a phase."""
        return sum(item.bytes for item in self.items if phase in item.phases)

    def peak(self) -> tuple[Phase, float]:
        """Return the phase that needs the most memory, and its bytes."""
        phase = max(Phase, key=self.bytes_in)
        return phase, self.bytes_in(phase)


def estimate(config: Config, devices: Devices, mixed_precision: bool = True) -> MemoryEstimate:
    """Estimate the memory of a run on each of its devices.

    Args:
        config: the run.
        devices: how many processes there are and what they share.
        mixed_precision: compute in bfloat16 on float32 weights, as on a GPU.

    Raises:
        UserError: for an unknown model, algorithm or reward.
    """
    train = config.train
    algorithm: Algorithm = build("algorithms", config.algorithm.name, **config.algorithm.fields)
    counts = count_parameters(config.model, train, config.seed)
    mix = RewardMix.build(config.rewards).with_measures(config.eval.rewards)
    with_reference = "ref_logps" in algorithm.needs or needs_reference(mix)

    shape = _StepShape.of(config, algorithm, devices.num_processes)
    items = [*_model_state(train, counts, devices, mixed_precision, with_reference)]
    items += _learning(train, counts, shape, mixed_precision)
    if algorithm.completion_source == "policy":
        items += _sampling(counts, shape, mixed_precision)
    return MemoryEstimate(tuple(items))


def _model_state(
    train: TrainConfig, counts: ParameterCounts, devices: Devices, mixed_precision: bool, with_reference: bool
) -> Iterator[MemoryItem]:
    """Yield what does not depend on the number of tokens."""
    stage, shard = devices.zero_stage, 1 / devices.num_processes
    optimizer_share = shard if stage >= 1 else 1.0
    gradient_share = shard if stage >= 2 else 1.0
    weight_share = shard if stage >= 3 else 1.0
    if devices.offload_optimizer:
        optimizer_share = gradient_share = 0.0
    if devices.offload_params and stage >= 3:
        weight_share = 0.0

    all_weights, trainable = FP32 * counts.all, FP32 * counts.trainable
    # Without DeepSpeed, frozen matrices are kept in bfloat16, see `rlvid.policy.model.cast_frozen_to_bf16`.
    saved_by_bf16 = FP32 - BF16 if mixed_precision and not stage else 0
    weights_formula = "4 bytes a parameter, 2 in frozen matrices" if saved_by_bf16 else "4 bytes a parameter"

    weights = all_weights - saved_by_bf16 * counts.frozen_linear
    yield MemoryItem("weights", weights * weight_share, weights_formula)
    yield MemoryItem("AdamW moments", 2 * trainable * optimizer_share, "8 bytes a trainable parameter")
    once = "4 bytes a trainable parameter"
    yield MemoryItem("gradients", trainable * gradient_share, once, (*LEARNING, Phase.UPDATE))
    yield MemoryItem("AdamW temporaries", trainable * optimizer_share, once, (Phase.UPDATE,))
    if devices.num_processes > 1 and not stage:
        yield MemoryItem("gradient buckets of DDP", trainable, once, (*LEARNING, Phase.UPDATE))

    if with_reference and not train.lora_r:  # with LoRA the reference is the base model
        reference = all_weights
        if not train.sync_ref_model:  # a moving average stays in float32
            reference -= saved_by_bf16 * counts.linear
        yield MemoryItem("reference", reference * weight_share, weights_formula)
        if stage == 3:
            yield MemoryItem("reference, gathered", all_weights, "all shards, while it scores", (Phase.REFERENCE,))
    if stage == 3:
        yield MemoryItem("policy, gathered", all_weights, "all shards, while it samples", (Phase.SAMPLING,))
    if mixed_precision:  # autocast's copies; checkpointing makes them again layer by layer
        until_backward = () if train.gradient_checkpointing else (Phase.BACKWARD,)
        phases = (Phase.SAMPLING, Phase.FORWARD, *until_backward)
        yield MemoryItem("weights in bfloat16", BF16 * counts.trainable, "2 bytes a trainable parameter", phases)


@dataclass(frozen=True)
class _StepShape:
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
    def of(cls, config: Config, algorithm: Algorithm, num_processes: int) -> _StepShape:
        train = config.train
        visual = visual_tokens(config.video)
        prompt = TEXT_TOKENS + visual
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


def _learning(
    train: TrainConfig, counts: ParameterCounts, shape: _StepShape, mixed_precision: bool
) -> Iterator[MemoryItem]:
    """Yield what the forward pass of one micro-batch keeps for its backward pass."""
    text, vision = counts.config.text_config, counts.config.vision_config
    h, m, e, ratio = text.hidden_size, text.intermediate_size, vision.embed_dim, vision.mlp_ratio
    # Bytes that one layer keeps: inputs and outputs of norms, projections, attention and MLP, then keys and values.
    if mixed_precision:  # products in bfloat16; the residual stream and the norms in float32
        layer = (32 * h + 8 * m) * shape.tokens + 4 * h * shape.keys
        block = (22 + 6 * ratio) * e * shape.patches
        layer_formula = "32 h + 8 m"
    else:
        layer = FP32 * ((9 * h + 4 * m) * shape.tokens + 2 * h * shape.keys)
        block = FP32 * (9 + 3 * ratio) * e * shape.patches
        layer_formula = "36 h + 16 m"
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


def _sampling(counts: ParameterCounts, shape: _StepShape, mixed_precision: bool) -> Iterator[MemoryItem]:
    """Yield what rlvid's own sampler holds while it decodes all completions of the step at once."""
    text = counts.config.text_config
    head_size = text.hidden_size // text.num_attention_heads
    numbers_per_token = 2 * text.num_key_value_heads * head_size * text.num_hidden_layers  # keys and values
    rows, length = shape.sampled_rows, shape.prompt + shape.completion
    cache = rows * length * numbers_per_token * (BF16 if mixed_precision else FP32)
    logits = rows * text.vocab_size
    yield MemoryItem("key-value cache", cache, f"{rows} rows of {length} tokens", (Phase.SAMPLING,))
    yield MemoryItem("next-token logits", 4 * FP32 * logits, f"{rows} rows, four copies", (Phase.SAMPLING,))


def visual_tokens(video: VideoConfig) -> int:
    """Return the visual tokens of a prompt with `max_frames` frames and an image, all at the largest size."""
    pixels = (video.resized_height or 0) * (video.resized_width or 0) or video.max_pixels
    tokens_per_frame_pair = pixels // IMAGE_FACTOR**2  # two frames, or one image
    return tokens_per_frame_pair * (video.max_frames // 2 + 1)
