"""The critic: what the policy's reply will earn, guessed before each of its tokens is written.

A linear head, in float32, on the last hidden state of a model that sees the video. The algorithm's `critic` field says
which:

    "detached"  the policy's own state, which the critic reads and never changes
    "shared"    the same, and the critic's error flows into the policy, too
    "adapter"   a LoRA adapter of the critic's own on the frozen base: one more forward, no interference
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlvid.config import Config
from rlvid.policy import lora

CRITIC_KINDS = ("detached", "shared", "adapter")


class Critic(nn.Module):
    """(N, hidden) states -> (N,) values. It starts at 0 everywhere, and nothing in it drops out."""

    def __init__(self, kind: str, model: PreTrainedModel, config: Config) -> None:
        super().__init__()
        self.kind = kind
        self.head = nn.Linear(model.config.text_config.hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if kind == "adapter":
            lora.add_adapter(model, lora.CRITIC, config)

    def forward(self, hidden: Tensor) -> Tensor:
        """Values of the states before each token."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden.float() if self.kind != "detached" else hidden.detach().float())[:, 0]


def critic_parameter_names(module: nn.Module) -> list[str]:
    """The critic's parameters within a policy: its head, and its adapter's if it has one."""
    return [n for n, _ in module.named_parameters() if n.startswith("critic.") or f".{lora.CRITIC}." in n]


def split_parameters(module: nn.Module) -> tuple[Sequence[nn.Parameter], Sequence[nn.Parameter]]:
    """What a policy learns with, and what its critic learns with."""
    own = set(critic_parameter_names(module))
    chosen = [(n in own, p) for n, p in module.named_parameters() if p.requires_grad]
    return [p for critics, p in chosen if not critics], [p for critics, p in chosen if critics]
