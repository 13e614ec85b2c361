"""Check that a model is of a known family and can be had, in a second, before anything heavy is imported or loaded."""

from __future__ import annotations

import json
from pathlib import Path

from rlvid.errors import UserError
from rlvid.policy.families import check_config
from rlvid.registry import embedded_models, model_path
from rlvid.utils.hub_files import fetch, is_hub_id

ADVICE = "give the folder of a model, or its hub id where there is a network"


def check_model(name: str) -> None:
    """Raise UserError unless a model is one that rlvid trains, or an adapter for one.

    Args:
        name: an embedded model, a folder, or a hub id.
    """
    if name in embedded_models():
        return
    folder = Path(model_path(name))
    if folder.is_dir():
        _check_folder(name, folder)
        return
    if not is_hub_id(name):
        raise UserError(f"model {name!r}: no such folder. Paths are relative to {Path.cwd()}; a hub id is OWNER/NAME")
    check_config(name, json.loads(fetch(name, "config.json", "model", ADVICE)))


def _check_folder(name: str, folder: Path) -> None:
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        check_model(str(_read(name, adapter).get("base_model_name_or_path", "")))
        return
    config = folder / "config.json"
    if not config.is_file():
        hint = "; it is a run: give one of its checkpoints" if (folder / "config.toml").is_file() else ""
        raise UserError(f"model {name!r}: the folder holds no config.json, so it is no Hugging Face model{hint}")
    check_config(name, _read(name, config))


def _read(name: str, file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"model {name!r}: {file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"model {name!r}: {file} must hold one JSON object")
    return content
