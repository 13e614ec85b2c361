"""Products by oneDNN on CPUs: of the linear layers, for evaluation, and of large matrices with few rows, for decoding.

In float32, PyTorch multiplies with MKL, which uses half of the vector width on some processors. oneDNN uses all of it:
on an AMD EPYC with AVX-512 a product of 64 or more rows takes half the time. It adds up in another order, so results
differ in their last digits. Training keeps PyTorch's own product: the log-probabilities of sampling and learning then
come from the same one.

Decoding multiplies a few rows, one for each completion, by every matrix. It waits for the matrices to be read, and
oneDNN reads a matrix in a layout of its own faster: of 8 rows, 9,728 x 896 takes a third of MKL's time, 3,072 x 384
half, and 512 x 128 longer (AMD EPYC with AVX2, 2026-11-29). So large ones are copied.
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
MIN_ENTRIES = 500_000  # of a matrix that is copied for decoding; smaller ones are read from the processor's cache
FEW_ROWS = 8  # for which the copy's layout is chosen


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


def is_faster_packed(weight: Tensor) -> bool:
    """Return whether decoding multiplies faster by `pack` of a matrix."""
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= MIN_ENTRIES
    return fits and torch.backends.mkldnn.is_available()


def pack(weight: Tensor) -> Tensor:
    """Copy a matrix, (outputs, inputs) in float32, into the layout in which oneDNN reads it: for `multiply_packed`."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), FEW_ROWS)


def multiply_packed(input: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., inputs) times a matrix that `pack` has copied, and a bias, as (..., outputs). No gradient."""
    return torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if (
        input.dtype == weight.dtype == torch.float32
        and input.numel() >= MIN_ROWS * weight.shape[1]
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    ):
        return multiply_packed(input, weight, bias)  # also takes a plain matrix
    return linear(input, weight, bias)


def _forward_linear(layer: nn.Linear, input: Tensor) -> Tensor:
    return _multiply(input, layer.weight, layer.bias)


def _forward_patches(layer: PatchConv3d, input: Tensor) -> Tensor:
    return _multiply(input.flatten(1), layer.weight.flatten(1), layer.bias)[..., None, None, None]


FORWARDS: dict[type, Callable[..., Tensor]] = {nn.Linear: _forward_linear, PatchConv3d: _forward_patches}
