"""One line for an error in a user's own code, or of the file system: what, and where."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from pathlib import Path

from rlvid.errors import UserError

PROGRAM = Path(__file__).parents[1]  # rlvid/; rewards/, algorithms/ and experiments/ beside it are code of users too
LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def explain(error: Exception) -> str | None:
    """Return one line about an error in a plug-in or a script, or while reading or writing a file; None for others.

    It begins with FILE:LINE of the innermost frame in the user's code.
    """
    if isinstance(error, UserError):
        return " ".join(str(error).split("\n"))
    if isinstance(error, SyntaxError) and error.filename and is_user_code(error.filename):
        return f"{shown(error.filename)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_user_code(frame.filename)]
    if frames:
        where, code = frames[-1], (frames[-1].line or "").strip()
        return f"{shown(where.filename)}:{where.lineno}: {type(error).__name__}: {first_line(error)}, in `{code}`"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def is_user_code(file: str) -> bool:
    """Return whether a file is neither rlvid's own nor a library's: a plug-in or a script."""
    path = Path(file)
    if not path.is_absolute():
        path = Path.cwd() / path
    is_source = path.suffix == ".py" and bool(linecache.getline(str(path), 1) or path.is_file())
    return is_source and not any(path.is_relative_to(folder) for folder in (PROGRAM, *LIBRARIES))


def shown(file: str) -> str:
    """Return a path relative to the working directory where it is inside, else as it is."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
