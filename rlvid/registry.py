"""Find rewards, algorithms, kinds of noise and presets by name, and give them their fields.

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
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from rlvid.errors import UserError
from rlvid.utils.fields import (
    Field,
    check_dataclass,
    check_needs,
    check_reward,
    checked_fields,
    fields_of,
    in_toml,
    location,
    parameters,
    parsed_fields,
)
from rlvid.utils.plugin_source import module_file, read_plugin
from rlvid.utils.renamed import renamed_hint
from rlvid.utils.text import suggest

__all__ = ["NANO_CHECKPOINT", "available", "build", "module_file", "parameters", "resolve", "suggest"]

NANO = Path(__file__).parent / "nano"  # the folder of the embedded models, which rlvid/nano/model.py pretrains
NANO_CHECKPOINT = NANO / "base"  # the folder of the model "nano"
MODEL_SETTINGS = "rlvid.toml"  # in a model's folder: the config that `rlvid eval` measures it with


def available(kind: str) -> list[str]:
    """Return the names of the plug-ins in the folder `kind`, which is "rewards" or "algorithms"."""
    files = (file for folder in _own_package(kind).__path__ for file in Path(folder).iterdir())
    return sorted(file.stem for file in files if file.suffix == ".py" and not file.name.startswith("_"))


def _is_own(kind: str, ref: str) -> bool:
    """Return whether `available` has this name, without reading the folder."""
    if not ref.isidentifier() or ref.startswith("_"):
        return False
    return any((Path(folder) / f"{ref}.py").is_file() for folder in _own_package(kind).__path__)


def _own_package(kind: str) -> ModuleType:
    """Return the package `kind` that lies beside rlvid, also where a user's `rewards.py` comes first on Python's path.

    Raises UserError if a module of that name from elsewhere has been imported before.
    """
    if kind not in sys.modules:
        folder = Path(__file__).parents[1] / kind
        spec = importlib.util.spec_from_file_location(
            kind, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec and spec.loader
        module = sys.modules[kind] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    package = sys.modules[kind]
    if not hasattr(package, "__path__"):
        raise UserError(f"{package.__file__} was imported as {kind!r}, which is a folder of rlvid: rename that file")
    return package


def check_name(kind: str, ref: str) -> None:
    """Raise UserError if no plug-in of a kind has this name. Files and modules are not looked at: see `resolve`."""
    if ":" in ref or ref.endswith(".py") or _is_own(kind, ref):
        return
    one = kind[:-1]  # for messages: "reward" or "algorithm"
    hint = renamed_hint(one, ref) or f".{suggest(ref, available(kind))}"
    if Path(f"{ref}.py").is_file():
        hint = f": for the file here write ./{ref}.py"
    raise UserError(f"no {one} {ref!r}{hint}")


def resolve(kind: str, ref: str, copy: str = "") -> Callable[..., Any]:
    """Return the class or function that `ref` names; UserError if there is none.

    Args:
        kind: "rewards", "algorithms" or "noise".
        ref: a name, `package.module:thing`, or `./file.py:thing`.
        copy: a file to read instead of that of `ref`.
    """
    if kind == "noise":
        return importlib.import_module("rlvid.noise.apply").noise_class(ref)
    one = kind[:-1]  # for messages: "reward" or "algorithm"
    where, _, name = ref.partition(":")
    if where.endswith(".py") or copy:
        return _find_callable(_load_file(one, copy or where), name or Path(where).stem, ref)
    if name:
        here = f"; for the file here write ./{where}.py:{name}" if Path(f"{where}.py").is_file() else ""
        if here and where == kind:
            raise UserError(f"{one} {ref!r}: {where} is a folder of rlvid{here}")
        try:
            module = _import_current(where)
        except ModuleNotFoundError as error:
            raise UserError(f"{one} {ref!r}: {missing_module(error)}{here}") from error
        return _find_callable(module, name, ref)
    check_name(kind, where)
    return _find_callable(importlib.import_module(f"{kind}.{where}"), where, ref)


def build(kind: str, ref: str, **fields: Any) -> Any:
    """Build a plug-in with its fields: an instance of a class, or a function with fixed keyword arguments.

    Raises:
        UserError: for an unknown name, an unknown field, a value of the wrong type, or one that the plug-in refuses
            with a ValueError or TypeError.
    """
    return build_plugin(kind, ref, fields)


def build_plugin(kind: str, ref: str, fields: Mapping[str, Any], copy: str = "") -> Any:
    """Build a plug-in with its fields, as `build` does; `copy` is a file to read instead of that of `ref`."""
    plugin = resolve(kind, ref, copy)
    named = f"{kind[:-1]} {ref!r}"
    check_dataclass(named, plugin, fields)
    values = checked_fields(named, fields_of(plugin), fields)
    try:
        built = plugin(**values) if inspect.isclass(plugin) else partial(plugin, **values) if values else plugin
    except (TypeError, ValueError) as error:
        raise UserError(f"{named}: {error}") from error
    if kind == "rewards":
        check_reward(named, built)
        return built
    check_needs(named, built)
    if not all(hasattr(built, method) for method in ("credit", "weights", "loss")):
        raise UserError(
            f"{named} at {location(built)} is no algorithm: derive its class from rlvid.algorithm.Algorithm"
        )
    return built


def complete_fields(kind: str, ref: str, fields: Mapping[str, Any], copy: str = "") -> dict[str, Any]:
    """Return every field of a plug-in, set or default, except for defaults that TOML cannot hold. None is "".

    One of rlvid's own is not imported for that. Raises UserError for an unknown name, an unknown field or a value of
    the wrong type.
    """
    named = f"noise {ref!r}" if kind == "noise" else f"{kind[:-1]} {ref!r}"
    known = _known_fields(kind, ref, copy)
    complete = {name: field.default for name, field in known.items()} | checked_fields(named, known, fields)
    return {name: "" if value is None else value for name, value in complete.items() if in_toml(value)}


def _known_fields(kind: str, ref: str, copy: str) -> dict[str, Field]:
    """Return the fields of a plug-in: of one of rlvid's own from its source, if the defaults there are literals."""
    if kind in ("rewards", "algorithms") and _is_own(kind, ref) and (known := parsed_fields(read_plugin(kind, ref))):
        return known
    known = fields_of(resolve(kind, ref, copy))
    return {name: field for name, field in known.items() if (kind, name) != ("noise", "seed")}


