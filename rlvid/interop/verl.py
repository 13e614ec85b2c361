"""Use a reward function of verl or EasyR1 as a reward of rlvid.

verl       compute_score(data_source, solution_str, ground_truth, extra_info) -> a number, or a dict with "score"
EasyR1     compute_score(reward_input) -> a dict with "overall"; or compute_score(reward_inputs) -> a list of them

A `reward_input` is a dict of the response, its length in tokens and the ground truth. The ground truth is the right
option's letter, or the answer where there are no options. (verl/workers/reward_manager, EasyR1 verl/workers/reward.)
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from rlvid.errors import UserError
from rlvid.interop.trl import TRL_COLUMNS
from rlvid.reward import Column
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.fields import location

DATA_SOURCE = "rlvid"  # what verl takes from the column `data_source` of its data


def from_verl(compute_score: Callable[..., Any]) -> Callable[..., Column]:
    """Return a `compute_score` of verl as a reward of rlvid. `extra_info` holds the prompt's fields and media."""

    @wraps(compute_score)
    def reward(groups: Sequence[Group], **options: Any) -> Column:
        return [[score(group.prompt, completion, options) for completion in group] for group in groups]

    def score(prompt: Prompt, completion: Completion, options: Mapping[str, Any]) -> float | None:
        result = compute_score(
            data_source=DATA_SOURCE,
            solution_str=completion.text,
            ground_truth=prompt.answer,
            extra_info={name: get(prompt) for name, get in TRL_COLUMNS.items()} | {"video": prompt.video},
            **options,
        )
        return _number(compute_score, result, "score")

    del reward.__wrapped__  # its parameters are not those of a reward
    return reward


def from_easyr1(compute_score: Callable[..., Any], batched: bool) -> Callable[..., Column]:
    """Return a `compute_score` of EasyR1 as a reward of rlvid.

    Args:
        compute_score: the function.
        batched: whether it takes all inputs at once (EasyR1's `reward_type=batch`), not one after the other.
    """

    @wraps(compute_score)
    def reward(groups: Sequence[Group], **options: Any) -> Column:
        inputs = [reward_input(group.prompt, completion) for group in groups for completion in group]
        results = compute_score(inputs, **options) if batched else [compute_score(one, **options) for one in inputs]
        if not isinstance(results, Sequence) or len(results) != len(inputs):
            raise UserError(
                f"{location(compute_score)}: {compute_score.__name__} returned {reprlib.repr(results)} for "
                f"{len(inputs)} responses: return a list with a dict for each"
            )
        numbers = iter(_number(compute_score, result, "overall") for result in results)
        return [[next(numbers) for _ in group] for group in groups]

    del reward.__wrapped__
    return reward


def reward_input(prompt: Prompt, completion: Completion) -> dict[str, Any]:
    """Return what EasyR1 passes for one response."""
    return {
        "response": completion.text,
        "response_length": len(completion.tokens),
        "ground_truth": prompt.answer,
    }


def _number(function: Callable[..., Any], result: Any, key: str) -> float | None:
    """Return the number in what a function returned for one response. Raises UserError if there is none."""
    value: Any = result.get(key) if isinstance(result, Mapping) else result
    if value is None and not isinstance(result, Mapping):
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{location(function)}: {function.__name__} returned {reprlib.repr(result)}: return a number, or a dict "
            f'with a number as "{key}"'
        ) from error
