"""The fields of plug-ins: their defaults, the types of their values, and where a plug-in is defined."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from math import isfinite
from typing import Any

from rlvid.errors import UserError
from rlvid.utils.mistakes import shown
from rlvid.utils.other_trainers import known_elsewhere
from rlvid.utils.plugin_source import REQUIRED, PluginSource
from rlvid.utils.renamed import renamed_hint
from rlvid.utils.text import suggest

# Functions of other trainers: what they are called there, and the two lines that make a reward of one.
FOREIGN = {
    "trl": ("reward_func of TRL", "rlvid.interop.trl import from_trl", "from_trl({name})"),
    "verl": ("compute_score of verl", "rlvid.interop.verl import from_verl", "from_verl({name})"),
    "easyr1": (
        "compute_score of EasyR1",
        "rlvid.interop.verl import from_easyr1",
        "from_easyr1({name}, batched=True)",
    ),
}


def parameters(plugin: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the fields of a plug-in: those of a dataclass, or the keyword-only parameters of a function."""
    signature = inspect.signature(plugin).parameters.values()
    return {p.name: p for p in signature if inspect.isclass(plugin) or p.kind is p.KEYWORD_ONLY}


@dataclass(frozen=True)
class Field:
    """One field of a plug-in."""

    default: Any  # `inspect.Parameter.empty` if the field must be set
    annotation: str  # "" without one


def fields_of(plugin: Callable[..., Any]) -> dict[str, Field]:
    """Return the fields of a plug-in, see `parameters`."""
    factories = {}
    if dataclasses.is_dataclass(plugin):
        factories = {item.name: item.default_factory for item in dataclasses.fields(plugin)}
    fields = {}
    for name, parameter in parameters(plugin).items():
        factory = factories.get(name, dataclasses.MISSING)
        default = parameter.default if factory is dataclasses.MISSING else factory()
        annotation = parameter.annotation
        if annotation is parameter.empty:
            annotation = ""
        fields[name] = Field(default, annotation.__name__ if inspect.isclass(annotation) else str(annotation))
    return fields


def parsed_fields(source: PluginSource) -> dict[str, Field] | None:
    """Return the fields of a plug-in from its source, or None if a default there is no literal."""
    fields = {}
    for name, parsed in source.fields.items():
        try:
            default = inspect.Parameter.empty if parsed.default == REQUIRED else ast.literal_eval(parsed.default)
        except ValueError:
            return None
        fields[name] = Field(default, parsed.type)
    return fields


def in_toml(value: Any) -> bool:
    """Return whether TOML can hold a value; None counts, as "".

    >>> in_toml(0.5), in_toml(("a", 1)), in_toml(frozenset({"a"}))
    (True, True, False)
    """
    if isinstance(value, list | tuple):
        return all(in_toml(item) and item is not None for item in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and in_toml(item) for key, item in value.items())
    return value is None or isinstance(value, str | int | float)