def own_fields(kind: str, ref: str, copy: str = "") -> frozenset[str]:
    """Return the fields that a plug-in declares itself, without those that its class inherits."""
    if kind in ("rewards", "algorithms") and _is_own(kind, ref):
        return frozenset(name for name, field in read_plugin(kind, ref).fields.items() if field.own)
    plugin = resolve(kind, ref, copy)
    return frozenset(inspect.get_annotations(plugin) if inspect.isclass(plugin) else parameters(plugin))


def plugin_file(ref: str) -> Path | None:
    """Return the file of a plug-in from outside: of `./file.py:thing`, or of `package.module:thing`.

    None for a plug-in of rlvid's own, and for a module that has no Python file.
    """
    where, _, name = ref.partition(":")
    if where.endswith(".py"):
        return Path(where)
    if not name:
        return None
    return _module_source(where)


def _module_source(where: str) -> Path | None:
    """Return the Python file of a module from outside; None for one of rlvid's own, and for one without such a file."""
    if where.partition(".")[0] in ("rlvid", "rewards", "algorithms"):
        return None
    try:
        spec = importlib.util.find_spec(where)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def preset_path(name: str | Path) -> Path:
    """Return the TOML file of a preset, by path or by name in `experiments/presets/`; UserError if there is none."""
    path = Path(name)
    if path.is_file():
        return path
    folder = Path(__file__).parents[1] / "experiments" / "presets"
    shipped = {preset.stem: preset for preset in folder.glob("*.toml")}
    is_bare_name = path.suffix in ("", ".toml") and path.parent == Path()
    if is_bare_name and path.stem in shipped:
        return shipped[path.stem]
    raise UserError(f"no preset {str(name)!r}: neither a file nor in {folder}.{suggest(path.stem, shipped)}")


def embedded_models() -> dict[str, Path]:
    """Return the models that come with rlvid and their folders: "nano", and "nano/NAME" for families and conditions."""
    folders = sorted(path.parent for path in NANO.glob("*/config.json"))
    return {"nano" if folder == NANO_CHECKPOINT else f"nano/{folder.name}": folder for folder in folders}


def model_path(name: str) -> str:
    """Return the folder of an embedded model; the name of any other model, a folder or a hub id, is returned as it is.

    Raises:
        UserError: for a name such as "nano/louse" that neither an embedded model nor a folder has.
    """
    models = embedded_models()
    if name in models or not name.startswith("nano/") or Path(name).is_dir():
        return str(models.get(name, name))
    make = "to pretrain one, python -m rlvid.nano.model OUT --condition NAME"
    raise UserError(f"no embedded model {name!r}.{suggest(name, models)} `rlvid list conditions` has them; {make}")


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
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    raise UserError(f"{ref!r}: {module.__file__} defines nothing callable named {name!r}.{suggest(name, own)}")


_IMPORTED: dict[str, bytes] = {}  # module of a plug-in from outside -> its source when it was run


def _import_current(where: str) -> ModuleType:
    """Import a plug-in's module; if its file has changed since it was resolved before, run the file again."""
    module = importlib.import_module(where)
    if file := _module_source(where):
        source = file.read_bytes()
        if _IMPORTED.setdefault(where, source) != source:
            exec(compile(source, str(file), "exec"), vars(module))
            _IMPORTED[where] = source
    return module


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
