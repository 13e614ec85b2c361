"""The reference: what the policy is held to, or asked against. Frozen, or an fp32 moving average of the policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy

import torch
from torch import nn

from rlvid.config import Train
from rlvid.distributed import sharded
from rlvid.policy import deepspeed, lora
from rlvid.policy.model import Encoded, Policy, Seen, halve
from rlvid.types import Group


class Reference(nn.Module):
    """A copy of the policy's weights that no optimiser touches; with LoRA, the policy itself without its adapter.

    With `sync_ref_model` it follows the policy, ref <- (1 - a) ref + a policy, every `ref_model_sync_steps` steps. The
    average is kept in float32: in bfloat16 a step of 0.005 falls below half a unit in the last place and is lost.
    """

    def __init__(self, policy: Policy, train: Train) -> None:
        super().__init__()
        self.config = train
        self.adapted = lora.adapted(policy.model)
        model = policy.model if self.adapted else deepcopy(policy.model).float().requires_grad_(False).eval()
        if policy.mixed and not self.adapted and not self.moves and not sharded():
            halve(model)
        self.policy = Policy(model, policy.tokenizer, policy.frames, policy.mixed, policy.features)

    def forward(self, prompts: Sequence[Encoded], groups: Sequence[Group], temperature: float) -> Seen:
        """What `Policy.forward` returns, under the reference's weights."""
        with self.speaking() as policy:
            return policy(prompts, groups, temperature)

    @contextmanager
    def speaking(self) -> Iterator[Policy]:
        """A policy that has the reference's weights as long as the context lasts."""
        with lora.using(self.policy.model, None) if self.adapted else nullcontext():
            yield self.policy

    @property
    def moves(self) -> bool:
        """Whether it follows the policy."""
        return self.config.sync_ref_model

    @torch.no_grad()
    def follow(self, policy: Policy, step: int) -> None:
        """Move towards the policy, if it is a moving average and this is one of its steps."""
        config = self.config
        if not self.moves or step % config.ref_model_sync_steps:
            return
        for mine, theirs in zip(self.policy.model.parameters(), policy.model.parameters(), strict=True):
            deepspeed.piece(mine).lerp_(deepspeed.piece(theirs).float(), config.ref_model_mixup_alpha)
