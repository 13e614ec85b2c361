"""The patches of a prompt's videos and images, made when they are first read.

The vision tower alone reads them. Where its features are cached nothing reads patches, which take four times the memory
of the frames that they are cut from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor


class Patches:
    """The patches of M videos and images.

    Args:
        parts: for each video or image, its (patches, values per patch), or a function that returns them.
        empty: (0, values per patch), on the device where patches are read.
    """

    def __init__(self, parts: Sequence[Tensor | Callable[[], Tensor]], empty: Tensor) -> None:
        self.parts, self.empty = list(parts), empty
        self.whole: Tensor | None = None

    def __getitem__(self, index: int) -> Tensor:
        """Return the patches of one video or image, (patches, values per patch)."""
        part = self.parts[index]
        if not isinstance(part, Tensor):
            part = self.parts[index] = part().to(self.empty.device)
        return part

    def all(self) -> Tensor:
        """Return the patches of all videos and images, in order, (patches, values per patch)."""
        if self.whole is None:
            parts = [self[index] for index in range(len(self.parts))]
            self.whole = torch.cat([self.empty, *parts])
            self.parts = list(self.whole.split([len(part) for part in parts])) if parts else []
        return self.whole

    def to(self, device: torch.device) -> Self:
        """Return the patches on a device; those that are not made yet will be made where they would have been."""
        empty = self.empty.to(device)
        if empty.device == self.empty.device:
            return self
        return type(self)([part.to(device) if isinstance(part, Tensor) else part for part in self.parts], empty)
