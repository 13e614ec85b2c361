"""Find and read benchmarks by name: an embedded one, a folder in a published layout, or a TOML file.

    kitchen, kitchen_long   embedded; written to the cache on first use
    kitchen/small           embedded: the first records of each level of kitchen, for tests and first tries
    kitchen/skewed          embedded: the training data, L1 and dev have a shortcut, see `kitchen.WORLDS`
    FOLDER                  in the layout of SEED-Bench-R1 or LongVideoBench
    FILE.toml               with `layout = "multiple_choice"` and a map of fields (see `multiple_choice`), or with
                            `layout = "longvideobench"`, the folder as `path` and the number of `subtitles`

Paths in a TOML file are relative to the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from rlvid.data import kitchen, kitchen_long, longvideobench, seed_bench_r1
from rlvid.data.computed_fields import check_computed
from rlvid.data.multiple_choice import FieldMap
from rlvid.data.records import AnnotationFile
from rlvid.errors import UserError
from rlvid.protocols.base import KINDS
from rlvid.registry import suggest
from rlvid.types import Prompt

EMBEDDED: dict[str, tuple[str, Callable[[Path], None]]] = {  # name -> version, and what writes it
    "kitchen": (kitchen.VERSION, kitchen.write),
    "kitchen/small": (kitchen.VERSION, partial(kitchen.write, counts=kitchen.SMALL_COUNTS)),
    "kitchen/skewed": (kitchen.VERSION, partial(kitchen.write, variant="skewed")),
    "kitchen/balanced": (kitchen.VERSION, partial(kitchen.write, variant="balanced")),
    "kitchen_long": (kitchen_long.VERSION, kitchen_long.write),
}
TABLES = ("where", "computed", "average")  # keys of a map whose values are tables
TRAINING_SPLITS = ("train", "train_cot")
NOT_TESTED = (*TRAINING_SPLITS, "dev")


def root(name: str) -> Path:
    """Return the folder of a benchmark, or its TOML file. An embedded benchmark is written to the cache if needed."""
    if name not in EMBEDDED:
        return Path(name).expanduser()
    version, write = EMBEDDED[name]
    cache = Path(os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid")
    folder = cache / f"{name.replace('/', '-')}-{version}"
    kitchen.write_once(folder, write)
    return folder


def load_level(name: str, level: str, data_seed: int = 0) -> list[Prompt]:
    """Return the prompts of one level of a benchmark, such as "train" or "L1", in the order of the file.

    Raises:
        UserError: if there is no such benchmark or level, or if a record is malformed.
    """
    if name.endswith(".toml") or (root(name) / longvideobench.ANNOTATION_FILE).is_file():
        levels = _all_levels(name, data_seed)
        if level not in levels:
            raise _no_level(name, level, levels)
        return levels[level]
    annotation_files(name, data_seed)  # refuses a folder that is missing or of another layout
    return seed_bench_r1.load(root(name), level, data_seed)


def check_levels(data: str, splits: Sequence[str], transfer: Sequence[str]) -> None:
    """Raise UserError, before anything heavy is loaded, for a benchmark or a level that does not exist.

    Args:
        data: a benchmark.
        splits: levels that will be read from it.
        transfer: further benchmarks.
    """
    for name in (data, *transfer):
        files = annotation_files(name)
        if name == data:
            levels: Iterable[str] = _all_levels(name) if "questions" in files else seed_bench_r1.SPLITS
            for level in splits:
                if level not in levels:
                    raise _no_level(name, level, levels)


def _no_level(name: str, level: str, levels: Iterable[str]) -> UserError:
    """Return the error about a level that a benchmark does not have, with the setting that fixes it."""
    known = sorted(set(levels) - {*TRAINING_SPLITS})
    if level == "train":
        return UserError(f"{name} has no level 'train' to train on, only {', '.join(known)}; name it so in its records")
    fix = f"set eval.splits={known}" if known else "add held-out questions"
    return UserError(f"{name} has no level {level!r}; it has {', '.join(sorted(levels))}: {fix}")


def load_levels(name: str, data_seed: int = 0) -> dict[str, list[Prompt]]:
    """Return all test prompts of a benchmark by level: without the levels of `NOT_TESTED`.

    Raises UserError if there is no other level.
    """
    levels = {level: found for level, found in _all_levels(name, data_seed).items() if level not in NOT_TESTED}
    if not levels:
        raise UserError(
            f"{name}: has only questions of the levels {', '.join(NOT_TESTED)}, which no test reads: give them another "
            "level"
        )
    return levels


def _all_levels(name: str, data_seed: int = 0) -> dict[str, list[Prompt]]:
    """Return the prompts of a benchmark by level, without those of SEED-Bench-R1's splits that no test reads.

    No two questions of a level may have one id, in whichever files they are.
    """
    levels: dict[str, list[Prompt]] = {}
    seen: set[tuple[str, str]] = set()
    for split, file in annotation_files(name, data_seed).items():
        for prompt in file.prompts(seen) if split not in NOT_TESTED else ():
            levels.setdefault(prompt.level, []).append(prompt)
            seen.add((prompt.level, prompt.id))
    return levels


def averaged_tasks(*names: str) -> dict[str, dict[str, list[str]]]:
    """Return the published averages of benchmarks: "average of NAME" -> task -> its levels, whose mean counts as one.

    Raises:
        UserError: if a TOML file names a level that the benchmark does not have.
    """
    averages = {}
    for name in names:
        merged = tomllib.loads(root(name).read_text()).get("average") if name.endswith(".toml") else None
        if merged:
            levels, in_tasks = load_levels(name), [level for task in merged.values() for level in task]
            for level in in_tasks:
                if level not in levels:
                    raise UserError(f"{name}: average: {level!r} is no level.{suggest(level, levels)}")
            alone = {level: [level] for level in levels if level not in in_tasks}
            averages[f"average of {Path(name).stem}"] = {**merged, **alone}
    return averages


def annotation_files(name: str, data_seed: int = 0) -> dict[str, AnnotationFile]:
    """Return the annotation files of a benchmark that exist, by split; files without splits are "questions" and more.

    Raises:
        UserError: if there is no such benchmark, or if its layout is unknown.
    """
    if name.endswith(".toml"):
        return _from_toml(root(name))
    folder = root(name)
    if folder.is_file():
        raise UserError(
            f"{folder}: a file of questions needs a TOML map of its fields: see experiments/benchmarks/README.md, "
            "Field maps"
        )
    if not folder.is_dir():
        fetch = "To download a published benchmark: rlvid data get NAME DIR (rlvid list benchmarks)"
        raise UserError(f"{folder}: no such folder.{suggest(name, EMBEDDED)} {fetch}")
    if (folder / longvideobench.ANNOTATION_FILE).is_file():
        return {"questions": longvideobench.annotation_file(folder)}
    splits = {split: seed_bench_r1.annotation_file(folder, split, data_seed) for split in seed_bench_r1.SPLITS}
    existing = {split: file for split, file in splits.items() if file.path.is_file()}
    if not existing:
        raise UserError(
            f"{folder}: holds neither annotations/ in SEED-Bench-R1's layout nor {longvideobench.ANNOTATION_FILE}; "
            "for any other layout write a TOML file: see rlvid/data/multiple_choice.py"
        )
    return existing


def _from_toml(file: Path) -> dict[str, AnnotationFile]:
    """Return the annotation files that a TOML file describes."""
    try:
        table = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as TOML: {error}") from error
    folder, layout = file.parent.resolve(), table.pop("layout", None)
    if layout == "longvideobench":
        _check_keys(file, table, {"path": str, "subtitles": int})
        return {"questions": longvideobench.annotation_file(folder / table.get("path", "."), table.get("subtitles", 0))}
    if layout != "multiple_choice":
        raise UserError(f'{file}: layout must be "multiple_choice" or "longvideobench", not {layout!r}')
    types: dict[str, type] = {f.name: dict if f.name in TABLES else str for f in fields(FieldMap)}
    for key in ("options", "path", "choices", "columns"):
        if isinstance(table.get(key), list):
            types[key], table[key] = tuple, tuple(map(str, table[key]))
    _check_keys(file, table, types)
    if len(ways := [key for key in ("options", "choices", "option_line") if key in table]) > 1:
        raise UserError(f"{file}: {' and '.join(ways)} both say what the options are: keep one of them")
    _check_option_line(file, table.get("option_line", "(.)"))
    if missing := {"path", "question", "answer"} - table.keys():
        raise UserError(f"{file}: needs {' and '.join(sorted(missing))}; see rlvid/data/multiple_choice.py")
    if table.get("kind", "free_form") not in KINDS[1:]:
        raise UserError(f"{file}: kind must be one of {', '.join(KINDS[1:])}, not {table['kind']!r}")
    check_computed(file, table.get("computed", {}))
    return FieldMap(**table).annotation_files(folder, default_level=file.stem)


def _check_option_line(file: Path, pattern: str) -> None:
    """Raise UserError unless a pattern can be read and has one group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UserError(f"{file}: option_line is no pattern: {error}") from error
    if groups != 1:
        raise UserError(f"{file}: option_line must have one group, the option's text, not {groups}")


def _check_keys(file: Path, table: dict[str, Any], types: dict[str, type]) -> None:
    """Raise UserError if a TOML file has a key that is unknown or whose value is of the wrong type."""
    for key, value in table.items():
        if key not in types:
            raise UserError(f"{file}: unknown key {key!r}.{suggest(key, types)}")
        if type(value) is not types[key]:
            raise UserError(f"{file}: {key} must be {types[key].__name__}, not {value!r}")
