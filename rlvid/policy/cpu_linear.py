"""Linear layers by oneDNN on CPUs, for evaluation.

In float32, PyTorch multiplies with MKL, which uses half of the vector width on some processors. oneDNN uses all of it:
on an AMD EPYC with AVX-512 a product of 64 or more rows takes half the time. It adds up in another order, so results
differ in their last digits. Training keeps PyTorch's own product: the log-probabilities of sampling and learning then
come from the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rlvid.policy.patch_embedding import PatchConv3d

MIN_ROWS = 32  # below this, oneDNN's constant cost of a call is larger than its gain


@contextmanager
def onednn_linears(model: nn.Module) -> Iterator[None]:
    """Within this context the model's linear layers use oneDNN where they can: in float32, without gradients."""
    layers: list[nn.Module] = []
    if torch.backends.mkldnn.is_available():
        layers = [
            module for module in model.modules() if type(module) in FORWARDS and module.weight.device.type == "cpu"
        ]
    for layer in layers:
        layer.forward = partial(FORWARDS[type(layer)], layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the method of the class is back


def product_of(layer: nn.Module) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """Return the product that a linear layer computes now: oneDNN's within `onednn_linears`, else PyTorch's."""
    return _multiply if vars(layer).get("forward") else linear


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if (
        input.dtype == weight.dtype == torch.float32
        and input.numel() >= MIN_ROWS * weight.shape[1]
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    ):
        return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return linear(input, weight, bias)


def _forward_linear(layer: nn.Linear, input: Tensor) -> Tensor:
    return _multiply(input, layer.weight, layer.bias)


def _forward_patches(layer: PatchConv3d, input: Tensor) -> Tensor:
    return _multiply(input.flatten(1), layer.weight.flatten(1), layer.bias)[..., None, None, None]


FORWARDS: dict[type, Callable[..., Tensor]] = {nn.Linear: _forward_linear, PatchConv3d: _forward_patches}
