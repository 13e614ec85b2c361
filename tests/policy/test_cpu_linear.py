"""oneDNN's linear layers: the results up to rounding, within their context only, and without gradients only."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from rlvid.policy.cpu_linear import MIN_ROWS, is_faster_packed, multiply_packed, onednn_linears, pack
from rlvid.policy.patch_embedding import PatchConv3d

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """The number of rows of each product by oneDNN."""
    rows, multiply = [], torch.ops.mkldnn._linear_pointwise

    def counting(x, *args):
        rows.append(x.numel() // x.shape[-1])
        return multiply(x, *args)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counting)
    return rows


@pytest.mark.parametrize("bias", [True, False])
def test_results_are_those_of_pytorch(calls, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(576, 48, bias=bias), torch.randn(4, MIN_ROWS, 576)
    patches = PatchConv3d(3, 8, kernel_size=(2, 14, 14), stride=(2, 14, 14), bias=bias)
    clips = torch.randn(MIN_ROWS, 3, 2, 14, 14)
    model = nn.ModuleList([layer, patches])
    with torch.no_grad():
        expected = layer(x), patches(clips)
        with onednn_linears(model):
            torch.testing.assert_close((layer(x), patches(clips)), expected, rtol=1e-4, atol=1e-5)
        assert calls == [4 * MIN_ROWS, MIN_ROWS]
        layer(x)
    assert len(calls) == 2 and "forward" not in vars(layer), "outside of the context nothing is changed"


def test_it_leaves_alone_what_it_cannot_do(calls):
    layer = nn.Linear(8, 8)
    with onednn_linears(layer):
        layer(torch.randn(64, 8)).sum().backward()  # needs a gradient
        with torch.no_grad():
            layer(torch.randn(MIN_ROWS - 1, 8))  # too small to gain
            with torch.autocast("cpu", torch.bfloat16):
                assert layer(torch.randn(64, 8)).dtype == torch.bfloat16
    assert layer.weight.grad is not None and not calls


@pytest.mark.parametrize("rows", [1, 8, 33])
def test_a_packed_matrix_multiplies_as_a_plain_one(rows):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3072, 200, generator=generator), torch.randn(3072, generator=generator)
    x = torch.randn(rows, 1, 200, generator=generator)
    assert is_faster_packed(weight) and not is_faster_packed(weight.bfloat16()) and not is_faster_packed(weight[:2000])
    expected = linear(x, weight, bias)
    assert multiply_packed(x, pack(weight), bias).shape == expected.shape
    assert torch.allclose(multiply_packed(x, pack(weight), bias), expected, rtol=1e-5, atol=1e-4)
    assert torch.allclose(multiply_packed(x, pack(weight), None), linear(x, weight), rtol=1e-5, atol=1e-4)
