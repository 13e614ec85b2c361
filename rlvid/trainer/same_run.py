"""Whether a folder holds the run that a config describes, and if not, in what they differ: settings, or weights."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from rlvid.config import Config, flatten_config
from rlvid.registry import model_path
from rlvid.utils.files import read_checksums, read_json, read_toml, sha256

QUOTE = '"'  # around a part of a key that has dots or slashes
WEIGHTS = "weights.json"  # in the folder of an evaluation: the fingerprint of the weights
HASHED_BYTES = 1 << 26  # of larger files of weights, which take long to read, see `weights_fingerprint`
# Keys that change no metric, no sample and no weights, so that a run may be resumed with other values of them. Keys
# that change a result by rounding, such as max_tokens_per_forward, are not among them.
WITHOUT_EFFECT = {
    "train": ("save_steps", "save_total_limit", "log_completions_steps", "reward_timeout", "ddp_timeout"),
    "judge": ("concurrency",),
    "video": ("decode_workers",),
}


def is_same_run(folder: Path, config: Config, saved_id: str) -> bool:
    """Return whether the run `saved_id` in a folder differs from a config only in keys of `WITHOUT_EFFECT`."""
    if not (saved_file := folder / "config.toml").is_file():
        return False
    saved = flatten_config(read_toml(saved_file))
    for name, keys in WITHOUT_EFFECT.items():
        section = getattr(config, name)
        values = {key: saved.get(f"{name}.{key}", getattr(section, key)) for key in keys}
        config = replace(config, **{name: replace(section, **values)})
    return config.id == saved_id


def differing_settings(folder: Path, toml: str) -> str:
    """Return in which settings a config differs from that in a folder, as a message continues, or ""."""
    if not (saved_file := folder / "config.toml").is_file():
        return ""
    saved, now = (flatten_config(table) for table in (read_toml(saved_file), tomllib.loads(toml)))
    keys = [key for key in {**saved, **now} if saved.get(key) != now.get(key)]
    keys.sort(key=lambda key: not key.startswith("plugins."))
    words = [
        f"{key.removeprefix('plugins.').strip(QUOTE)} has changed"
        if key.startswith("plugins.") and key in saved and key in now
        else f"{key} is {now.get(key, 'not set')}, there {saved.get(key, 'not set')}"
        for key in keys[:2]
    ]
    more = [f"and {len(keys) - 2} more"] if len(keys) > 2 else []
    return f" ({'; '.join([*words, *more])})" if keys else ""


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
