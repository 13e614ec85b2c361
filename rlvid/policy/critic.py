"""The critic: predicts the return of a completion before each of its tokens.

It is a linear head in float32 on the last hidden states of a model that sees the video. The algorithm's `critic` field
chooses the model:

    "detached"  the policy; the critic's error has no gradient in it
    "shared"    the policy; the critic's error trains it, too
    "adapter"   the frozen base with a LoRA adapter of the critic's own: one more forward pass, no shared weights

Whatever the kind, the critic's error can make the policy's step smaller: `train.max_grad_norm` clips both gradients by
their one joint norm, which is what `grad_norm` logs. At 0 nothing is clipped, and the gradients are independent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlvid.policy import lora

CRITIC_KINDS = ("detached", "shared", "adapter")


class Critic(nn.Module):
    """The value head. Its values are 0 at the start, and it has no dropout.

    Args:
        kind: one of `CRITIC_KINDS`.
        model: gives the size of hidden states; the kind "adapter" adds an adapter to it.
        lora_r, lora_alpha, seed: of that adapter (see `lora.add_adapter`).
    """

    def __init__(self, kind: str, model: PreTrainedModel, lora_r: int = 0, lora_alpha: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.kind = kind
        self.head = nn.Linear(model.config.get_text_config().hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if kind == "adapter":
            lora.add_adapter(model, lora.CRITIC, lora_r, lora_alpha, seed)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, hidden) states before N tokens -> (N,) values."""
        if self.kind == "detached":
            hidden = hidden.detach()
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden.float())[:, 0]


def critic_parameter_names(policy: nn.Module) -> list[str]:
    """Return the names of a policy's parameters that are the critic's: its head, and its adapter if it has one."""
    return [name for name, _ in policy.named_parameters() if name.startswith("critic.") or f".{lora.CRITIC}." in name]


def split_parameters(policy: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return a policy's trainable parameters without the critic's, and the critic's."""
    critic_names = set(critic_parameter_names(policy))
    trainable = [(name, parameter) for name, parameter in policy.named_parameters() if parameter.requires_grad]
    return (
        [parameter for name, parameter in trainable if name not in critic_names],
        [parameter for name, parameter in trainable if name in critic_names],
    )
