"""Find rewards, algorithms and presets by name.

A plug-in is named in one of three ways:

- `dr_grpo`: a module of the folder `rewards/` or `algorithms/`. Every public module there is a plug-in, and the folder
  is the only registration: `dr_grpo` is the class `DrGRPO` of `algorithms/dr_grpo.py`.
- `package.module:thing`: anything that Python can import.
- `./file.py:thing` or `./file.py`: a file. It is code that runs with your rights: use only files you trust.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from rlvid.errors import UserError
from rlvid.utils.renamed import renamed_hint

NANO_CHECKPOINT = Path(__file__).parent / "nano" / "base"  # the folder of the model "nano", made by rlvid/nano/model.py
MAX_LISTED = 50  # an error message lists the known names only up to this many


def available(kind: str) -> list[str]:
    """Return the names of the plug-ins in the folder `kind`, which is "rewards" or "algorithms"."""
    package = importlib.import_module(kind)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name.

    >>> suggest("grop", ["grpo", "sft"])
    " Did you mean 'grpo'? Known: grpo, sft."
    """
    known = sorted(known)
    nearest = get_close_matches(word, known, n=1)
    question = f" Did you mean {nearest[0]!r}?" if nearest else ""
    if len(known) > MAX_LISTED:
        return f"{question} {len(known)} are known."
    return f"{question} Known: {', '.join(known) or 'none'}."


def resolve(kind: str, ref: str) -> Callable[..., Any]:
    """Return the class or function that `ref` names; UserError if there is none.

    Args:
        kind: "rewards" or "algorithms".
        ref: a name, `package.module:thing`, or `./file.py:thing`.
    """
    one = kind[:-1]  # for messages: "reward" or "algorithm"
    where, _, name = ref.partition(":")
    if where.endswith(".py"):
        return _find_callable(_load_file(one, where), name or Path(where).stem, ref)
    if name:
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise UserError(f"{one} {ref!r}: {missing_module(error)}") from error
        return _find_callable(module, name, ref)
    if where not in available(kind):
        hint = renamed_hint(one, where) or f".{suggest(where, available(kind))}"
        raise UserError(f"no {one} {where!r}{hint}")
    return _find_callable(importlib.import_module(f"{kind}.{where}"), where, ref)


def build(kind: str, ref: str, **fields: Any) -> Any:
    """Build a plug-in with its fields: an instance of a class, or a function with fixed keyword arguments.

    Raises:
        UserError: for an unknown name, an unknown field, or a value that the plug-in refuses with a ValueError or
            TypeError.
    """
    one = kind[:-1]
    plugin = resolve(kind, ref)
    known = parameters(plugin)
    for key in fields:
        if key not in known:
            hint = renamed_hint("field", key) or f".{suggest(key, known)}"
            raise UserError(f"{one} {ref!r} has no field {key!r}{hint}")
    try:
        if inspect.isclass(plugin):
            return plugin(**fields)
        return partial(plugin, **fields) if fields else plugin
    except (TypeError, ValueError) as error:
        raise UserError(f"{one} {ref!r}: {error}") from error


def parameters(plugin: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the fields of a plug-in: those of a dataclass, or the keyword-only parameters of a function."""
    signature = inspect.signature(plugin).parameters.values()
    return {p.name: p for p in signature if inspect.isclass(plugin) or p.kind is p.KEYWORD_ONLY}


def plugin_file(ref: str) -> Path | None:
    """Return the file of a reference such as `./file.py:thing`, or None for the other kinds of reference."""
    where = ref.partition(":")[0]
    return Path(where) if where.endswith(".py") else None


def preset_path(name: str | Path) -> Path:
    """Return the TOML file of a preset, by path or by name in `experiments/presets/`; UserError if there is none."""
    path = Path(name)
    if path.is_file():
        return path
    spec = importlib.util.find_spec("experiments")
    experiments = next(iter(spec.submodule_search_locations or ()), "") if spec else "experiments"
    folder = Path(experiments) / "presets"
    shipped = {preset.stem: preset for preset in folder.glob("*.toml")}
    is_bare_name = path.suffix in ("", ".toml") and path.parent == Path()
    if is_bare_name and path.stem in shipped:
        return shipped[path.stem]
    raise UserError(f"no preset {str(name)!r}: neither a file nor in {folder}.{suggest(path.stem, shipped)}")


def model_path(name: str) -> str:
    """Return the folder of the model "nano"; any other name of a model, a folder or a hub id, is returned unchanged."""
    return str(NANO_CHECKPOINT) if name == "nano" else name


def module_file(module: str) -> Path:
    """Return the source file of a module without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    return Path(spec.origin)


def missing_module(error: ModuleNotFoundError) -> str:
    """Return the end of an error message about a module that cannot be imported."""
    hint = renamed_hint("module", error.name or "") or ". Is it on PYTHONPATH?"
    return f"no module {error.name!r}{hint}"


def _find_callable(module: ModuleType, name: str, ref: str) -> Callable[..., Any]:
    """Return the callable `name` of a module. Case and underscores do not count: `dr_grpo` is `DrGRPO`."""
    flat = name.replace("_", "").lower()
    for key, value in vars(module).items():
        if key.replace("_", "").lower() == flat and callable(value):
            return value
    dynamic = getattr(module, name, None)  # from the module's `__getattr__`, if it has one
    if callable(dynamic):
        return dynamic
    raise UserError(f"{ref!r}: {module.__file__} defines nothing callable named {name!r}")


def _load_file(one: str, where: str) -> ModuleType:
    """Run a plug-in's file and return it as a module. `one` is "reward" or "algorithm", for messages."""
    path = Path(where).resolve()
    if not path.is_file():
        raise UserError(f"{one} {where!r}: no such file. Paths are relative to {Path.cwd()}")
    spec = importlib.util.spec_from_file_location(f"rlvid_plugin_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{one} {where!r}: {missing_module(error)}") from error
    return module
