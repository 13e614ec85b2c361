"""The reference model: a frozen copy of the policy, or a moving average of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy

import torch
from torch import nn

from rlvid.config import TrainConfig
from rlvid.distributed import uses_deepspeed
from rlvid.policy import deepspeed, lora
from rlvid.policy.loading import cast_frozen_to_bf16
from rlvid.policy.model import Policy
from rlvid.policy.types import ForwardOutput, ModelInputs
from rlvid.types import Group


class Reference(nn.Module):
    """A copy of the policy's weights that is not trained. With LoRA it is the policy itself without its adapter.

    With `train.sync_ref_model` it is a moving average: every `ref_model_sync_steps` steps,
    reference <- (1 - alpha) * reference + alpha * policy with alpha = `ref_model_mixup_alpha`. The average is kept in
    float32, because bfloat16 would lose it: a step of 0.005 is less than half a unit in the last place.

    Args:
        policy: the weights to copy.
        train: the `[train]` section.
    """

    def __init__(self, policy: Policy, train: TrainConfig) -> None:
        super().__init__()
        self.config = train
        self.shares_base = lora.has_adapter(policy.model)
        model = policy.model if self.shares_base else deepcopy(policy.model).float().requires_grad_(False).eval()
        if policy.bf16 and not self.shares_base and not self.is_ema and not uses_deepspeed():
            cast_frozen_to_bf16(model)
        self.policy = policy.with_model(model)

    def forward(self, prompts: Sequence[ModelInputs], groups: Sequence[Group], temperature: float) -> ForwardOutput:
        """As `Policy.forward`, with the reference's weights."""
        with self.as_policy() as policy:
            return policy(prompts, groups, temperature)

    @contextmanager
    def as_policy(self) -> Iterator[Policy]:
        """Yield a policy that has the reference's weights inside the context."""
        with lora.use_adapter(self.policy.model, None) if self.shares_base else nullcontext():
            yield self.policy

    @property
    def is_ema(self) -> bool:
        """Whether it is a moving average of the policy."""
        return self.config.sync_ref_model

    @torch.no_grad()
    def ema_update(self, policy: Policy, step: int) -> None:
        """Update the moving average, if it is one and an update is due at this step."""
        if not self.is_ema or step % self.config.ref_model_sync_steps:
            return
        for average, current in zip(self.policy.model.parameters(), policy.model.parameters(), strict=True):
            new = deepspeed.local_shard(current).float()
            deepspeed.local_shard(average).lerp_(new, self.config.ref_model_mixup_alpha)
