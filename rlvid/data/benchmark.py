"""Benchmarks by name: an embedded one, a folder in a published layout, or a TOML file that says where things stand.

A TOML file names its `layout`: "multiple_choice" with a map of fields, or "longvideobench" with the folder as `path`
and `subtitles`. Paths in it are relative to it.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from rlvid.data import kitchen, kitchen_long, longvideobench, seed_bench_r1
from rlvid.data.multiple_choice import Fields
from rlvid.data.records import Source
from rlvid.errors import UserError
from rlvid.registry import suggest
from rlvid.types import Prompt

EMBEDDED = {"kitchen": kitchen, "kitchen_long": kitchen_long}


def root(name: str) -> Path:
    """A benchmark's folder; an embedded one is written to the cache when first used."""
    if name not in EMBEDDED:
        return Path(name).expanduser()
    one = EMBEDDED[name]
    folder = Path(os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid") / f"{name}-{one.VERSION}"
    kitchen.ensure(folder, one.write)
    return folder


def level(name: str, wanted: str, data_seed: int = 0) -> list[Prompt]:
    """The prompts of one level, such as "train" or "L1", in the file's order."""
    if name.endswith(".toml") or (root(name) / longvideobench.FILE).is_file():
        found = levels(name, data_seed)
        if wanted not in found:
            raise UserError(f"{name} has no level {wanted!r}.{suggest(wanted, found)}")
        return found[wanted]
    return seed_bench_r1.load(root(name), wanted, data_seed)


def levels(name: str, data_seed: int = 0) -> dict[str, list[Prompt]]:
    """All questions that are asked, by level; training splits are left out."""
    found: dict[str, list[Prompt]] = {}
    for split, source in sources(name, data_seed).items():
        for prompt in source.prompts() if split not in ("train", "train_cot") else ():
            found.setdefault(prompt.level, []).append(prompt)
    return found


def sources(name: str, data_seed: int = 0) -> dict[str, Source]:
    """Every annotation file of a benchmark, by what it is read for."""
    if name.endswith(".toml"):
        return {"questions": _described(root(name))}
    folder = root(name)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder.{suggest(name, EMBEDDED)}")
    if (folder / longvideobench.FILE).is_file():
        return {"questions": longvideobench.source(folder)}
    each = {split: seed_bench_r1.source(folder, split, data_seed) for split in seed_bench_r1.SPLITS}
    if there := {split: source for split, source in each.items() if source.file.is_file()}:
        return there
    raise UserError(
        f"{folder}: holds neither annotations/ in SEED-Bench-R1's layout nor {longvideobench.FILE}; for any other "
        "layout name a TOML file: rlvid/data/multiple_choice.py says what is in it"
    )


def _described(file: Path) -> Source:
    """What a TOML file says of a benchmark."""
    try:
        table = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as TOML: {error}") from error
    home, layout = file.parent.resolve(), table.pop("layout", None)
    if layout == "longvideobench":
        _known(file, table, {"path": str, "subtitles": int})
        return longvideobench.source(home / table.get("path", "."), table.get("subtitles", 0))
    if layout != "multiple_choice":
        raise UserError(f'{file}: layout must be "multiple_choice" or "longvideobench", not {layout!r}')
    kinds: dict[str, type] = {f.name: dict if f.name == "where" else str for f in fields(Fields)}
    if isinstance(table.get("options"), list):
        kinds["options"], table["options"] = tuple, tuple(table["options"])
    _known(file, table, kinds)
    if missing := {"path", "question", "answer"} - table.keys():
        raise UserError(f"{file}: needs {' and '.join(sorted(missing))}")
    return Fields(**table).source(home, file.stem)


def _known(file: Path, table: dict[str, Any], kinds: dict[str, type]) -> None:
    """Refuse what a layout has no use for."""
    for key, value in table.items():
        if key not in kinds:
            raise UserError(f"{file}: unknown key {key!r}.{suggest(key, kinds)}")
        if type(value) is not kinds[key]:
            raise UserError(f"{file}: {key} must be {kinds[key].__name__}, not {value!r}")
