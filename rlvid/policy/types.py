"""What goes into the model and what comes out: `ModelInputs`, `CachedMedia` and `ForwardOutput`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

# Token ids of completions: groups -> completions of a group -> ids.
CompletionTokens = Sequence[Sequence[Sequence[int]]]


@dataclass
class CachedMedia:
    """A video or an image whose features under a frozen vision tower are cached on disk."""

    path: Path  # the feature file
    features: Tensor | None  # (visual tokens, width), or None until they are computed


@dataclass(frozen=True)
class ModelInputs:
    """One prompt as the model reads it: L tokens, some of which stand for the patches of M videos and images."""

    input_ids: Tensor  # (L,)
    position_ids: Tensor  # (3, L): M-RoPE's time, height and width
    next_position: int  # the position of the first completion token, on all three axes
    pixel_values: Tensor  # (patches, values per patch): the patches of the video come before those of the image
    grid_thw: Tensor  # (M, 3): patches of each video or image in time, height and width
    media: Sequence[CachedMedia] = ()  # M entries if the vision tower is frozen, else none


class ForwardOutput(NamedTuple):
    """The output of one forward pass over B completions of up to T tokens: (B, T) each, 0 on padding."""

    logps: Tensor  # log-probability of each token
    entropy: Tensor  # entropy of the distribution of each token, in nats
    values: Tensor  # the critic's prediction before each token; 0 without a critic
