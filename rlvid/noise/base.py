"""The base class of all noise: errors put into the training data, or into the verdicts of its rewards.

Noise is a frozen dataclass that decides by a hash of its seed and the sample id. So it is the same for every algorithm,
worker, order and resumed run, and the samples corrupted at a lower rate are also corrupted at a higher one. A kind of
noise overrides the methods for what it corrupts: the prompts (label, narrations, video), the clip that the policy sees,
or the verdicts. Its fields are its config keys and its row in `rlvid list noise`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rlvid.types import Group, Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.video.views import Clip

Item = TypeVar("Item")


@dataclass(frozen=True)
class Noise:
    """No noise: every method leaves its input as it is."""

    seed: int = 0

    def corruption_threshold(self, prompt: Prompt) -> float:
        """Return the sample's uniform number in [0, 1): the sample is corrupted if the rate is above it.

        The class name is a part of the hash. Renaming a class changes which samples it corrupts.
        """
        return uniform_hash(self.seed, type(self).__name__.lower(), prompt.id)

    def corrupt_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the training prompts with noise, in their order. A kind may leave some out."""
        return [self.corrupt_prompt(prompt) for prompt in prompts]

    def corrupt_prompt(self, prompt: Prompt) -> Prompt:
        """Return one training prompt with noise."""
        return prompt

    def describe_changes(self, clean: Prompt, noisy: Prompt) -> dict[str, Any]:
        """Return what the manifest lists for a prompt, {} if nothing: {"answer": {"clean": "A", "noisy": "C"}}."""
        changes = {}
        for name in ("answer", "narrations", "video", "demonstration"):
            clean_value, noisy_value = getattr(clean, name), getattr(noisy, name)
            if clean_value != noisy_value:
                changes[name] = {"clean": clean_value, "noisy": noisy_value}
        return changes

    def corrupt_clip(self, prompt: Prompt, clip: Clip) -> Clip:
        """Return the clip that the policy sees in training. The input must not be written to: it is cached."""
        return clip

    def check_rewards(self, columns: Collection[str]) -> None:
        """Raise UserError, before the first step, if the noise cannot corrupt any of these reward columns."""

    def corrupt_rewards(self, column: str, groups: Sequence[Group], step: int) -> None:
        """Change one reward column of a training step's groups in place, before any other reward reads it."""

    @property
    def noisy_reward(self) -> str:
        """The reward whose verdicts are wrong; "" if the noise is not in the verdicts but in the evidence."""
        return ""

    @property
    def errs_for_whole_groups(self) -> bool:
        """Whether all completions of a prompt get wrong verdicts together, as with a wrong label."""
        return False

    def youden_j(self, num_options: int = 4) -> float | None:
        """Return Youden's J: the share of the clean gradient in the expected noisy one; None without a closed form.

        The expected verdict is a + J times the true one (Rate or Fate? 2026, arXiv:2601.04411). For verdicts of 0 and
        1, J = 1 - false positive rate - false negative rate. The right option and the wrong answers are taken to be
        distributed evenly over the options.
        """
        return None


def pick_at(u: float, items: Sequence[Item], accept: Callable[[Item], bool] = lambda item: True) -> Item | None:
    """Return the item at the share `u` in [0, 1) of a list, or the next accepted one after it; None if none is.

    After the last item the search goes on at the first.

    >>> pick_at(0.5, ["a", "b", "c", "d"]), pick_at(0.5, ["a", "b", "c", "d"], lambda item: item < "c")
    ('c', 'a')
    """
    start = int(u * len(items))
    return next((item for item in (*items[start:], *items[:start]) if accept(item)), None)


def check_rates(**rates: float) -> None:
    """Raise ValueError, with the name of the field, for a rate outside [0, 1]."""
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} must be in [0, 1], not {rate}")
