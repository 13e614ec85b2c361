"""Use rlvid's rewards as `reward_funcs` of TRL, and TRL's reward functions as rewards of rlvid.

GRPOTrainer(reward_funcs=[reward_func("accuracy")], ...)                       # in TRL
rlvid train nano 'rewards."rlvid.interop.trl:think_format_reward"=0.2'         # in rlvid, any function of trl.rewards
rlvid train nano 'rewards."rlvid.interop.trl:get_repetition_penalty_reward".ngram_size=4'  # a factory with its options
my_reward = from_trl(my_trl_reward)                                            # in ./mine.py, as ./mine.py:my_reward
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from itertools import groupby
from typing import Any

from rlvid.answer import LETTERS, parse
from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.reward import Column, RewardMix
from rlvid.types import Completion, Group, Prompt

# The columns that a TRL reward function gets in rlvid.
TRL_COLUMNS: dict[str, Callable[[Prompt], Any]] = {
    "id": lambda prompt: prompt.id,
    "question": lambda prompt: prompt.question,
    "options": lambda prompt: list(prompt.options),
    "answer": lambda prompt: prompt.answer,
    "solution": lambda prompt: prompt.answer,
    "level": lambda prompt: prompt.level,
    "domain": lambda prompt: prompt.domain,
    "narrations": lambda prompt: list(prompt.narrations),
}
MEDIA_COLUMNS = ("video", "videos", "image", "images")  # rows with other paths there are other prompts
META_COLUMNS = ("span", "box", "duration")  # become entries of `Prompt.meta`

# The columns without which a shipped reward applies to no completion. "solution" is another name for "answer".
REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "accuracy": ("options", "answer"),
    "open_ended": ("answer",),
    "video_auto": ("options", "answer"),
    "mra": ("answer",),
    "grounding_tiou": ("span",),
    "grounding_box_iou": ("box",),
    "grounding_moves": ("narrations",),
    "grounding_narrations": ("narrations",),
}
COLUMN_HELP = {
    "options": "options (lists of texts)",
    "answer": "answer or solution (letters or texts of the right options)",
    "narrations": "narrations (lists of texts)",
    "span": "span (pairs of seconds)",
    "box": "box (x1, y1, x2, y2 in pixels)",
}


def reward_func(reward: str, **options: Any) -> Callable[..., list[float | None]]:
    """Return one of rlvid's rewards, by its name in a config, as a reward function of TRL.

    Most rewards read the columns `options` (lists of texts) and `answer` of the data set: the right option's letter or
    text. `solution` is read where there is no `answer`. The columns `id`, `question`, `level`, `domain`, `narrations`
    (lists of texts), `span`, `box` and `duration` are used if they exist. A row may have None, where a reward does not
    apply. Completions may be texts or messages. Consecutive completions of one prompt form a group.

    The function that is returned raises UserError if the data set lacks a column that the reward needs, or if an answer
    names no option. It warns if the reward applies to none of the completions of the first call.

    Args:
        reward: such as "accuracy", or "./my_reward.py:my_reward".
        options: the reward's options.

    Raises:
        UserError: if the reward needs evidence other than narrations, which only rlvid's own loop can provide.
    """
    mix = RewardMix({reward: build("rewards", reward, **options)}, {reward: 1.0})
    if missing := sorted({*mix.required_evidence} - {"narrations"}):
        raise UserError(f"reward {reward!r} needs {', '.join(missing)}, which TRL does not provide")
    is_first_call = True

    def trl_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        nonlocal is_first_call
        for name in mix.rewards:  # the reward, and those whose columns it reads
            _check_columns(name, columns)
        groups = _to_groups(prompts, completions, columns)
        mix(groups)
        values = [value for group in groups for value in group[reward]]
        if is_first_call and values and not any(value is not None for value in values):
            warnings.warn(
                f"reward {reward!r} applies to none of the first {len(values)} completions; rlvid's rewards read "
                f"{', '.join(COLUMN_HELP.values())}, and the data set has: {_column_names(columns)}",
                stacklevel=2,
            )
        is_first_call = False
        return values

    trl_reward.__name__ = reward.rpartition(":")[2] or reward  # TRL logs rewards under this name
    return trl_reward


def from_trl(function: Callable[..., Any]) -> Callable[[Sequence[Group]], Column]:
    """Return a TRL reward function, plain or async, as a reward of rlvid.

    The function gets what TRL would pass: messages as prompts and completions, `completion_ids`, and the prompt's
    fields and the entries of its `meta` as columns, with the letter of the right option as both `answer` and
    `solution`. A prompt without an entry has None there. Values that it logs by
    `log_extra` are written to the samples, and those of `log_metric` to the metrics as well. None stays None.
    """

    @wraps(function)
    def reward(groups: Sequence[Group]) -> Column:
        group_sizes = [len(group) for group in groups]
        rows = [(group, completion) for group in groups for completion in group]

        def log_extra(column: str, values: Sequence[Any]) -> None:
            for group, row in zip(groups, _split(values, group_sizes), strict=True):
                group.evidence[f"log/{column}"] = row

        def log_metric(name: str, value: float) -> None:
            for group in groups:
                group.evidence[f"metric/{name}"] = float(value)

        columns = {name: [get(group.prompt) for group, _ in rows] for name, get in TRL_COLUMNS.items()}
        for name in dict.fromkeys(name for group in groups for name in group.prompt.meta if name not in columns):
            columns[name] = [group.prompt.meta.get(name) for group, _ in rows]
        values = function(
            prompts=[[{"role": "user", "content": group.prompt.text}] for group, _ in rows],
            completions=[[{"role": "assistant", "content": completion.text}] for _, completion in rows],
            completion_ids=[list(completion.tokens) for _, completion in rows],
            trainer_state=None,
            log_extra=log_extra,
            log_metric=log_metric,
            **columns,
        )
        if inspect.iscoroutine(values):
            # In a thread, because a notebook already runs an event loop in this one.
            with ThreadPoolExecutor(max_workers=1) as executor:
                values = executor.submit(asyncio.run, values).result()
        return _split([None if value is None else float(value) for value in values], group_sizes)

    del reward.__wrapped__  # otherwise the parameters of `function` would count as options of the reward
    vars(reward)["foreign"] = function  # messages name its place
    return reward


def from_trl_factory(factory: Callable[..., Callable[..., Any]]) -> type:
    """Return a function of TRL that makes reward functions as a reward class, whose options are its parameters."""

    class FactoryReward:
        __signature__ = inspect.signature(factory)

        def __init__(self, **options: Any) -> None:
            self.reward = from_trl(factory(**options))

        def __call__(self, groups: Sequence[Group]) -> Column:
            return self.reward(groups)

    return FactoryReward


def __getattr__(name: str) -> Callable[..., Any]:
    """Return a function of `trl.rewards` as a reward, for names such as `rlvid.interop.trl:think_format_reward`."""
    import trl.rewards

    if name.startswith("_") or not hasattr(trl.rewards, name):
        raise AttributeError(f"trl.rewards has no {name!r}")
    function = getattr(trl.rewards, name)
    return from_trl_factory(function) if name.startswith("get_") else from_trl(function)


def _check_columns(reward: str, columns: dict[str, Any]) -> None:
    """Raise UserError if the data set lacks a column that a shipped reward requires."""
    if missing := missing_column(reward, columns):
        raise UserError(
            f"reward {reward!r} needs the column {missing}; the data set has: {_column_names(columns)}. Rename a "
            "column with dataset.rename_column, or add it"
        )


def missing_column(reward: str, columns: Iterable[str]) -> str:
    """Return the first column that a shipped reward requires and that does not exist, with its meaning, or ""."""
    existing = {"answer" if name == "solution" else name for name in columns}
    return next((COLUMN_HELP[name] for name in REQUIRED_COLUMNS.get(reward, ()) if name not in existing), "")


def _column_names(columns: dict[str, Any]) -> str:
    """Return the names of the data set's columns, without what TRL adds."""
    own = [name for name, values in columns.items() if isinstance(values, list) and name != "completion_ids"]
    return ", ".join(["prompt", *own])


