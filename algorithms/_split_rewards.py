"""Shared by algorithms that give some rewards of the mix credit apart from the others."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from rlvid.types import Step

CREDIT_OF_PARTS = "its parts differ between completions whose sum of rewards is equal"


def require_both_kinds(weights: Mapping[str, float], named: Collection[str], field: str, example: str) -> None:
    """Raise ValueError unless a mix, name -> weight, pays rewards that an algorithm names, and others.

    Args:
        weights: the mix.
        named: the names that the algorithm gives credit apart.
        field: that holds them, for the message.
        example: a reward that could be added, for the message.
    """
    paid = [name for name, weight in weights.items() if weight]
    if not any(name in named for name in paid):
        raise ValueError(
            f"the mix pays none of {field} ({', '.join(named)}), so the algorithm would be grpo: add one, as in "
            f"rewards.{example}=0.5, or name one of yours in algorithm.{field}"
        )
    if all(name in named for name in paid):
        raise ValueError(
            f"all rewards of the mix ({', '.join(paid)}) are in {field}, so the algorithm would be grpo: add another "
            "one, as in rewards.accuracy=1.0"
        )


def split_rewards(step: Step, named: Collection[str]) -> tuple[Step, Step] | None:
    """Return the step with the rewards that an algorithm names alone, and with the others alone; None without both."""
    ours = {name: weight for name, weight in step.reward_weights.items() if name in named}
    others = {name: weight for name, weight in step.reward_weights.items() if name not in named}
    return (replace(step, reward_weights=ours), replace(step, reward_weights=others)) if ours and others else None
