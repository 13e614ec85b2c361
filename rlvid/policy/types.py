"""What goes into the model and what comes out: `ModelInputs`, `ProcessorInputs`, `CachedMedia` and `ForwardOutput`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from rlvid.policy.patches import Patches
from rlvid.video.read import Clock

# Token ids of completions: groups -> completions of a group -> ids.
CompletionTokens = Sequence[Sequence[Sequence[int]]]


@dataclass
class CachedMedia:
    """A video or an image whose features under a frozen vision tower are cached on disk."""

    path: Path | None  # the feature file; None: features are not stored
    features: Tensor | None  # (visual tokens, width), or None until they are computed
    tower: str = ""  # the hash of the tower whose features these are


@dataclass(frozen=True)
class ModelInputs:
    """One prompt as the model reads it: L tokens, some of which stand for the patches of M videos and images."""

    input_ids: Tensor  # (L,)
    position_ids: Tensor  # (3, L): M-RoPE's time, height and width
    next_position: int  # the position of the first completion token, on all three axes
    patches: Patches  # those of the video come before those of the image; made when read if features are cached
    grid_thw: Tensor  # (M, 3): patches of each video or image in time, height and width
    media: Sequence[CachedMedia] = ()  # M entries if the vision tower is frozen, else none
    clock: Clock | None = None  # of the video's frames; None if unknown
    # For a group that is learnt from under several views of its clip: the inputs of each, and how many completions, in
    # this order, read them. Empty if all completions read the inputs above.
    views: Sequence[tuple[ModelInputs, int]] = ()
    # Whether the vision tower reads slices that follow each other and are equal, as in a blank clip, only once. Exact
    # but for rounding, so it is for inputs of altered views alone: other runs keep their bits.
    equal_slices_once: bool = False

    @property
    def pixel_values(self) -> Tensor:
        """The patches of all videos and images, (patches, values per patch)."""
        return self.patches.all()

    def unstored(self) -> Self:
        """Return the inputs with features that are not stored on the disk, for pixels that are seen only once."""
        return replace(self, media=[replace(medium, path=None) for medium in self.media])

    def to(self, device: torch.device) -> Self:
        """Return the inputs on a device."""
        tensors: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor | Patches)
        }
        return replace(self, views=[(inputs.to(device), count) for inputs, count in self.views], **tensors)


@dataclass(frozen=True)
class ProcessorInputs(ModelInputs):
    """One prompt on the general path: what the model's own processor made of it.

    Positions, patches and grids are the model's own affair. Their fields are empty, so that code for packed rows fails
    on them and is not wrong.
    """

    arguments: Mapping[str, Tensor] = field(default_factory=dict)  # of the model's forward pass, except input_ids

    def to(self, device: torch.device) -> Self:
        """Return the inputs on a device."""
        arguments = {name: value.to(device) for name, value in self.arguments.items()}
        return replace(super().to(device), arguments=arguments)

    @classmethod
    def of(cls, input_ids: Tensor, arguments: Mapping[str, Tensor]) -> ProcessorInputs:
        """Return the inputs of a prompt of token ids, (L,), with the model's other arguments."""
        empty = torch.zeros(0)
        grids = torch.zeros(0, 3, dtype=torch.long)
        return cls(input_ids, empty, -1, Patches([], empty), grids, arguments=arguments)


def split_by_view(
    prompts: Sequence[ModelInputs], completions: CompletionTokens
) -> tuple[list[ModelInputs], list[Sequence[Sequence[int]]]]:
    """Split groups whose completions read several views of a clip into one group for each view.

    Returns:
        The inputs and the completions of the packed rows: those of all groups, in the same order.
    """
    inputs: list[ModelInputs] = []
    rows: list[Sequence[Sequence[int]]] = []
    for prompt, group in zip(prompts, completions, strict=True):
        start = 0
        for part, count in prompt.views or [(prompt, len(group))]:
            inputs.append(part)
            rows.append(group[start : start + count])
            start += count
        assert start == len(group)
    return inputs, rows


class ForwardOutput(NamedTuple):
    """The output of one forward pass over B completions of up to T tokens: (B, T) each, 0 on padding."""

    logps: Tensor  # log-probability of each token
    entropy: Tensor  # entropy of the distribution of each token, in nats
    values: Tensor  # the critic's prediction before each token; 0 without a critic