def checked_fields(named: str, known: Mapping[str, Field], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of some fields of a plug-in, converted to the types of their defaults.

    A whole number becomes a float where the default is one, and a list a tuple; "" and "none" become None where the
    default is None.

    Args:
        named: begins messages, such as "reward 'format'".
        known: all fields of the plug-in.
        fields: those that are set.

    Raises:
        UserError: for an unknown field, or a value of another type than the default's.
    """
    values = {}
    for key, value in fields.items():
        if key not in known:
            hint = renamed_hint("field", key) or _other_key(key, named) or f".{suggest(key, known)}"
            raise UserError(f"{named} has no field {key!r}{hint}")
        values[key] = _converted(f"{named}: {key}", value, known[key])
    return values


def _other_key(key: str, named: str) -> str:
    """Return the end of a message about a field of an algorithm that is a key elsewhere in the config, or ""."""
    ours = known_elsewhere(key) if named.startswith("algorithm") else ""
    return f"; in a config it is {ours}" if ours and ours != f"algorithm.{key}" else ""


def _converted(where: str, value: Any, field: Field) -> Any:
    """Convert one value to the type of its field's default. Raises UserError if it has another type."""
    default, annotation = field.default, field.annotation
    if default is None and value in ("", "none"):
        return None
    expected = type(default)
    if default is None and annotation.partition(" ")[0] in ("int", "float"):
        expected = int if annotation.startswith("int") else float
    if expected is float or (expected is int and "float" in annotation):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{where} must be a number, not {value!r}")
        if not isfinite(value):
            raise UserError(f"{where} must be a finite number, not {value}")
        return float(value) if expected is float else value
    if expected in (bool, int, str) and type(value) is not expected:
        raise UserError(f"{where} must be {expected.__name__}, not {value!r}")
    if expected is tuple and not isinstance(value, list | tuple):  # the characters of a text would be its values
        raise UserError(f"{where} must be a list, such as {[value]}, not {value!r}")
    return tuple(value) if expected is tuple else value


def location(plugin: Any) -> str:
    """Return FILE:LINE of the definition of a plug-in, of another trainer's function too, or "" if it has no source."""
    target = plugin.func if isinstance(plugin, partial) else plugin
    target = getattr(target, "foreign", target)
    target = target.func if isinstance(target, partial) else target
    if not (inspect.isclass(target) or inspect.isfunction(target)):
        target = type(target)
    target = inspect.unwrap(target)
    try:
        return f"{shown(inspect.getsourcefile(target) or '')}:{inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):
        return ""


def check_dataclass(named: str, plugin: Any, fields: Mapping[str, Any]) -> None:
    """Raise UserError for a class that declares fields but is no dataclass, so that they would not count."""
    if not inspect.isclass(plugin) or "__dataclass_fields__" in vars(plugin) or "__init__" in vars(plugin):
        return
    declared = [name for name, kind in inspect.get_annotations(plugin).items() if "ClassVar" not in str(kind)]
    if declared and (dataclasses.is_dataclass(plugin) or set(declared) & set(fields)):
        raise UserError(
            f"{named} at {location(plugin)} declares {declared[0]}, which does not count before its class is a "
            "dataclass: put @dataclass(frozen=True) above it"
        )


def foreign_form(function: Any) -> str:
    """Return the trainer whose reward a function is, by the names of its parameters: "trl", "verl", "easyr1", or ""."""
    if inspect.isclass(function) or not callable(function):
        return ""
    try:
        names = list(inspect.signature(function, follow_wrapped=False).parameters)
    except (TypeError, ValueError):  # of a built-in function
        return ""
    if "completions" in names:
        return "trl"
    if {"solution_str", "ground_truth"} <= {*names}:
        return "verl"
    return "easyr1" if names[:1] in (["reward_input"], ["reward_inputs"]) else ""


def check_method_names(plugin: type, base: type) -> None:
    """Raise TypeError if a class defines a method whose name is nearly that of one of `base`: nothing would call it."""
    inherited = {name for parent in plugin.__mro__[1:] for name in vars(parent)}
    for name, value in vars(plugin).items():
        if name.startswith("_") or name in inherited or not (callable(value) or isinstance(value, property)):
            continue
        if nearest := get_close_matches(name, vars(base), n=1, cutoff=0.85):
            raise TypeError(
                f"{plugin.__name__}.{name} is never called. Did you mean {nearest[0]!r}? If it is a helper of your "
                "own, begin its name with an underscore"
            )


def check_needs(named: str, plugin: Any) -> None:
    """Raise UserError if the `needs` of a plug-in are one text, whose letters would be its needs."""
    if isinstance(needs := getattr(plugin, "needs", ()), str):
        raise UserError(f"{named} at {location(plugin)}: needs is the text {needs!r}: write frozenset({{{needs!r}}})")


def check_reward(named: str, reward: Any) -> None:
    """Raise UserError unless a reward can be called with one argument, the groups."""
    if not callable(reward):
        raise UserError(f"{named} at {location(reward)} cannot be called: a class needs __call__(self, groups)")
    check_needs(named, reward)
    function: Any = reward.func if isinstance(reward, partial) else reward
    given = reward.keywords if isinstance(reward, partial) else {}
    if form := foreign_form(function):
        kind, imported, call = FOREIGN[form]
        call = call.format(name=getattr(function, "__name__", "f"))
        raise UserError(
            f"{named} at {location(reward)} is a {kind}, no reward of rlvid: make one with `from {imported}` and "
            f"`mine = {call}`, and name mine"
        )
    if not inspect.isroutine(function):  # an object: its class may have a `__signature__`, that of its parameters
        function = function.__call__
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # of a built-in function
        return
    try:
        signature.bind([], **given)
    except TypeError as error:
        required = {p.name: p.kind for p in signature.parameters.values() if p.default is p.empty}
        if inspect.Parameter.KEYWORD_ONLY in required.values():
            raise UserError(f"{named} at {location(reward)}: {error}; set it, or give it a default") from error
        raise UserError(
            f"{named} at {location(reward)} takes ({', '.join(required)}), but a reward is called with the groups "
            "alone: put @each from rlvid.reward above a function of (completion, prompt)"
        ) from error
    # The options of a function under `@each`, which passes them on.
    scored = inspect.signature(function).parameters.values()
    missing = [p.name for p in scored if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in given]
    if missing:
        raise UserError(
            f"{named} at {location(reward)}: missing a required argument: {missing[0]!r}; set it, or give it a default"
        )
