"""Rewards without a model: `score` computes one for texts, as in a unit test of a reward."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.reward import Reward, RewardMix, evidence_needs, make_group
from rlvid.types import Completion, Prompt

MODELS = ("judge", "embeddings", "nli")  # evidence that is a function: of the prompts, texts or pairs that it is given


def score(
    reward: str | Callable[..., Any],
    prompt: Prompt,
    completions: Sequence[Completion | str],
    *,
    evidence: Mapping[str, Any] | None = None,
    views: Mapping[str, Sequence[Completion | str]] | None = None,
    **options: Any,
) -> list[float | None]:
    """Score completions of one prompt without a model, as in a unit test or a notebook.

    Args:
        reward: a reward, a class of rewards, its name, or `./file.py:name`.
        prompt: the question.
        completions: the completions of a group, or their texts.
        evidence: kind -> its value for this group, usually a list with one entry per completion; a function for the
            kinds in `MODELS`. Narrations are the prompt's.
        views: name of an altered view -> completions sampled under it, as "shuffled" for evidence "view:shuffled".
        options: of the reward.

    Returns:
        One number per completion, None where the reward does not apply. Columns of other rewards that it reads, such as
        accuracy, are computed first.

    Raises:
        UserError: if the reward needs evidence that is not given, or there is one completion instead of a list.

    >>> from rlvid.types import Prompt
    >>> question = Prompt("q1", "Which?", options=("a pan", "a cup"), answer="B", video="clip.mp4")
    >>> right, wrong = "<answer>B</answer>", "<answer>A</answer>"
    >>> score("accuracy", question, [right, wrong])
    [1.0, 0.0]
    >>> score("grounding_temporal", question, [right, right], views={"shuffled": [wrong, wrong]}, bonus=0.5)
    [0.5, 0.5]
    """
    for given in (completions, *(views or {}).values()):
        if isinstance(given, str | Completion):  # the letters of a text would be completions
            raise UserError("completions are a list, and this is one reply: put it into brackets, [reply]")
    name, plugin = _named(reward, options)
    group = make_group(prompt, completions)
    group.evidence = {"narrations": prompt.narrations, **(evidence or {})}
    mix = RewardMix({name: plugin}, {})
    for view, replies in (views or {}).items():
        group.evidence[f"view:{view}"] = make_group(prompt, replies)
        mix.score_text_only([group.evidence[f"view:{view}"]])
    for need in sorted(evidence_needs(plugin) - group.evidence.keys()):
        kind, _, view = need.partition(":")
        value = "lambda prompts: [...]" if kind in MODELS else "[...]"
        given = f"views={{{view!r}: [texts]}}" if kind == "view" else f"evidence={{{need!r}: {value}}}"
        raise UserError(f"reward {name!r} needs evidence {need!r}: pass {given}; see rlvid list evidence {kind}")
    mix([group])
    return group[name]


def _named(reward: str | Callable[..., Any], options: Mapping[str, Any]) -> tuple[str, Reward]:
    """Return a reward's name, and the reward with its options."""
    if isinstance(reward, str):
        return reward, build("rewards", reward, **options)
    name = getattr(reward, "__name__", type(reward).__name__)
    if inspect.isclass(reward):
        return name, cast(Reward, reward(**options))
    return name, cast(Reward, partial(reward, **options) if options else reward)
