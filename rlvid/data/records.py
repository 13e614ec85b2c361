"""Annotation records: checked access to the fields of JSON objects, with errors that name file, line and field.

Every layout reads its files through this module. No file outside the data set's folder is read, and no path of a record
may lead out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS
from rlvid.data.json_files import read_json_file
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.read import split_time_span


@dataclass(frozen=True)
class AnnotationRecord:
    """One JSON object of an annotation file. Its methods raise UserError with file, line and field."""

    where: str  # "FILE:LINE"
    number: int  # from 1: its line, or its index in the array
    root: Path  # the folder of the data set
    fields: Mapping[str, Any]

    def error(self, field: str, problem: str) -> UserError:
        """Return an error about a field, to be raised."""
        return UserError(f"{self.where}: {field}: {problem}")

    def get(self, field: str, kind: type = str) -> Any:
        """Return the value of a field, which must be there and be of a type. A text must not be blank."""
        if field not in self.fields:
            raise self.error(field, f"missing; the record has {', '.join(self.fields) or 'no fields'}")
        return self.validate(field, self.fields[field], kind)

    def validate(self, field: str, value: Any, kind: type = str) -> Any:
        """Return a value from a field, which must be of a type. A text must not be blank; an int is a float too."""
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise self.error(field, f"must be {kind.__name__}, not {json.dumps(value)[:80]}")
        if kind is str and (not str(value).strip() or "\0" in str(value)):
            raise self.error(field, "is blank or holds a zero byte")
        return value

    def get_text(self, field: str) -> str:
        """Return a field that holds a text or an integer, as text."""
        return str(self.get(field, int if type(self.fields.get(field)) is int else str))

    def get_texts(self, field: str) -> tuple[str, ...]:
        """Return a field that holds a list of texts."""
        return tuple(self.validate(field, text) for text in self.get(field, list))

    def present(self, fields: Iterable[str]) -> dict[str, Any]:
        """Return those of some fields that the record has, with their values unchecked."""
        return {field: self.fields[field] for field in fields if field in self.fields}

    def media_path(self, field: str, *parts: str) -> str:
        """Return the absolute path of a file under the root. The file need not exist.

        Args:
            field: the field that is named in errors.
            parts: parts of the path, relative to the root. The last one may end in `#t=START,END`, in seconds; this
                ending is kept.
        """
        relative = Path(*parts)
        path_text, start, end = split_time_span(str(relative))
        path = relative if path_text == str(relative) else Path(path_text)
        if not start < end:
            raise self.error(field, f"{str(relative)[-60:]}: its end is not after its start")
        file = self.root / path
        if not _can_exist(file):
            raise self.error(field, f"{path_text[:60]}: no file can have this path: too long, or links in a circle")
        if path.is_absolute() or ".." in path.parts or not is_inside(self.root, file):
            raise self.error(field, f"{path} leads out of {self.root}; move the file into that folder")
        return str(file if path is relative else self.root / relative)


@dataclass(frozen=True)
class AnnotationFile:
    """A file of records and the function that converts a record to a prompt, or to None to leave it out."""

    path: Path
    root: Path  # the folder of the data set
    to_prompt: Callable[[AnnotationRecord], Prompt | None]
    id_field: str  # for errors about duplicate samples

    def prompts(self, earlier: Collection[tuple[str, str]] = ()) -> list[Prompt]:
        """Return all prompts, in the order of the file.

        Args:
            earlier: (level, id) of the prompts of other files, which no prompt may have.

        Raises:
            UserError: if a record is malformed or has the id of an earlier one, or if there is no prompt.
        """
        prompts: dict[str, Prompt] = {}
        for record in read_records(self.path, self.root):
            prompt = self.to_prompt(record)
            if prompt is None:
                continue
            if prompt.id in prompts or (prompt.level, prompt.id) in earlier:
                raise duplicate_error(record, self.id_field, prompt.id)
            prompts[prompt.id] = prompt
        if not prompts:
            raise UserError(f"{self.path}: holds no record")
        return list(prompts.values())


def duplicate_error(record: AnnotationRecord, field: str, sample_id: str) -> UserError:
    """Return the error about a record whose sample id an earlier record has."""
    fix = "map a field as `id`, or rename a file" if field == "line" else "remove one of them"
    return record.error(field, f"{sample_id} is the id of an earlier record too; {fix}")


def read_records(file: Path, root: Path) -> Iterator[AnnotationRecord]:
    """Yield the records of a file, in order. Raises UserError at the first item that is not a record."""
    for item in read_records_or_errors(file, root):
        if isinstance(item, UserError):
            raise item
        yield item


class UnreadableFile(UserError):
    """A whole annotation file that cannot be read."""


def read_records_or_errors(file: Path, root: Path) -> Iterator[AnnotationRecord | UserError]:
    """Yield the records of a file, in order. Whatever is not a record is yielded as a UserError.

    For the format of the file see `read_json_file`. A file outside `root`, the data set's folder, is not read.
    """
    _is_folder_inside.cache_clear()  # links may have changed since another file was read
    if not is_inside(root, file):
        yield UnreadableFile(f"{file}: leads out of {root}; move the annotation file into that folder")
        return
    try:
        for where, number, value in read_json_file(file):
            yield value if isinstance(value, UserError) else AnnotationRecord(where, number, root, value)
    except OSError as error:
        yield UnreadableFile(f"{file}: cannot be read: {error.strerror}")


def split_lettered_options(record: AnnotationRecord, field: str, text: str) -> tuple[str, tuple[str, ...]]:
    """Split a text that ends in lines "A. ..", "B. .." and so on; return the text before them, and the options.

    Lines between two options belong to the first of them. Lines after the last option are dropped. Raises UserError
    about `field` if there are fewer than two options.
    """
    lines = text.split("\n")
    starts = [index for index, line in enumerate(lines) if line.startswith("A. ")]
    options: list[str] = []
    between: list[str] = []  # the lines since the last option
    for line in lines[starts[-1] :] if starts else []:
        if len(options) < len(LETTERS) and line.startswith(f"{LETTERS[len(options)]}. "):
            if options:
                options[-1] = " ".join([options[-1], *filter(None, between)])
            options.append(record.validate(field, line[3:].strip()))
            between = []
        else:
            between.append(line.strip())
    if len(options) < 2:
        raise record.error(field, f"must hold lines 'A. ..' and 'B. ..', not {text[:80]!r}")
    return "\n".join(lines[: starts[-1]]).strip(), tuple(options)


def split_option_lines(record: AnnotationRecord, field: str, text: str, pattern: str) -> tuple[str, tuple[str, ...]]:
    """Split a text whose last lines match a pattern; return the text before them, and the pattern's group of each.

    Raises UserError about `field` if there are fewer than two such lines, or if two are the same.
    """
    lines = text.strip().split("\n")
    options: list[str] = []
    while lines and (match := re.fullmatch(pattern, lines[-1].strip())):
        options.insert(0, record.validate(field, match[1].strip()))
        lines.pop()
    if len(options) < 2 or len({*options}) < len(options):
        raise record.error(field, f"must end in two or more different lines like {pattern!r}, not {text[-80:]!r}")
    return "\n".join(lines).strip(), tuple(options)


def is_inside(root: Path, path: Path) -> bool:
    """Return whether a path, after all links are resolved, is inside a data set's folder.

    In the cache of the Hugging Face hub, REPOSITORY/snapshots/HASH holds links to REPOSITORY/blobs. So if the root is
    such a snapshot, the blobs of the same repository count as inside.
    """
    if path.name in ("", "..") or path == root or path.is_symlink():
        return _is_folder_inside(root, path.resolve())
    return _is_folder_inside(root, path.parent)


@lru_cache(maxsize=4096)
def _is_folder_inside(root: Path, folder: Path) -> bool:
    """Return `is_inside` of a folder, once for all of its files; `read_records_or_errors` forgets what it returned."""
    target = folder.resolve()
    return any(target.is_relative_to(allowed) for allowed in _allowed_folders(root))


@lru_cache
def _allowed_folders(root: Path) -> tuple[Path, ...]:
    """Return the resolved root, and the blobs of its repository if it is in the hub's cache."""
    root = root.resolve()
    snapshots = [parent for parent in root.parents if parent.name == "snapshots" and "--" in parent.parent.name]
    return root, *(folder.parent / "blobs" for folder in snapshots)


def _can_exist(path: Path) -> bool:
    """Return whether the system accepts a path, even if there is no such file."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    except OSError:
        return False
    return True