def _to_groups(prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any]) -> list[Group]:
    """Return completions as groups: a group is a run of rows with equal prompts and media."""
    row_prompts = [to_prompt(i, prompt, _row_of(columns, i)) for i, prompt in enumerate(prompts)]
    token_ids = columns.get("completion_ids") or [()] * len(row_prompts)
    groups = []
    for _, run in groupby(range(len(row_prompts)), key=lambda i: (row_prompts[i], _media(_row_of(columns, i)))):
        rows = list(run)
        prompt = row_prompts[rows[0]]
        members = [Completion(_text(completions[i]), tuple(token_ids[i])) for i in rows]
        groups.append(Group(prompt, members, evidence={"narrations": prompt.narrations}))
    return groups


def _media(row: Mapping[str, Any]) -> list[str]:
    """Return the paths of a row's media; decoded pictures, which are new objects in every row, are left out."""
    values = [row.get(name) for name in MEDIA_COLUMNS]
    return [
        str(v) for v in values if isinstance(v, str) or (isinstance(v, list) and all(isinstance(x, str) for x in v))
    ]


def _row_of(columns: dict[str, Any], i: int) -> dict[str, Any]:
    """Return row i of a data set's columns, without None; arguments that are no columns are left out."""
    values = {name: values[i] for name, values in columns.items() if isinstance(values, list) and len(values) > i}
    return {name: value for name, value in values.items() if value is not None}


