"""The patch embedding of the vision tower as one matrix product."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2VLForConditionalGeneration


class PatchConv3d(nn.Conv3d):
    """A convolution whose kernel covers its whole input: one product of patches and weights.

    It has the weights of `nn.Conv3d` and its results up to rounding, and takes less time on CPUs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, channels, *kernel_size) patches -> (N, out_channels, 1, 1, 1)."""
        return F.linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None, None]


def use_matrix_product(model: Qwen2VLForConditionalGeneration) -> None:
    """Make a Qwen2-VL embed patches by `PatchConv3d`; names and values of its weights do not change."""
    model.model.visual.patch_embed.proj.__class__ = PatchConv3d
