"""Names become objects: `grpo` (a folder's file), `package.module:thing`, `./file.py:thing`.

The folder is the registry: every public module in `rewards/` or `algorithms/` is a plug-in, and `dr_grpo` finds
`algorithms/dr_grpo.py:DrGRPO`. A plug-in named by a file path is code that will run: use only files you trust.
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

LISTED = 50  # more names than this are counted, not listed, where one is wrong


def available(kind: str) -> list[str]:
    """Names of the plug-ins in a folder, `kind` being "rewards" or "algorithms"."""
    package = importlib.import_module(kind)
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def suggest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'? Known: ...`, for the end of an error message."""
    known = sorted(known)
    near = get_close_matches(word, known, n=1)
    listed = f" Known: {', '.join(known) or 'none'}." if len(known) <= LISTED else f" {len(known)} are known."
    return (f" Did you mean {near[0]!r}?" if near else "") + listed


def resolve(kind: str, ref: str) -> Callable[..., Any]:
    """The class or function that `ref` names; raises UserError if there is none."""
    where, _, name = ref.partition(":")
    if where.endswith(".py"):
        return _attribute(_load_file(kind, where), name or Path(where).stem, ref)
    if name:
        try:
            return _attribute(importlib.import_module(where), name, ref)
        except ModuleNotFoundError as error:
            raise UserError(f"{kind[:-1]} {ref!r}: no module {error.name!r}. Is it on PYTHONPATH?") from error
    if where not in available(kind):
        raise UserError(f"no {kind[:-1]} {where!r}.{suggest(where, available(kind))}")
    return _attribute(importlib.import_module(f"{kind}.{where}"), where, ref)


def build(kind: str, ref: str, **fields: Any) -> Any:
    """Construct a class, or fix a function's parameters; unknown fields are refused with a suggestion."""
    thing = resolve(kind, ref)
    known = parameters(thing)
    for key in fields:
        if key not in known:
            raise UserError(f"{kind[:-1]} {ref!r} has no field {key!r}.{suggest(key, known)}")
    try:
        return thing(**fields) if inspect.isclass(thing) else partial(thing, **fields) if fields else thing
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind[:-1]} {ref!r}: {error}") from error


def parameters(thing: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The fields a plug-in takes: a dataclass's fields, or a function's parameters after the data."""
    given = inspect.signature(thing).parameters.values()
    return {p.name: p for p in given if inspect.isclass(thing) or p.kind is p.KEYWORD_ONLY}


def plugin_file(ref: str) -> Path | None:
    """The file behind a reference to a file path, else None."""
    where = ref.partition(":")[0]
    return Path(where) if where.endswith(".py") else None


def preset_path(name: str | Path) -> Path:
    """A TOML file by path, or by name in `experiments/presets/`."""
    path = Path(name)
    if path.is_file():
        return path
    spec = importlib.util.find_spec("experiments")
    folder = (
        Path(next(iter(spec.submodule_search_locations or ()))) / "presets" if spec else Path("experiments/presets")
    )
    shipped = {p.stem: p for p in folder.glob("*.toml")}
    if path.suffix in ("", ".toml") and path.stem in shipped and path.parent == Path():
        return shipped[path.stem]
    raise UserError(f"no preset {str(name)!r}: neither a file nor in {folder}.{suggest(path.stem, shipped)}")


def _attribute(module: ModuleType, name: str, ref: str) -> Callable[..., Any]:
    """`dr_grpo` finds `DrGRPO`: case and underscores do not count."""
    flat = name.replace("_", "").lower()
    for key, value in vars(module).items():
        if key.replace("_", "").lower() == flat and callable(value):
            return value
    if callable(made := getattr(module, name, None)):  # by the module's own `__getattr__`
        return made
    raise UserError(f"{ref!r}: {module.__file__} defines nothing callable named {name!r}")


def _load_file(kind: str, where: str) -> ModuleType:
    path = Path(where).resolve()
    if not path.is_file():
        raise UserError(f"{kind[:-1]} {where!r}: no such file. Paths are relative to {Path.cwd()}")
    spec = importlib.util.spec_from_file_location(f"rlvid_plugin_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
