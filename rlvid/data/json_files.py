"""Read files of JSON objects, one object per line or one array of objects, with the line number of every error.

A damaged line does not end the reading of a file. No record may be larger than `MAX_RECORD_BYTES`, so that a file
without line breaks does not fill the memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from rlvid.errors import UserError

MAX_RECORD_BYTES = 2**24

_ARRAY_START = re.compile(r"\s*\[\s*(]?)")  # "[" and, in an empty array, "]"
_SEPARATOR = re.compile(r"\s*([],])\s*")  # "," or "]"


class JsonItem(NamedTuple):
    """One object of a file, or an error in its place."""

    where: str  # "FILE:LINE", or "FILE:LINE (record N)" in an array; "" after damage to an array
    number: int  # from 1: the line, or the index in the array
    value: dict[str, Any] | UserError


def read_json_file(file: Path) -> Iterator[JsonItem]:
    """Yield the objects of a file, in order. Whatever is not an object is yielded as a UserError.

    A `.json` file holds one array; any other file holds one object per line, and blank lines are skipped. After damage
    to an array nothing follows, because the start of its next record is unknown.

    Raises:
        OSError: if the file cannot be read.
    """
    for where, number, value in _read_array(file) if file.suffix == ".json" else _read_lines(file):
        if not isinstance(value, dict | UserError):
            value = UserError(f"{where}: must be one JSON object, not {str(value)[:60]}")
        yield JsonItem(where, number, value)


def _read_lines(file: Path) -> Iterator[tuple[str, int, Any]]:
    with file.open("rb") as stream:
        for number in count(1):
            line, where = stream.readline(MAX_RECORD_BYTES + 1), f"{file}:{number}"
            if not line:
                return
            if len(line) > MAX_RECORD_BYTES:
                while line and not line.endswith(b"\n"):  # skip the rest of the line, piece by piece
                    line = stream.readline(MAX_RECORD_BYTES)
                yield where, number, _too_large(where)
            elif line.strip():
                yield where, number, _parse_line(where, line)


def _parse_line(where: str, line: bytes) -> Any:
    try:
        return _reject_surrogates(json.loads(line.decode()))
    except (ValueError, RecursionError) as error:
        return UserError(f"{where}: not JSON in UTF-8: {error}; fix or remove this line")


def _read_array(file: Path) -> Iterator[tuple[str, int, Any]]:
    """Yield the elements of an array, one after another.

        [ {"a": 1} , {"a": 2} ]
        ^          ^          ^    matched by `_ARRAY_START` and `_SEPARATOR`
          ^          ^             `position`: where the next element begins

    `line` is the line of the position, from 1.
    """
    data, decode = file.read_bytes(), json.JSONDecoder().raw_decode
    line, position = 1, 0
    try:
        text = data.decode()
        match = _ARRAY_START.match(text)
        for number in count(1):
            if not match:
                raise ValueError("no array such as [{..}, {..}]; a file with one object per line must end in .jsonl")
            line, position = line + text.count("\n", position, match.end()), match.end()
            if match[1] == "]":
                return
            value, end = decode(text, position)
            where = f"{file}:{line} (record {number})"
            too_large = end - position > MAX_RECORD_BYTES
            yield where, number, _too_large(where) if too_large else _reject_surrogates(value)
            match = _SEPARATOR.match(text, end)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError):
            line = data.count(b"\n", 0, error.start) + 1
        yield "", 0, UserError(f"{file}:{line}: not JSON in UTF-8: {error}; fix the file")


def _too_large(where: str) -> UserError:
    return UserError(f"{where}: is longer than {MAX_RECORD_BYTES:,} bytes, so it cannot be a record; remove it")


def _reject_surrogates(value: Any) -> Any:
    r"""Return a value. Raises ValueError if a text in it holds half a character (an escape such as \ud800)."""
    json.dumps(value, ensure_ascii=False).encode()
    return value
