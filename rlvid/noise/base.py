"""What noise is: a frozen dataclass that corrupts training data, or what is said about it, by hash of the sample's id.

So it is the same for every algorithm, worker, order and resumed run, and that of a lower rate is part of that of a
higher one. A kind overrides what it corrupts: the prompt (its label, its narrations, its clip), what is seen of the
clip, or the verifier's verdicts. Its fields are its config and its row in `rlvid list noise`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rlvid.types import Group, Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.video.views import Clip

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Noise:
    """Nothing is corrupted."""

    seed: int = 0

    def u(self, prompt: Prompt) -> float:
        """The sample's own number in [0, 1): it is corrupted at every rate above it."""
        return uniform_hash(self.seed, type(self).__name__.lower(), prompt.id)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The training prompts, in their order; a kind may leave some out."""
        return [self.corrupt_prompt(prompt) for prompt in prompts]

    def corrupt_prompt(self, prompt: Prompt) -> Prompt:
        """One of them."""
        return prompt

    def changes(self, clean: Prompt, noisy: Prompt) -> dict[str, Any]:
        """What the manifest says of a prompt; empty if nothing was done to it."""
        names = ("answer", "narrations", "video", "demonstration")
        both = {name: {"clean": getattr(clean, name), "noisy": getattr(noisy, name)} for name in names}
        return {name: pair for name, pair in both.items() if pair["clean"] != pair["noisy"]}

    def corrupt_clip(self, prompt: Prompt, clip: Clip) -> Clip:
        """What the policy is shown of a prompt's clip, in training."""
        return clip

    def check_rewards(self, columns: Collection[str]) -> None:
        """Refuse, before step 0, what these reward columns cannot be spoilt with."""

    def corrupt_verdicts(self, column: str, groups: Sequence[Group], step: int) -> None:
        """Change one reward's column of a training step's groups, in place, before any other reward reads it."""

    @property
    def reward(self) -> str:
        """The reward whose verdicts are wrong; none where the evidence is."""
        return ""

    def youden_j(self, options: int = 4) -> float | None:
        """The share of the clean gradient in the noisy one's expectation, where it has a closed form.

        The expected verdict is a + J times the true one (Rate or Fate? 2026, arXiv:2601.04411): for yes and no,
        J = 1 - false positives - false negatives. Labels are taken to be balanced over the options, and wrong answers
        too.
        """
        return None


def pick(u: float, things: Sequence[Thing], fits: Callable[[Thing], bool] = lambda thing: True) -> Thing | None:
    """The thing at `u` in [0, 1) of the way, or the next after it that fits; None if none does."""
    start = int(u * len(things))
    return next((thing for thing in (*things[start:], *things[:start]) if fits(thing)), None)


def check_rates(**rates: float) -> None:
    """Refuse what is no probability, by name."""
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} must be in [0, 1], not {rate}")
