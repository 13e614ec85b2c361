"""The reference: what the policy is held to, or asked against. Frozen, or an fp32 moving average of the policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy

import torch
from torch import nn

from rlvid.config import TrainConfig
from rlvid.distributed import uses_deepspeed
from rlvid.policy import deepspeed, lora
from rlvid.policy.model import Policy, cast_frozen_to_bf16
from rlvid.policy.types import ForwardOutput, ModelInputs
from rlvid.types import Group


class Reference(nn.Module):
    """A copy of the policy's weights that no optimiser touches; with LoRA, the policy itself without its adapter.

    With `sync_ref_model` it follows the policy, ref <- (1 - a) ref + a policy, every `ref_model_sync_steps` steps. The
    average is kept in float32: in bfloat16 a step of 0.005 falls below half a unit in the last place and is lost.
    """

    def __init__(self, policy: Policy, train: TrainConfig) -> None:
        super().__init__()
        self.config = train
        self.adapted = lora.has_adapter(policy.model)
        model = policy.model if self.adapted else deepcopy(policy.model).float().requires_grad_(False).eval()
        if policy.mixed and not self.adapted and not self.is_ema and not uses_deepspeed():
            cast_frozen_to_bf16(model)
        self.policy = Policy(model, policy.tokenizer, policy.frames, policy.mixed, policy.features)

    def forward(self, prompts: Sequence[ModelInputs], groups: Sequence[Group], temperature: float) -> ForwardOutput:
        """What `Policy.forward` returns, under the reference's weights."""
        with self.as_policy() as policy:
            return policy(prompts, groups, temperature)

    @contextmanager
    def as_policy(self) -> Iterator[Policy]:
        """A policy that has the reference's weights as long as the context lasts."""
        with lora.use_adapter(self.policy.model, None) if self.adapted else nullcontext():
            yield self.policy

    @property
    def is_ema(self) -> bool:
        """Whether it follows the policy."""
        return self.config.sync_ref_model

    @torch.no_grad()
    def ema_update(self, policy: Policy, step: int) -> None:
        """Move towards the policy, if it is a moving average and this is one of its steps."""
        config = self.config
        if not self.is_ema or step % config.ref_model_sync_steps:
            return
        for mine, theirs in zip(self.policy.model.parameters(), policy.model.parameters(), strict=True):
            deepspeed.local_shard(mine).lerp_(deepspeed.local_shard(theirs).float(), config.ref_model_mixup_alpha)
