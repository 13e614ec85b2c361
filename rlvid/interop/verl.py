"""Use a reward function of verl or EasyR1 as a reward of rlvid, and rlvid's rewards in verl.

verl       compute_score(data_source, solution_str, ground_truth, extra_info) -> a number, or a dict with "score"
EasyR1     compute_score(reward_input) -> a dict with "overall"; or compute_score(reward_inputs) -> a list of them

A `reward_input` is a dict of the response, its length in tokens and the ground truth. The ground truth is the right
option's letter, or the answer where there are no options. (verl/workers/reward_manager, EasyR1 verl/workers/reward.)

In verl: custom_reward_function.path=pkg://rlvid.interop.verl custom_reward_function.name=compute_score, or the path of
this file, and custom_reward_function.reward_kwargs for the reward and its options. EasyR1's form is in `easyr1`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from rlvid.errors import UserError
from rlvid.interop.trl import TRL_COLUMNS, missing_column, to_prompt
from rlvid.registry import build
from rlvid.reward import Column, RewardMix
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.fields import location

DATA_SOURCE = "rlvid"  # what verl takes from the column `data_source` of its data


def compute_score(
    data_source: Any = None,
    solution_str: str = "",
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    reward: str = "accuracy",
    **options: Any,
) -> float:
    """Score one reply by one of rlvid's rewards, in the form of verl's `compute_score`.

    Args:
        data_source: of verl's data; not read.
        solution_str: the reply.
        ground_truth: the right option's letter or text; an answer where there are no options.
        extra_info: further columns of the sample. Most rewards read `options`, a list of texts; some read `narrations`,
            `span`, `box` or `duration`.
        reward: the name of the reward, such as "accuracy", or "./my_reward.py:my_reward".
        options: of the reward.

    Raises:
        UserError: if the reward needs evidence, which verl does not have, or compares the replies of a group; if
            `extra_info` lacks what it reads; if the answer names no option; or if the reward does not apply to the
            sample. Where it does not apply to this reply only, the score is 0: it adds nothing, as in rlvid's sums.
    """
    columns = {name: _plain_list(value) for name, value in (extra_info or {}).items()}
    return score_reply(reward, options, solution_str, columns | {"answer": ground_truth}, "extra_info")


def score_reply(
    reward: str, options: Mapping[str, Any], reply: str, columns: Mapping[str, Any], where: str, length: int = 0
) -> float:
    """Score one reply for another trainer.

    Args:
        reward: its name.
        options: of the reward.
        reply: the text.
        columns: `answer`, and whatever else is known of the sample.
        where: the user puts columns, for errors.
        length: of the reply, in tokens; 0 if unknown.

    Raises:
        UserError: as `compute_score` does.
    """
    mix = RewardMix({reward: build("rewards", reward, **options)}, {reward: 1.0})
    if needs := sorted({*mix.required_evidence} - {"narrations"}):
        raise UserError(f"reward {reward!r} needs {', '.join(needs)}, which only rlvid's own loop provides")
    for name in mix.rewards:
        if column := missing_column(name, columns):
            raise UserError(f"reward {name!r} needs {column} in {where}, which has: {', '.join(columns)}")
    prompt = to_prompt(0, columns.get("question", ""), {k: v for k, v in columns.items() if v is not None})
    group = Group(prompt, [Completion(reply, (0,) * length)], evidence={"narrations": prompt.narrations})
    mix([group])
    [value] = group[reward]
    beside = Group(prompt, [*group, Completion("another reply")], evidence=group.evidence)
    mix([beside])
    if beside[reward][0] != value:
        raise UserError(f"reward {reward!r} compares the replies of a group, and here one is scored at a time")
    if value is None and _applies(mix, reward, prompt):
        return 0.0  # the reply lacks what is scored, such as a thought: in a sum of rewards it adds nothing
    if value is None:
        raise UserError(
            f"reward {reward!r} does not apply to this sample, and a score must be a number: {where} has "
            f"{', '.join(columns)}"
        )
    return value


def _applies(mix: RewardMix, reward: str, prompt: Prompt) -> bool:
    """Return whether a reward gives a number to a well-formed reply with the right answer."""
    group = Group(
        prompt,
        [Completion(f"<think>So.</think><answer>{prompt.answer}</answer>")],
        evidence={"narrations": prompt.narrations},
    )
    mix([group])
    return group[reward][0] is not None


def _plain_list(value: Any) -> Any:
    """Return an array, as verl's data holds it, as a list; any other value as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


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
    vars(reward)["foreign"] = compute_score  # messages name its place
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
    vars(reward)["foreign"] = compute_score  # messages name its place
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