def to_prompt(i: int, prompt: Any, row: dict[str, Any]) -> Prompt:
    """Return the prompt of row i of a data set, whose columns are `row`.

    Raises UserError if its options or narrations are no list or its answer is no option.
    """
    text = _text(prompt)
    options, narrations = row.get("options") or (), row.get("narrations") or ()
    for name, texts in (("options", options), ("narrations", narrations)):
        if not isinstance(texts, list | tuple):
            raise UserError(f"row {i}: {name} must be a list of texts, not a {type(texts).__name__}: {texts!r}")
    options = tuple(map(str, options))  # they may be numbers
    answer = row.get("answer", row.get("solution"))
    if answer is not None:
        answer = _answer_letter(i, answer, options) if options else str(answer)
    return Prompt(
        id=str(row.get("id", text)),
        question=str(row.get("question", text)),
        options=options,
        answer=answer,
        narrations=tuple(narrations),
        meta={name: row[name] for name in META_COLUMNS if name in row},
        **{name: row[name] for name in ("level", "domain") if name in row},
    )


def _answer_letter(i: int, answer: Any, options: Sequence[str]) -> str:
    """Return the letter of the right option of row i, which may be given by its letter, its text or an answer tag."""
    text = str(answer)
    letter = parse(text if "<answer>" in text else f"<answer>{text}</answer>", options)
    if letter is None:
        choices = ", ".join(map(repr, options[: len(LETTERS)]))
        raise UserError(f"row {i}: the answer {answer!r} names none of the options {choices}, or two of them")
    return letter


def _text(content: Any) -> str:
    """Return a text as it is, or the text of the last message of a conversation."""
    if isinstance(content, str):
        return content
    parts = (content[-1]["content"] if content else "") or ""  # None: a message that only calls a tool
    # In a data set that was saved, every part has all keys, with None where it had none.
    return parts if isinstance(parts, str) else "".join(part.get("text") or "" for part in parts)


def _split(values: Sequence[Any], group_sizes: Sequence[int]) -> list[list[Any]]:
    """Split a flat list into one row per group."""
    if len(values) != sum(group_sizes):
        raise UserError(f"a TRL reward returned {len(values)} values for {sum(group_sizes)} completions")
    remaining = iter(values)
    return [[next(remaining) for _ in range(size)] for size in group_sizes]
