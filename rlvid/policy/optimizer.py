"""The optimiser, its schedule and the trackers; and whether a config fits the machine it meets."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from accelerate.tracking import get_available_trackers
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from rlvid.algorithm import Algorithm
from rlvid.config import Config, TrainConfig
from rlvid.errors import UserError
from rlvid.policy.critic import CRITIC_KINDS, split_parameters
from rlvid.registry import suggest


def build_adamw(model: nn.Module, config: TrainConfig, algorithm: Algorithm) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) over what is trainable; a critic has its own learning rate."""
    policy, critic = split_parameters(model)
    groups: list[dict[str, Any]] = [{"params": list(policy)}]
    if critic:
        assert algorithm.critic_settings is not None
        groups.append({"params": list(critic), "lr": algorithm.critic_settings[1]})
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def build_scheduler(optimizer: torch.optim.Optimizer, config: TrainConfig) -> LambdaLR:
    """Warm-up, then constant, linear or cosine to zero; one tick a loop step."""
    name = "constant_with_warmup" if config.lr_scheduler_type == "constant" else config.lr_scheduler_type
    return get_scheduler(name, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps)


def resolve_trackers(config: Config) -> list[str] | None:
    """The trackers of `report_to`, by accelerate's names; UserError for one that is not installed here."""
    installed = [tracker.value for tracker in get_available_trackers()]
    for name in config.report_to:
        if name not in installed:
            raise UserError(f"report_to: no tracker {name!r} is installed here.{suggest(name, installed)}")
    return list(config.report_to) or None


def check_config(config: Config, algorithm: Algorithm, processes: int) -> None:
    """Refuse, before anything is loaded, a config that cannot learn."""
    train = config.train
    if algorithm.completion_source == "policy" and train.num_generations < 2:
        raise UserError(
            f"algorithm {config.algorithm.name!r} compares completions of one prompt: "
            f"train.num_generations must be 2 or more, not {train.num_generations}"
        )
    critic = algorithm.critic_settings[0] if algorithm.critic_settings else ""
    if critic and critic not in CRITIC_KINDS:
        raise UserError(f"algorithm.critic must be one of {', '.join(CRITIC_KINDS)}, not {critic!r}")
    if critic == "adapter" and (not train.lora_r or train.gradient_checkpointing):
        raise UserError(
            'algorithm.critic = "adapter" adapts a frozen base, in whole forwards: '
            'set train.lora_r and leave train.gradient_checkpointing off, or take "detached" or "shared"'
        )
    if train.use_vllm and find_spec("vllm") is None:
        raise UserError("train.use_vllm needs vLLM, which is not installed: pip install 'rlvid[vllm]'")
    if train.use_vllm and processes > 1:
        raise UserError(f"train.use_vllm is for one process, and this run has {processes}: leave it out")
    if train.prompts_per_step < processes * algorithm.num_minibatches:
        raise UserError(
            f"train.prompts_per_step = {train.prompts_per_step} is too few for {processes} processes and "
            f"{algorithm.num_minibatches} minibatches: each needs a prompt of its own"
        )
