"""The vision tower's attention over all segments at once: the bits of one call for each segment."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rlvid.policy.vision_attention import NAME, attend_within_segments


@pytest.mark.parametrize("lengths", [[16, 16, 16], [5], [16, 4, 16, 1, 4]])
def test_results_and_gradients_are_those_of_separate_calls(lengths):
    torch.manual_seed(0)
    qkv = torch.randn(3, 1, 4, sum(lengths), 32, requires_grad=True)
    weights = torch.randn(1, sum(lengths), 4, 32)
    ends = torch.tensor([0, *lengths]).cumsum(0)
    together, _ = attend_within_segments(torch.nn.Identity(), *qkv, None, cu_seq_lens_q=ends, scaling=0.2)
    parts = [scaled_dot_product_attention(*x, scale=0.2) for x in qkv.split(lengths, dim=3)]
    separate = torch.cat(parts, dim=2).transpose(1, 2)
    gradients = [torch.autograd.grad((x * weights).sum(), qkv)[0] for x in (together, separate)]
    assert torch.equal(together, separate) and torch.equal(*gradients)


def test_a_policy_uses_it(policy):
    assert policy.model.model.visual.config._attn_implementation == NAME
