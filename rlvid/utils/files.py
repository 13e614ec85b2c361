"""Read and write text, JSON and JSON lines so that a killed process leaves no damaged file behind.

Files are replaced in one step. In a JSON-lines file, a line counts only if it ends with a line break.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rlvid.errors import UserError

CHECKSUM_FILE = "SHA256SUMS"


@contextmanager
def wrap_read_errors(folder: Path) -> Iterator[None]:
    """Turn an error while reading a checkpoint into a one-line UserError.

    It is for a checkpoint whose checksums are right and whose content still cannot be loaded.
    """
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder} cannot be read: {reason}; remove it to continue from the one before") from error


@contextmanager
def wrap_write_errors(path: Path) -> Iterator[None]:
    """Turn an error while writing, such as a full or read-only disk, into a one-line UserError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be written: {error}. Fix that and run the command again; a run continues with --resume"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step; missing parent folders are created. Raises UserError if it cannot be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with wrap_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None if there is no such file. Raises UserError if it is not JSON."""
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise UserError(f"{path}: not JSON in UTF-8: {error}; fix or remove it") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table in a TOML file. Raises UserError if it cannot be read or is not TOML in UTF-8."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as TOML: {error}; fix or restore it") from error


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Add one JSON line to a file. Raises UserError if it cannot be written."""
    with wrap_write_errors(path), path.open("a") as file:
        file.write(_json_line(row))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file with one JSON line per row. Raises UserError if it cannot be written."""
    write_text(path, "".join(_json_line(row) for row in rows))


def read_jsonl(path: Path, thin_to: int = 0, always_keep: bytes = b"") -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file, or [] if there is no such file.

    A last line without a line break is left out: a killed process did not finish it.

    Args:
        path: the file.
        thin_to: for a much longer file, read about this many evenly spaced rows (fewer than twice as many), and always
            the last one; 0 reads every row.
        always_keep: when thinning, also read every row that contains these bytes.

    Raises:
        UserError: a line is not JSON in UTF-8; the message names file and line.
    """
    if not path.is_file():
        return []
    rows, lines = [], path.read_bytes().split(b"\n")[:-1]
    stride = max(1, len(lines) // thin_to) if thin_to else 1
    for number, line in enumerate(lines, 1):
        on_stride = number % stride == 0
        is_last = number == len(lines)
        is_kept = bool(always_keep) and always_keep in line
        if not (on_stride or is_last or is_kept):
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}:{number}: not JSON in UTF-8: {error}; fix or remove this line") from error
    return rows


def read_last_jsonl(path: Path, block: int = 1 << 16) -> dict[str, Any]:
    """Return the last complete row of a JSON-lines file, or {} if there is none.

    Only the end of the file is read: `block` bytes, and twice as many again as long as they hold no complete line.
    Raises UserError if that line is not JSON in UTF-8.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - block))
        *lines, _ = file.read(block).split(b"\n")  # after the last line break: nothing, or an unfinished line
    if len(lines) < 2 and block < size:  # the block may start in the middle of its first line
        return read_last_jsonl(path, 2 * block)
    try:
        return json.loads(lines[-1]) if lines else {}
    except ValueError as error:
        raise UserError(f"{path}: its last line is not JSON in UTF-8: {error}; fix or remove it") from error


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder to its SHA256SUMS; `sha256sum -c SHA256SUMS` checks them."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUM_FILE)
    write_text(folder / CHECKSUM_FILE, "".join(f"{sha256(path)}  {path.name}\n" for path in files))


def read_checksums(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of a folder's SHA256SUMS; {} without that file. Lines that were cut off are left out."""
    path = folder / CHECKSUM_FILE
    text = path.read_text(errors="replace") if path.is_file() else ""
    rows = [line.partition("  ") for line in text.splitlines()]
    return {name: digest for digest, _, name in rows if name}


def find_damage(folder: Path) -> str:
    """Check a checkpoint's folder against its SHA256SUMS; return what is wrong in one line, or "" if nothing is.

    Weights that the list lacks count as damage: it may have been cut off.
    """
    if not (folder / CHECKSUM_FILE).is_file():
        return f"{CHECKSUM_FILE} is missing"
    listed = read_checksums(folder)
    changed = [name for name, digest in listed.items() if not _has_checksum(folder / name, digest)]
    if changed:
        return f"{' and '.join(changed)} changed since the checkpoint was written"
    unlisted = sorted(path.name for path in folder.glob("*.safetensors") if path.name not in listed)
    return f"{CHECKSUM_FILE} lacks {' and '.join(unlisted) or 'all files'}" if unlisted or not listed else ""


def _has_checksum(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
