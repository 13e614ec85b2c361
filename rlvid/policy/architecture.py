"""Check that a model is a Qwen2-VL that can be had, in a second, before anything heavy is imported or loaded."""

from __future__ import annotations

import json
from pathlib import Path

from rlvid.errors import UserError
from rlvid.registry import embedded_models, model_path
from rlvid.utils.hub_files import fetch, is_hub_id

ARCHITECTURE = "qwen2_vl"  # `model_type` in config.json
ADVICE = "give the folder of a Qwen2-VL, or its hub id where there is a network"


def check_model(name: str) -> None:
    """Raise UserError unless a model is embedded, or a folder or hub id of a Qwen2-VL or of an adapter for one."""
    if name in embedded_models():
        return
    folder = Path(model_path(name))
    if folder.is_dir():
        _check_folder(name, folder)
        return
    if not is_hub_id(name):
        raise UserError(f"model {name!r}: no such folder. Paths are relative to {Path.cwd()}; a hub id is OWNER/NAME")
    _check_type(name, json.loads(fetch(name, "config.json", "model", ADVICE)))


def _check_folder(name: str, folder: Path) -> None:
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        check_model(str(_read(name, adapter).get("base_model_name_or_path", "")))
        return
    config = folder / "config.json"
    if not config.is_file():
        hint = "; it is a run: give one of its checkpoints" if (folder / "config.toml").is_file() else ""
        raise UserError(f"model {name!r}: the folder holds no config.json, so it is no Hugging Face model{hint}")
    _check_type(name, _read(name, config))


def _read(name: str, file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"model {name!r}: {file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"model {name!r}: {file} must hold one JSON object")
    return content


def _check_type(name: str, config: dict[str, object]) -> None:
    found = config.get("model_type", "model without model_type")
    if found != ARCHITECTURE:
        raise UserError(f"model {name!r} is a {found}, and rlvid trains Qwen2-VL only (model_type {ARCHITECTURE!r})")
