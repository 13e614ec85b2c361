"""Small files of models on the Hugging Face hub, or a message within seconds that there are none."""

from __future__ import annotations

import os
import queue
import threading
import urllib.error
import urllib.request
from pathlib import Path

from rlvid.errors import UserError

HUB = "https://huggingface.co"
SECONDS = 3.0  # after which a hub that does not answer counts as out of reach


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form OWNER/NAME, or NAME, and is no path."""
    parts = name.split("/")
    return len(parts) <= 2 and all(part and part[0] not in ".~" for part in parts) and not name.endswith(".toml")


def check_reachable(name: str, what: str, advice: str) -> None:
    """Raise UserError unless a text model is a folder, in the hub's cache, or on a hub that answers in 3 seconds."""
    if Path(name).is_dir():
        return
    if not is_hub_id(name):
        raise UserError(f"{what} {name!r}: no such folder. Paths are relative to {Path.cwd()}")
    fetch(name if "/" in name else f"sentence-transformers/{name}", "config.json", what, advice)


def fetch(name: str, file: str, what: str, advice: str) -> str:
    """Return a small file of a model on the hub, from the cache if it is there.

    Raises:
        UserError: in one line, if the hub cannot be reached within 3 seconds or has no such model.
    """
    if cached := _cached(name, file):
        return cached.read_text()
    start = f"{what} {name!r} is no folder here and not in the hub's cache"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):  # as huggingface_hub reads it
        raise UserError(f"{start}, and HF_HUB_OFFLINE is set: {advice}")
    answers: queue.Queue[str | Exception] = queue.Queue()
    threading.Thread(target=_download, args=(name, file, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=SECONDS)
    except queue.Empty:
        answer = TimeoutError(f"no answer within {SECONDS:g} s")
    if isinstance(answer, urllib.error.HTTPError) and answer.code in (401, 403, 404):
        raise UserError(
            f"{start}, and the hub has none of this name that it shows you: check it, or log in with `hf auth login`"
        )
    if isinstance(answer, Exception):
        reason = getattr(answer, "reason", answer)
        raise UserError(f"{start}, and the hub cannot be reached ({reason}): {advice}")
    return answer


def _download(name: str, file: str, answers: queue.Queue[str | Exception]) -> None:
    from huggingface_hub import get_token

    request = urllib.request.Request(f"{os.environ.get('HF_ENDPOINT', HUB)}/{name}/resolve/main/{file}")
    if token := get_token():  # $HF_TOKEN, or what `hf auth login` has written
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            answers.put(response.read(2**20).decode())
    except (OSError, ValueError) as error:
        answers.put(error)


def _cached(name: str, file: str) -> Path | None:
    """Return the newest copy of a file in the hub's cache."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    copies = cache.glob(f"models--{name.replace('/', '--')}/snapshots/*/{file}")
    return max(copies, key=lambda path: path.stat().st_mtime, default=None)
