"""Check that a model can be trained here and can be had, in a second, before anything heavy is imported or loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlvid.config import Config
from rlvid.errors import UserError
from rlvid.policy.families import check_config, family_of, require_packed
from rlvid.registry import embedded_models, model_path
from rlvid.utils.hub_files import fetch, is_hub_id

ADVICE = "give the folder of a model, or its hub id where there is a network"


def check_models(config: Config) -> None:
    """Raise UserError unless a run's models can be trained, with what its `[train]` section asks for."""
    content = check_model(config.model)
    if config.train.use_vllm:
        require_packed(config.model, content, "train.use_vllm")
    if config.evidence.reference:
        check_model(config.evidence.reference)


def check_model(name: str) -> Mapping[str, Any]:
    """Raise UserError unless a model is one that rlvid trains, or an adapter for one.

    Args:
        name: an embedded model, a folder, or a hub id.

    Returns:
        The content of its config.json.
    """
    folder = Path(model_path(name))
    if name in embedded_models():
        return _read(name, folder / "config.json")
    if folder.is_dir():
        return _check_folder(name, folder)
    if not is_hub_id(name):
        raise UserError(f"model {name!r}: no such folder. Paths are relative to {Path.cwd()}; a hub id is OWNER/NAME")
    content = json.loads(fetch(name, "config.json", "model", ADVICE))
    check_config(name, content)
    return content


def image_factor(name: str) -> int:
    """Return how many pixels a visual token of a model has on each side. Raises UserError as `check_model` does.

    Args:
        name: as for `check_model`.
    """
    from transformers import AutoConfig  # here, because it takes seconds to import

    return family_of(AutoConfig.for_model(**check_model(name))).image_factor


def _check_folder(name: str, folder: Path) -> Mapping[str, Any]:
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        return check_model(str(_read(name, adapter).get("base_model_name_or_path", "")))
    config = folder / "config.json"
    if not config.is_file():
        hint = "; it is a run: give one of its checkpoints" if (folder / "config.toml").is_file() else ""
        raise UserError(f"model {name!r}: the folder holds no config.json, so it is no Hugging Face model{hint}")
    content = _read(name, config)
    check_config(name, content)
    return content


def _read(name: str, file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"model {name!r}: {file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"model {name!r}: {file} must hold one JSON object")
    return content
