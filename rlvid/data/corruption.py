"""What noise is: a frozen dataclass that corrupts training data, or what is said about it, by hash of the sample's id.

So it is the same for every algorithm, worker, order and resumed run, and that of a lower rate is part of that of a
higher one. A kind overrides what it corrupts: the prompt (its label, its narrations, its clip), what is seen of the
clip, or the verifier's verdicts. Its fields are its config and its row in `rlvid list noise`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rlvid.types import Group, Prompt
from rlvid.video.views import Clip


@dataclass(frozen=True)
class Corruption:
    """Nothing is corrupted."""

    seed: int = 0

    def u(self, prompt: Prompt) -> float:
        """The sample's own number in [0, 1): it is corrupted at every rate above it."""
        return hash01(self.seed, type(self).__name__.lower(), prompt.id)

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The training prompts, in their order."""
        return [self.prompt(prompt) for prompt in prompts]

    def prompt(self, prompt: Prompt) -> Prompt:
        """One of them."""
        return prompt

    def see(self, prompt: Prompt, clip: Clip) -> Clip:
        """What the policy is shown of a prompt's clip, in training."""
        return clip

    def judge(self, groups: Sequence[Group], step: int) -> None:
        """Change the reward columns of a training step's groups, in place."""


def hash01(*parts: object) -> float:
    """A number in [0, 1) that the parts alone decide, everywhere and for ever."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
