"""Files that a kill cannot tear: whole replacement, and lines that count only when they end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rlvid.errors import UserError

SUMS = "SHA256SUMS"


def write_text(path: Path, text: str) -> None:
    """Replace a file whole or not at all; its folder is made."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(path)


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Add one JSON line."""
    with explain_write_errors(path), path.open("a") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def explain_read_errors(folder: Path) -> Iterator[None]:
    """What is wrong inside a checkpoint, though it is what its sums say, becomes one line."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder} cannot be read: {reason}; remove it to go on from the one before") from error


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """What goes wrong on a disk that is full, read-only or not ours becomes one line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be written: {error}. Mend that, and go on with --resume") from error


def write_checksums(folder: Path) -> None:
    """Write down the SHA-256 of each of a folder's files, as `sha256sum` would: `sha256sum -c SHA256SUMS`."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    write_text(folder / SUMS, "".join(f"{sha256(path)}  {path.name}\n" for path in files))


def find_damage(folder: Path) -> str:
    """What is wrong with a sealed folder, "" if nothing is."""
    if not (folder / SUMS).is_file():
        return f"{SUMS} is missing"
    rows = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
    bad = [name for digest, name in rows if not (folder / name).is_file() or sha256(folder / name) != digest]
    return f"{' and '.join(bad)} changed since the checkpoint was written" if bad else ""


def sha256(path: Path) -> str:
    """A file's digest in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file with one JSON line per row."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path, about: int = 0, always: bytes = b"") -> list[dict[str, Any]]:
    """The rows of a file, none if it is missing; a last line that a kill cut short is left out.

    Of a file of many more than `about` rows so many are read, evenly spread; besides them the last, and those with
    `always` in them. Raises UserError with file and line for a line that is no JSON in UTF-8.
    """
    if not path.is_file():
        return []
    rows, lines = [], path.read_bytes().split(b"\n")[:-1]
    every = max(1, len(lines) // about) if about else 1
    for number, line in enumerate(lines, 1):
        if every > 1 and number % every and number < len(lines) and not (always and always in line):
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}:{number}: no JSON in UTF-8: {error}; mend or remove this line") from error
    return rows


def last_jsonl(path: Path, block: int = 1 << 16) -> dict[str, Any]:
    """The last whole row of a file, {} if there is none; only its end is read, `block` bytes or twice that, and so on.

    Raises UserError where that line is no JSON in UTF-8.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - block))
        *lines, _ = file.read(block).split(b"\n")
    if len(lines) < 2 and block < size:  # the first may lack its beginning
        return last_jsonl(path, 2 * block)
    try:
        return json.loads(lines[-1]) if lines else {}
    except ValueError as error:
        raise UserError(f"{path}: its last line is no JSON in UTF-8: {error}; mend or remove it") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if the file is missing."""
    return json.loads(path.read_text()) if path.is_file() else None
