"""How far each token depends on what is seen: from its log-probabilities with and without an altered view of the clip.

Shapes: B rows, T tokens. A view is one of rlvid/video/views.py; `step.batch.view_logps` holds its log-probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dependence(logps: Tensor, view_logps: Tensor) -> Tensor:
    """Return (B, T) k3 = exp(d) - d - 1 of the sampled tokens with d = view - full log-prob, at most 10.

    Averaged over tokens that the policy samples, k3 estimates KL(full || view). For one token it is no symmetric
    measure: a token of probability .8 that the view makes .2 scores .64, and one of .2 that it makes .8 scores 1.61. So
    the tokens that the pixels speak against come first.
    """
    difference = (view_logps - logps).clamp(-20, 20)
    return (difference.exp() - difference - 1).clamp(max=10)


def min_max(values: Tensor, mask: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Scale values to [0, 1] over the entries of the mask, along the last dimension.

    Without a floor, rounding errors would be stretched to [0, 1] where nothing differs.

    Returns:
        The scaled values, 0 outside the mask, and a bool tensor (..., 1): whether the range is at least `floor`. Where
        it is not, the scaled values are 0.
    """
    low = values.masked_fill(mask == 0, torch.inf).amin(-1, keepdim=True)
    size = values.masked_fill(mask == 0, -torch.inf).amax(-1, keepdim=True) - low
    is_spread = size >= floor
    scaled = (values - low) / size.clamp(min=floor)
    return scaled.where((mask > 0) & is_spread, torch.zeros(())), is_spread


def top_share(scores: Tensor, mask: Tensor, share: float) -> Tensor:
    """Return a mask of the tokens of a (B, T) mask whose score is among the highest `share` of all; ties are kept.

    >>> top_share(torch.tensor([[-0.5, 2.0, 0.1, 0.2, 9.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]]), 0.25)
    tensor([[0., 1., 0., 0., 0.]])
    """
    if not mask.any():
        return torch.zeros_like(mask)  # completions without a token
    threshold = scores[mask > 0].quantile(1 - share)
    return (scores >= threshold) * mask
