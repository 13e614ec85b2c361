"""One pass of a step's prompts through the model, for sampling and for learning.

Sampling prefills the prompts. Learning runs the same tokens through the same weights once more, because a gradient
needs the activations. In float32 on a CPU, prefill can keep them: learning then runs only completions through the
model, which attend to the prompts' keys and values, and completes the gradient by a backward pass of the prefill.

    sampling    prompts -> prefill with gradients -> keys, values, last states -> completions
    learning    completions, after these keys and values -> loss -> gradient of keys, values, last states, of all parts
    at the end  gradient of keys, values, last states -> backward pass of the prefill -> gradient of the weights

The activations of all prompts stay in memory from sampling to the update. They count towards
`train.max_tokens_per_forward`, as those of a micro-batch do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlvid.policy.model import Policy
from rlvid.policy.prefill import PhaseTimer, Prefilled, prefill
from rlvid.policy.types import ModelInputs


class PromptPass:
    """Prompts that were prefilled with gradients.

    Args:
        prefilled: the P prompts.
        indices: (P,) their numbers, by which `select` takes them.

    Attributes:
        states: the prompts without the graph, as leaves, which collect the gradients of all parts of the update.
    """

    def __init__(self, prefilled: Prefilled, indices: Sequence[int]) -> None:
        self._outputs = states_of(prefilled)
        self.states = prefilled.map_states(lambda states: states.detach().requires_grad_())
        self._row = {index: row for row, index in enumerate(indices)}

    @classmethod
    def of(cls, policy: Policy, inputs: Sequence[ModelInputs], indices: Sequence[int], timer: PhaseTimer) -> PromptPass:
        """Prefill prompts with gradients, in the phases "vision" and "prefill" (see `prefill.prefill`)."""
        with torch.enable_grad(), policy.precision():
            return cls(prefill(policy, inputs, timer), indices)

    @property
    def tokens(self) -> int:
        """The number of prompt tokens, padding included."""
        return self.states.attention_mask.numel()

    def select(self, indices: Sequence[int]) -> Prefilled:
        """Return the states of the prompts of these numbers."""
        return self.states.select([self._row[index] for index in indices])

    def backward(self) -> None:
        """Add to the weights' gradients what follows from those of the states. The graph is freed."""
        with_gradient = [
            (output, state.grad)
            for output, state in zip(self._outputs, states_of(self.states), strict=True)
            if state.grad is not None
        ]
        outputs, gradients = zip(*with_gradient, strict=True)
        torch.autograd.backward(outputs, gradients)


def states_of(prefilled: Prefilled) -> list[Tensor]:
    """Return what completions read of prompts: the last states, and keys and values of each layer."""
    return [prefilled.hidden, *(x for layer in prefilled.cache.layers for x in (layer.keys, layer.values))]
