"""Estimate the memory of a run before anything is loaded: `rlvid train PRESET --plan`.

Parameters are counted (parameter_counts.py). The rest follows formulas, which the printed table shows:

- model state, in this file: weights, gradients, AdamW's moments and temporaries, the reference, what ZeRO-3 gathers;
- learning: what the layers of one micro-batch keep for the backward pass, and its logits;
- sampling: the key-value cache, and the logits of the next tokens; or all that vLLM reserves.

Not counted: the CUDA context, fragmentation, and a critic. tests/bench/test_memory_estimate.py compares the estimate
with what torch allocates in a real step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from rlvid.algorithm import Algorithm
from rlvid.bench.memory_items import ALWAYS, BF16, FP32, LEARNING, MemoryEstimate, MemoryItem, Phase
from rlvid.bench.parameter_counts import ParameterCounts, count_parameters
from rlvid.bench.token_memory import StepShape, learning_items, sampling_items, vllm_item
from rlvid.config import Config, TrainConfig
from rlvid.errors import UserError
from rlvid.policy.families import family_of
from rlvid.policy.optimizer import check_num_processes
from rlvid.reward import RewardMix
from rlvid.trainer.evidence import needs_reference

REDUCE_BUCKET = 5e8  # gradients in the buffer in which DeepSpeed (0.19.8) averages them; our presets keep its default


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


def estimate(
    config: Config, devices: Devices, mixed_precision: bool = True, device_bytes: float | None = None
) -> MemoryEstimate:
    """Estimate the memory of a run on each of its devices.

    Args:
        config: the run.
        devices: how many processes there are and what they share.
        mixed_precision: compute in bfloat16 on float32 weights, as on a GPU.
        device_bytes: the memory of a device, of which vLLM reserves a share. If unknown, the least that vLLM needs is
            estimated.

    Raises:
        UserError: for an unknown model, algorithm or reward, and for a number of processes that the run refuses.
    """
    train = config.train
    algorithm: Algorithm = config.algorithm.build("algorithms")
    check_num_processes(train, algorithm, devices.num_processes)
    counts = count_parameters(config.model, train, config.seed)
    mix = RewardMix.build(config.rewards).with_measures(config.eval.rewards)
    with_reference = "ref_logps" in algorithm.needs or needs_reference(mix)

    shape = StepShape.of(train, config.video, algorithm, devices.num_processes, family_of(counts.config))
    items = [*_model_state(train, counts, devices, mixed_precision, with_reference)]
    items += learning_items(train, counts, shape, mixed_precision)
    if algorithm.completion_source == "policy" and train.use_vllm:
        items.append(vllm_item(train, counts, mixed_precision, device_bytes))
    elif algorithm.completion_source == "policy":
        items += sampling_items(counts, shape, mixed_precision)
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
    # Without DeepSpeed, frozen matrices are kept in bfloat16, see `rlvid.policy.loading.cast_frozen_to_bf16`.
    saved_by_bf16 = FP32 - BF16 if mixed_precision and not stage else 0
    weights_formula = "4 bytes a parameter, 2 in frozen matrices" if saved_by_bf16 else "4 bytes a parameter"

    weights = all_weights - saved_by_bf16 * counts.frozen_linear
    yield MemoryItem("weights", weights * weight_share, weights_formula)
    yield MemoryItem("AdamW moments", 2 * trainable * optimizer_share, "8 bytes a trainable parameter")
    once = "4 bytes a trainable parameter"
    yield MemoryItem("gradients", trainable * gradient_share, once, (*LEARNING, Phase.UPDATE))
    if stage:  # DeepSpeed steps with torch's default; without it the fused kernel has no temporaries
        yield MemoryItem("AdamW temporaries", trainable * optimizer_share, once, (Phase.UPDATE,))

    if stage >= 2:  # as large for an adapter; ZeRO-2 frees it after each backward pass
        phases = ALWAYS if stage == 3 else (Phase.BACKWARD,)
        yield MemoryItem("DeepSpeed's reduce bucket", FP32 * REDUCE_BUCKET, "4 bytes for each of 5e8 gradients", phases)

    if with_reference and not train.lora_r:  # with LoRA the reference is the base model
        reference = all_weights
        if not train.sync_ref_model:  # a moving average stays in float32
            reference -= saved_by_bf16 * counts.linear
        yield MemoryItem("reference", reference * weight_share, weights_formula)
        if stage == 3:
            yield MemoryItem("reference, gathered", all_weights, "all shards, while it scores", (Phase.REFERENCE,))
    if stage == 3:
        yield MemoryItem("policy, gathered", all_weights, "all shards, while it samples", (Phase.SAMPLING,))
    if mixed_precision:  # copies of autocast and of `sampling_weights`; checkpointing makes them again layer by layer
        until_backward = () if train.gradient_checkpointing else (Phase.BACKWARD,)
        phases = (Phase.SAMPLING, Phase.FORWARD, *until_backward)
        yield MemoryItem("weights in bfloat16", BF16 * counts.trainable, "2 bytes a trainable parameter", phases)
        if counts.adapters and 0 < stage < 3 and not train.use_vllm:
            # DeepSpeed keeps frozen matrices in float32, and `rlvid.policy.sampling_weights` casts them.
            head = 0 if counts.config.tie_word_embeddings else counts.embeddings / 2
            copied = BF16 * (counts.language + head)
            yield MemoryItem("base in bfloat16", copied, "2 bytes a parameter", (Phase.SAMPLING,))
        if counts.adapters and counts.config.tie_word_embeddings:
            # A frozen head that is tied to the embeddings stays in float32: autocast copies it whenever it is used.
            phases = (Phase.SAMPLING, Phase.REFERENCE, Phase.FORWARD)
            yield MemoryItem("tied head in bfloat16", BF16 * counts.embeddings, "2 bytes a parameter", phases)
