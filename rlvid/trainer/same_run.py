"""Whether a folder holds the run that a config describes, and if not, in what they differ: settings, or weights."""

from __future__ import annotations

import tomllib
from hashlib import blake2b
from pathlib import Path

from rlvid.config import Config, config_keys, flatten_config, replace_neutral
from rlvid.registry import model_path
from rlvid.utils.files import read_checksums, read_json, read_toml, sha256

QUOTE = '"'  # around a part of a key that has dots or slashes
WEIGHTS = "weights.json"  # in the folder of an evaluation: the fingerprint of the weights
HASHED_BYTES = 1 << 26  # of larger files of weights, which take long to read, see `weights_fingerprint`


def is_same_run(folder: Path, config: Config, saved_id: str) -> bool:
    """Return whether the run `saved_id` in a folder is the run of a config, which it may resume and a grid may use.

    They may differ in keys that change no result (`neutral` in rlvid/config/sections.py). `judge.url` is one of them:
    a judge of the same `judge.model` is taken for the same judge at any address. Its cached replies belong to an
    address, so at another one it is sent all prompts anew. A run that was started before 2026-12-01 has the exact id of
    its config, in which neutral keys count; its config.toml has their values.
    """
    if config.id == saved_id:
        return True
    saved_file = folder / "config.toml"
    return saved_file.is_file() and replace_neutral(config, flatten_config(read_toml(saved_file))).exact_id == saved_id


def differing_settings(folder: Path, toml: str) -> str:
    """Return in which settings a config differs from that in a folder, as a message continues, or "".

    Keys that change no result are left out.
    """
    if not (saved_file := folder / "config.toml").is_file():
        return ""
    saved, now = (flatten_config(table) for table in (read_toml(saved_file), tomllib.loads(toml)))
    neutral = {key.name for key in config_keys(Config()) if key.neutral}
    keys = [key for key in {**saved, **now} if key not in neutral and saved.get(key) != now.get(key)]
    keys.sort(key=lambda key: not key.startswith("plugins."))
    words = [
        f"{key.removeprefix('plugins.').strip(QUOTE)} has changed"
        if key.startswith("plugins.") and key in saved and key in now
        else f"{key} is {now.get(key, 'not set')}, there {saved.get(key, 'not set')}"
        for key in keys[:2]
    ]
    more = [f"and {len(keys) - 2} more"] if len(keys) > 2 else []
    return f" ({'; '.join([*words, *more])})" if keys else ""


def holds_results(path: Path) -> bool:
    """Return whether a run's folder holds a step, an answer or a checkpoint, of the run or of its cold start."""
    files = (path / "metrics.jsonl", *path.glob("eval/**/*.jsonl"), *path.glob("checkpoints/step-*/state.json"))
    return any(file.is_file() and file.stat().st_size for file in files) or (
        (path / "cold_start").is_dir() and holds_results(path / "cold_start")
    )


def weights_fingerprint(model: str) -> str:
    """Return hex digits that identify the weights in a model's folder; "" for a hub id.

    Large files are not read: those of a checkpoint are in its SHA256SUMS, others are told by size and time of change.
    """
    folder = Path(model_path(model)).expanduser()
    if not folder.is_dir():
        return ""
    known = read_checksums(folder)
    text = ""
    for file in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")):
        status = file.stat()
        is_small = status.st_size <= HASHED_BYTES
        content = sha256(file) if is_small else known.get(file.name, str(status.st_mtime_ns))
        text += f"{file.name} {status.st_size} {content}\n"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def weights_have_changed(folder: Path, fingerprint: str) -> bool:
    """Return whether an evaluation's folder was made with other weights. One without a record is taken as it is."""
    recorded = read_json(folder / WEIGHTS)
    return recorded is not None and recorded["fingerprint"] != fingerprint
