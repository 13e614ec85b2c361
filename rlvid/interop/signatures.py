"""Read a reward in whatever form it is written: rlvid's own, TRL's, verl's or EasyR1's. Parameters tell them apart.

(groups), or under @each (completion, prompt)                  rlvid
(completions, **columns), with or without prompts              TRL, a `reward_func`
(data_source, solution_str, ground_truth, extra_info)          verl, a `compute_score`
(reward_inputs) or (reward_input)                              EasyR1, batched or one after the other
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from rlvid.errors import UserError
from rlvid.interop.trl import from_trl
from rlvid.interop.verl import from_easyr1, from_verl
from rlvid.registry import available, build, resolve
from rlvid.reward import Reward
from rlvid.utils.fields import check_reward, foreign_form, location
from rlvid.utils.text import suggest

FORMS = {
    "rlvid": "rlvid",
    "trl": "TRL's reward_func",
    "verl": "verl's compute_score",
    "easyr1": "EasyR1's compute_score",
}


def read_reward(ref: str | Callable[..., Any], options: Mapping[str, Any]) -> tuple[str, Reward, str]:
    """Return a reward's name, the reward with its options, and its form, a key of `FORMS`.

    Args:
        ref: a name, `./file.py:f`, `module:f`, or the function, class or object itself.
        options: the reward's options; for other trainers' functions, arguments that have a default.

    Raises:
        UserError: if there is no such reward, if it cannot be called in any of the forms, or for an unknown option.
    """
    if isinstance(ref, str):
        plugin = None if ref in available("rewards") else resolve("rewards", ref)
        name = ref.rpartition(":")[2] or ref
    else:
        plugin, name = ref, getattr(ref, "__name__", type(ref).__name__)
    form = "rlvid" if plugin is None else form_of(plugin)
    if form != "rlvid":
        assert plugin is not None
        return name, _foreign(name, plugin, form, options), form
    if isinstance(ref, str):
        return name, build("rewards", ref, **options), form
    reward: Any = ref(**options) if inspect.isclass(ref) else partial(ref, **options) if options else ref
    check_reward(f"reward {name!r}", reward)
    return name, reward, form


def form_of(function: Any) -> str:
    """Return the form of a reward by the names of its parameters, a key of `FORMS`."""
    return foreign_form(function) or "rlvid"


def _foreign(name: str, function: Any, form: str, options: Mapping[str, Any]) -> Reward:
    """Return another trainer's function as a reward. Raises UserError for an option that it does not take."""
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.default is not p.empty and p.name != "extra_info"]
    for option in options:
        if option not in known and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise UserError(
                f"reward {name!r} at {location(function)} has no option {option!r}.{suggest(option, known)}"
            )
    if form == "trl":
        bound: Any = partial(function, **options) if options else function
        if options:
            bound.__name__ = name
        return cast(Reward, from_trl(bound))
    reward: Any = (
        from_verl(function) if form == "verl" else from_easyr1(function, next(iter(parameters)).name.endswith("s"))
    )
    return partial(reward, **options) if options else reward
