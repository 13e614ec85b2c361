"""The optimizer and its learning rate schedule, and a check that the settings can train."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from rlvid.algorithm import Algorithm
from rlvid.config import TrainConfig
from rlvid.distributed import uses_deepspeed
from rlvid.errors import UserError
from rlvid.policy.critic import CRITIC_KINDS, split_parameters

LOWEST_ADAPTER_RATE = 5e-6  # below, a learning rate is one of full fine-tuning


def build_adamw(model: nn.Module, train: TrainConfig, algorithm: Algorithm) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) over the trainable parameters.

    A critic's parameters are a group of their own, with the learning rate of the algorithm's `critic_settings`.

    The step is torch's fused kernel. Its default on a GPU, `foreach`, makes a temporary copy of all weights; on a CPU
    the default loops over the weights with ten operators each, which takes three times as long. The fused kernel does
    not count up `Tensor._version`, so nothing may read it. DeepSpeed steps with torch's default.
    """
    policy_parameters, critic_parameters = split_parameters(model)
    groups: list[dict[str, Any]] = [{"params": policy_parameters}]
    if critic_parameters:
        assert algorithm.critic_settings is not None
        _, critic_learning_rate = algorithm.critic_settings
        groups.append({"params": critic_parameters, "lr": critic_learning_rate})
    fused = None if uses_deepspeed() else True
    return torch.optim.AdamW(groups, lr=train.learning_rate, weight_decay=train.weight_decay, fused=fused)


def with_own_kernels(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return a saved state dict of AdamW with the `fused` and `foreach` of an optimizer that is to load it.

    Which kernels a step takes depends on the machine, not on the checkpoint. A state dict's `fused` also says where
    torch puts the count of steps: on the parameters' device, or left where it is.
    """
    pairs = zip(saved["param_groups"], optimizer.param_groups, strict=True)
    own = [group | {name: other[name] for name in ("fused", "foreach")} for group, other in pairs]
    return {**saved, "param_groups": own}


def build_scheduler(optimizer: torch.optim.Optimizer, train: TrainConfig) -> LambdaLR:
    """Return the schedule: warm-up, then constant, or linear or cosine to zero; stepped once per training step."""
    name = "constant_with_warmup" if train.lr_scheduler_type == "constant" else train.lr_scheduler_type
    return get_scheduler(name, optimizer, num_warmup_steps=train.warmup_steps, num_training_steps=train.max_steps)


def learning_rate_warning(train: TrainConfig) -> str | None:
    """Return a warning if an adapter is trained at a learning rate of full fine-tuning; else None.

    TRL's guide trains adapters at 1e-5 where full fine-tuning has 1e-6 (huggingface.co/docs/trl/lora_without_regret).
    """
    if not train.max_steps or not train.lora_r or train.learning_rate >= LOWEST_ADAPTER_RATE:
        return None
    return (
        f"train.learning_rate={train.learning_rate:g} is a rate of full fine-tuning: "
        "adapters usually need ten times as much"
    )


def warmup_warning(train: TrainConfig) -> str | None:
    """Return a warning if the run ends before its warm-up does; else None."""
    if not train.max_steps or train.warmup_steps < train.max_steps:
        return None
    return (
        f"train.warmup_steps = {train.warmup_steps} of train.max_steps = {train.max_steps}: "
        f"the learning rate never reaches {train.learning_rate:g}"
    )


def check_config(train: TrainConfig, algorithm: Algorithm, algorithm_name: str, num_processes: int) -> None:
    """Refuse settings that cannot train, before anything is loaded.

    Raises:
        UserError: if the algorithm, its critic, top_p, vLLM or the number of processes do not fit `[train]`.
    """
    if algorithm.completion_source == "policy" and train.num_generations < 2:
        raise UserError(
            f"algorithm {algorithm_name!r} compares completions of one prompt: "
            f"train.num_generations must be 2 or more, not {train.num_generations}"
        )
    if train.max_steps and train.top_p < 1:
        check_top_p(train, algorithm, algorithm_name)
    critic = algorithm.critic_settings[0] if algorithm.critic_settings else ""
    if critic and critic not in CRITIC_KINDS:
        raise UserError(f"algorithm.critic must be one of {', '.join(CRITIC_KINDS)}, not {critic!r}")
    trains = bool(train.max_steps)  # an evaluation has no critic
    if trains and critic == "adapter" and (not train.lora_r or train.gradient_checkpointing):
        raise UserError(
            'algorithm.critic = "adapter" needs a frozen base model and no gradient checkpointing: '
            'set train.lora_r and train.gradient_checkpointing=false, or choose "detached" or "shared"'
        )
    if train.use_vllm and find_spec("vllm") is None:
        raise UserError(
            "train.use_vllm needs vLLM, which is not installed. It pins packages: in a virtual environment of its own, "
            "in the clone of rlvid, run pip install -e '.[vllm]'"
        )
    if trains:
        check_num_processes(train, algorithm, num_processes)


def check_top_p(train: TrainConfig, algorithm: Algorithm, algorithm_name: str) -> None:
    """Refuse nucleus sampling where something reads log-probabilities as those that tokens were sampled with.

    Raises:
        UserError: with vLLM, or with an algorithm that needs samples of all tokens.
    """
    if train.use_vllm:
        raise UserError(
            f"train.top_p = {train.top_p} with train.use_vllm: vLLM's log-probabilities are those of the tokens that "
            "top_p keeps, the policy's those of all tokens: set train.top_p=1, or train.use_vllm=false"
        )
    if algorithm.needs_all_tokens:
        raise UserError(
            f"train.top_p = {train.top_p} leaves out tokens, but algorithm {algorithm_name!r} "
            f"{algorithm.needs_all_tokens}: set train.top_p=1"
        )


def check_num_processes(train: TrainConfig, algorithm: Algorithm, num_processes: int) -> None:
    """Refuse a number of processes that cannot share the steps of a run.

    Raises:
        UserError: for fewer prompts in a minibatch than processes.
    """
    if train.prompts_per_step < num_processes * algorithm.num_minibatches:
        processes = f"{num_processes} process{'es' if num_processes > 1 else ''}"
        minibatches = f"{algorithm.num_minibatches} minibatch{'es' if algorithm.num_minibatches > 1 else ''}"
        raise UserError(
            f"train.prompts_per_step = {train.prompts_per_step} is too small for {processes} and {minibatches}: "
            f"{num_processes * algorithm.num_minibatches} or more are needed, one for each minibatch of each process"
        )
