"""Rewards to and from TRL: ours as its `reward_funcs`, its own in our mix.

GRPOTrainer(reward_funcs=[reward_func("accuracy")], ...)                       # in TRL
rlvid train nano 'rewards."rlvid.interop.trl:think_format_reward"=0.2'         # in rlvid, any of trl.rewards
rlvid train nano 'rewards."rlvid.interop.trl:get_repetition_penalty_reward".ngram_size=4'  # made with its fields
mine = from_trl(my_trl_reward)                                                 # in ./mine.py, as ./mine.py:mine
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from itertools import groupby
from typing import Any

from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.reward import Column, RewardMix
from rlvid.types import Completion, Group, Prompt


def reward_func(reward: str, **fields: Any) -> Callable[..., list[float | None]]:
    """One of our rewards, by the name it has in a config, as TRL calls it.

    The data set's columns `options` (lists of texts) and `answer` (letters) are what most rewards read; `id`,
    `question`, `level`, `domain`, `narrations` (lists of texts), and `span`, `box` and `duration`, which become the
    prompt's meta, are taken where they are there. Completions may be texts or messages. Completions of one prompt that
    follow each other are one group. UserError for a reward that needs other evidence than narrations: only rlvid's loop
    has it.
    """
    mix = RewardMix({reward: build("rewards", reward, **fields)}, {reward: 1.0})
    if missing := sorted({*mix.required_evidence} - {"narrations"}):
        raise UserError(f"reward {reward!r} needs {', '.join(missing)}, which TRL does not provide")

    def called(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        rows = [_prompt(i, prompt, columns) for i, prompt in enumerate(prompts)]
        places = [list(places) for _, places in groupby(range(len(rows)), key=lambda i: rows[i])]
        tokens = columns.get("completion_ids") or [()] * len(rows)
        groups = [
            Group(rows[own[0]], [Completion(_text(completions[i]), tuple(tokens[i])) for i in own]) for own in places
        ]
        for group in groups:
            group.evidence["narrations"] = group.prompt.narrations
        mix(groups)
        return [value for group in groups for value in group[reward]]

    called.__name__ = reward.rpartition(":")[2] or reward
    return called


def from_trl(function: Callable[..., Any]) -> Callable[[Sequence[Group]], Column]:
    """A TRL reward function, plain or async, as one of ours.

    It is given what TRL would give it: messages as prompts and completions, `completion_ids`, and as columns the
    prompt's fields, `solution` being the right letter. What it logs by `log_extra` is kept with the samples, and by
    `log_metric` in the metrics, too. None stays None.
    """

    @wraps(function)
    def reward(groups: Sequence[Group]) -> Column:
        flat = [(group, completion) for group in groups for completion in group]
        sizes = [len(group) for group in groups]

        def log_extra(column: str, values: Sequence[Any]) -> None:
            for group, own in zip(groups, _cut(values, sizes), strict=True):
                group.evidence[f"log/{column}"] = own

        def log_metric(name: str, value: float) -> None:
            for group in groups:
                group.evidence[f"metric/{name}"] = float(value)

        columns = {name: [c(g.prompt) for g, _ in flat] for name, c in COLUMNS.items()}
        said = function(
            prompts=[[{"role": "user", "content": group.prompt.text}] for group, _ in flat],
            completions=[[{"role": "assistant", "content": completion.text}] for _, completion in flat],
            completion_ids=[list(completion.tokens) for _, completion in flat],
            trainer_state=None,
            log_extra=log_extra,
            log_metric=log_metric,
            **columns,
        )
        if inspect.iscoroutine(said):
            with ThreadPoolExecutor(1) as aside:  # a notebook has a loop of its own in this thread
                said = aside.submit(asyncio.run, said).result()
        return _cut([None if value is None else float(value) for value in said], sizes)

    del reward.__wrapped__  # or its parameters would be taken for fields
    return reward


def made_by(factory: Callable[..., Callable[..., Any]]) -> type:
    """A function of TRL that makes a reward, as a class of ours: its parameters are the reward's fields."""

    class Made:
        __signature__ = inspect.signature(factory)

        def __init__(self, **fields: Any) -> None:
            self.reward = from_trl(factory(**fields))

        def __call__(self, groups: Sequence[Group]) -> Column:
            return self.reward(groups)

    return Made


def __getattr__(name: str) -> Callable[..., Any]:
    """`rlvid.interop.trl:think_format_reward`: any function of `trl.rewards` as one of ours."""
    import trl.rewards

    if name.startswith("_") or not hasattr(trl.rewards, name):
        raise AttributeError(f"trl.rewards has no {name!r}")
    found = getattr(trl.rewards, name)
    return made_by(found) if name.startswith("get_") else from_trl(found)


COLUMNS: dict[str, Callable[[Prompt], Any]] = {
    "id": lambda prompt: prompt.id,
    "question": lambda prompt: prompt.question,
    "options": lambda prompt: list(prompt.options),
    "answer": lambda prompt: prompt.answer,
    "solution": lambda prompt: prompt.answer,
    "level": lambda prompt: prompt.level,
    "domain": lambda prompt: prompt.domain,
    "narrations": lambda prompt: list(prompt.narrations),
}


def _prompt(place: int, prompt: Any, columns: dict[str, Any]) -> Prompt:
    own = {name: values[place] for name, values in columns.items() if isinstance(values, list) and len(values) > place}
    fields = {name: own[name] for name in ("answer", "level", "domain") if own.get(name) is not None}
    return Prompt(
        id=str(own.get("id", _text(prompt))),
        question=str(own.get("question", _text(prompt))),
        options=tuple(own.get("options") or ()),
        narrations=tuple(own.get("narrations") or ()),
        meta={name: own[name] for name in ("span", "box", "duration") if own.get(name) is not None},
        **fields,
    )


def _text(said: Any) -> str:
    """A text, or the last message of a conversation."""
    if isinstance(said, str):
        return said
    content = said[-1]["content"] if said else ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _cut(values: Sequence[Any], sizes: Sequence[int]) -> list[list[Any]]:
    """A flat list as one row per group."""
    if len(values) != sum(sizes):
        raise UserError(f"a TRL reward returned {len(values)} values for {sum(sizes)} completions")
    rest = iter(values)
    return [[next(rest) for _ in range(size)] for size in sizes]
