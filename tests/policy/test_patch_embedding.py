"""Patches are embedded by a matrix product, with the weights and the results of the 3-D convolution."""

import torch
from torch import nn

from rlvid.config import TrainConfig, VideoConfig
from rlvid.policy.model import Policy
from rlvid.policy.patch_embedding import PatchConv3d


def test_results_and_gradients_are_those_of_the_convolution():
    kernel = (2, 14, 14)
    torch.manual_seed(0)
    convolution = nn.Conv3d(3, 16, kernel_size=kernel, stride=kernel, bias=False)
    product = PatchConv3d(3, 16, kernel_size=kernel, stride=kernel, bias=False)
    product.load_state_dict(convolution.state_dict())
    patches = torch.randn(10, 3, *kernel)
    results = [layer(patches) for layer in (convolution, product)]
    for result in results:
        result.square().sum().backward()
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(convolution.weight.grad, product.weight.grad, rtol=1e-4, atol=1e-4)


def test_a_policy_uses_it_under_the_names_of_the_checkpoint():
    policy = Policy.load("nano", TrainConfig(), VideoConfig())
    assert type(policy.model.model.visual.patch_embed.proj) is PatchConv3d
    assert "model.visual.patch_embed.proj.weight" in policy.model.state_dict()
