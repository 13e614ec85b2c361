"""Records of annotation files, a JSON object on each line or one JSON array of them; what is wrong says where.

Every layout reads its files through these, and none of them reads a file that its data's folder does not hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from rlvid.answer import LETTERS
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.video.read import split_time_span

LARGEST = 2**24  # bytes of one record: a line that never ends must not fill the memory


@dataclass(frozen=True)
class AnnotationRecord:
    """One JSON object of an annotation file; its errors say where it stands."""

    where: str  # file:line
    number: int  # its line, or its place in the array, from 1
    root: Path
    fields: Mapping[str, Any]

    def error(self, field: str, what: str) -> UserError:
        return UserError(f"{self.where}: {field}: {what}")

    def get(self, field: str, kind: type = str) -> Any:
        """A field of a type; a text must not be blank."""
        if field not in self.fields:
            raise self.error(field, f"missing; the record has {', '.join(self.fields) or 'no fields'}")
        return self.check(field, self.fields[field], kind)

    def check(self, field: str, value: Any, kind: type = str) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise self.error(field, f"must be {kind.__name__}, not {json.dumps(value)[:80]}")
        if kind is str and (not str(value).strip() or "\0" in str(value)):
            raise self.error(field, "is blank or holds a zero byte")
        return value

    def name(self, field: str) -> str:
        """A field that names something: a text, or a whole number."""
        return str(self.get(field, int if type(self.fields.get(field)) is int else str))

    def media(self, field: str, *parts: str) -> str:
        """The absolute path of a file under the root, its seconds with it; one that would lead elsewhere is refused."""
        whole = str(Path(*parts))
        path, span = Path(split_time_span(whole)[0]), split_time_span(whole)[1:]
        if not span[0] < span[1]:
            raise self.error(field, f"{whole[-60:]} ends before it begins")
        if not _possible(self.root / path):
            raise self.error(field, f"{str(path)[:60]}: no file can have this path: too long, or links in a circle")
        if path.is_absolute() or ".." in path.parts or not inside(self.root, self.root / path):
            raise self.error(field, f"{path} leads out of {self.root}; media must lie in the data's own folder")
        return str(self.root / whole)


@dataclass(frozen=True)
class Source:
    """An annotation file and what makes a prompt of one of its records, or None of one that is not asked."""

    file: Path
    root: Path
    prompt: Callable[[AnnotationRecord], Prompt | None]
    key: str  # the field with the sample's id

    def prompts(self) -> list[Prompt]:
        """All of them, in the file's order; raises UserError with file, line and field."""
        found: dict[str, Prompt] = {}
        for record in records(self.file, self.root):
            prompt = self.prompt(record)
            if prompt is None:
                continue
            if prompt.id in found:
                raise repeated(record, self.key, prompt)
            found[prompt.id] = prompt
        if not found:
            raise UserError(f"{self.file}: holds no record")
        return list(found.values())


def repeated(record: AnnotationRecord, key: str, prompt: Prompt) -> UserError:
    """A second record of a sample: which of them counts, nobody knows."""
    return record.error(key, f"{prompt.id} stands on an earlier line too")


def records(file: Path, root: Path) -> Iterator[AnnotationRecord]:
    """Every record, in the file's order; raises UserError at the first that is none."""
    for found in read(file, root):
        if isinstance(found, UserError):
            raise found
        yield found


def read(file: Path, root: Path) -> Iterator[AnnotationRecord | UserError]:
    """Every record; what is none comes as the error that it is, and the next one follows.

    A `.json` file holds one array, any other file a record on each line. After an array's first fault nothing follows:
    where its next record would begin is not known.
    """
    if not inside(root, file):
        yield UserError(f"{file}: leads out of {root}; annotations must lie in the data's own folder")
        return
    try:
        for where, number, found in _array(file) if file.suffix == ".json" else _lines(file):
            if isinstance(found, UserError):
                yield found
            elif isinstance(found, dict):
                yield AnnotationRecord(where, number, root, found)
            else:
                yield UserError(f"{where}: must be one JSON object, not {str(found)[:60]}")
    except OSError as error:
        yield UserError(f"{file}: cannot be read: {error.strerror}")


def lettered(record: AnnotationRecord, field: str, text: str) -> tuple[str, tuple[str, ...]]:
    """A user's text becomes the question and the options: the lines "A. ..", "B. .." and so on."""
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith("A. ")]
    options: list[str] = []
    for line in lines[starts[-1] :] if starts else []:
        if not line.startswith(f"{LETTERS[len(options)]}. "):
            break
        options.append(record.check(field, line[3:].strip()))
    if len(options) < 2:
        raise record.error(field, f"must hold lines 'A. ..' and 'B. ..', not {text[:80]!r}")
    return "\n".join(lines[: starts[-1]]).strip(), tuple(options)


def inside(root: Path, path: Path) -> bool:
    """Whether a path stays in a data root where its links lead.

    In the hub's cache REPOSITORY/snapshots/HASH is all links to REPOSITORY/blobs, so the blobs of a root's own
    repository are inside too.
    """
    target = path.resolve()
    return any(target.is_relative_to(home) for home in _homes(root))


def _possible(path: Path) -> bool:
    """Whether there could be a file, though there may be none."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    except OSError:
        return False
    return True


@lru_cache
def _homes(root: Path) -> tuple[Path, ...]:
    root = root.resolve()
    snapshots = (p for p in root.parents if p.name == "snapshots" and "--" in p.parent.name)
    return root, *(folder.parent / "blobs" for folder in snapshots)


def _lines(file: Path) -> Iterator[tuple[str, int, Any]]:
    with file.open("rb") as lines:
        for number in count(1):
            line, where = lines.readline(LARGEST + 1), f"{file}:{number}"
            if not line:
                return
            if len(line) > LARGEST:
                while line and not line.endswith(b"\n"):
                    line = lines.readline(LARGEST)
                yield where, number, _huge(where)
            elif line.strip():
                yield where, number, _parsed(where, line)


def _huge(where: str) -> UserError:
    return UserError(f"{where}: is longer than {LARGEST:,} bytes: no record; remove it")


def _parsed(where: str, line: bytes) -> Any:
    try:
        return _whole(json.loads(line.decode()))
    except (ValueError, RecursionError) as error:
        return UserError(f"{where}: no JSON in UTF-8: {error}; mend or remove this line")


def _array(file: Path) -> Iterator[tuple[str, int, Any]]:
    data, decode, line, at = file.read_bytes(), json.JSONDecoder().raw_decode, 1, 0
    try:
        text = data.decode()
        between = re.match(r"\s*\[\s*(]?)", text)
        for number in count(1):
            if not between:
                raise ValueError("no array [{..}, {..}]; a file with a record on each line is named .jsonl")
            line, at = line + text.count("\n", at, between.end()), between.end()
            if between[1] == "]":
                return
            record, end = decode(text, at)
            where = f"{file}:{line} (record {number})"
            yield where, number, _huge(where) if end - at > LARGEST else _whole(record)
            between = re.compile(r"\s*([],])\s*").match(text, end)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError):
            line = data.count(b"\n", 0, error.start) + 1
        yield "", 0, UserError(f"{file}:{line}: no JSON in UTF-8: {error}; mend it")


def _whole(value: Any) -> Any:
    """The value, unless an escape smuggled half a character into it."""
    json.dumps(value, ensure_ascii=False).encode()
    return value
