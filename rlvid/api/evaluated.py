"""The config of an evaluation: that of the run that made the model, wherever the command is started."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from rlvid.config import COPIES, Config, NoiseConfig, load
from rlvid.errors import UserError
from rlvid.registry import MODEL_SETTINGS, embedded_models
from rlvid.utils.files import read_json, read_toml, write_text

# Keys that may hold a path. One that is relative was meant from the folder in which the run was started.
PATHS = (
    "model",
    "data",
    "eval.protocol",
    "evidence.encoder",
    "evidence.nli",
    "evidence.reference",
    "algorithm.preferences",
)


def evaluation_config(
    model: str | Path, data: str | Path | None, splits: Sequence[str], overrides: Sequence[str]
) -> Config:
    """Return the config of an evaluation: that of the model's run if it has one, with 0 steps and without noise."""
    path = existing_path(model)
    is_run = (path / "config.toml").is_file()
    run = path if is_run else path.parent.parent  # a checkpoint is RUN/checkpoints/step-N
    checkpoints = sorted((path / "checkpoints").glob("step-*"))
    cold_start = run / "cold_start" / "folded"

    changes = ["train.max_steps=0", "cold_start.max_steps=0", "train.lora_r=0"]
    if checkpoints:
        changes.append(f'model="{checkpoints[-1]}"')
    elif not is_run:
        changes.append(f'model="{model}"')
    elif cold_start.is_dir():
        changes.append(f'model="{cold_start}"')

    if (path / MODEL_SETTINGS).is_file() and not is_run:
        preset: str | Path = path / MODEL_SETTINGS
    elif (run / "config.toml").is_file():
        preset = run / "config.toml"
        changes = [*_paths_of_run(run), *changes, *_reference_overrides(run, checkpoints[-1] if checkpoints else path)]
    else:
        preset = "nano" if str(model) in embedded_models() else "qwen2_vl_7b"

    if data:
        changes.append(f'data="{data}"')
    if splits:
        changes.append(f"eval.splits={list(splits)}")
    if data or splits:  # evaluate only what is named
        changes.append("eval.transfer=[]")
    config = replace(load(preset, [*changes, *overrides]), noise=NoiseConfig())
    if preset == "qwen2_vl_7b":
        _print_assumed_settings(str(model), config)
    return config


def write_settings(run: Path, folder: Path) -> None:
    """Write the config of a run, a checkpoint of a run, or an exported model into a folder that holds its weights.

    Nothing is written for a model that has none.
    """
    source = run if (run / "config.toml").is_file() else run.parent.parent
    if (run / MODEL_SETTINGS).is_file():
        shutil.copy(run / MODEL_SETTINGS, folder / MODEL_SETTINGS)
    elif (source / "config.toml").is_file():
        changes = [*_paths_of_run(source), *_reference_overrides(source, run)]
        write_text(folder / MODEL_SETTINGS, load(source / "config.toml", changes).to_toml())
    copies = (run if (run / MODEL_SETTINGS).is_file() else source) / COPIES
    if copies.is_dir():
        shutil.copytree(copies, folder / COPIES, dirs_exist_ok=True)


def refuse_untrained(model: str | Path) -> None:
    """Raise UserError for a training run that has no checkpoint: only the model that it started from is there."""
    path = Path(model)
    if not (path / "config.toml").is_file() or any((path / "checkpoints").glob("step-*")):
        return
    config = read_toml(path / "config.toml")
    if config.get("train", {}).get("max_steps"):
        raise UserError(
            f"{path} is a run without a checkpoint: continue it with --resume; its start model is {config.get('model')}"
        )


def existing_path(model: str | Path) -> Path:
    """Return the path of a run, a checkpoint or a model. UserError if it is a path, not a hub id, and missing."""
    path = Path(model)
    cannot_be_hub_id = path.is_absolute() or path.parent.is_dir()
    if not path.exists() and cannot_be_hub_id and str(model) not in embedded_models():
        raise UserError(f"no run, checkpoint or model folder {str(model)!r}; a hub id is OWNER/NAME")
    return path


def _reference_overrides(run: Path, checkpoint: Path) -> list[str]:
    """Return overrides that give an evaluation the reference of a run: its moving average, or where it started."""
    config = load(run / "config.toml", _paths_of_run(run))
    if not config.train.max_steps:
        return []
    start = run / "cold_start" / "folded" if config.cold_start.max_steps else config.model
    return [f'evidence.reference="{checkpoint if config.train.sync_ref_model else start}"']


def _paths_of_run(run: Path) -> list[str]:
    """Return overrides that make relative paths of a run's config absolute, where only the run's own start finds them.

    A run that was started in another folder than this command names its data relative to that folder.
    """
    started_in = Path((read_json(run / "environment.json") or {}).get("folder", "."))
    if started_in.resolve() == Path.cwd():
        return []
    table = read_toml(run / "config.toml")
    changes = []
    for key in PATHS:
        value = _get(table, key)
        is_name = key == "eval.protocol" and not str(value).endswith(".toml")
        if isinstance(value, str) and not is_name and _is_only_there(value, started_in):
            changes.append(_assignment(key, str(started_in / value)))
    transfer = [str(started_in / name) if _is_only_there(name, started_in) else name for name in _transfer(table)]
    return changes + ([_assignment("eval.transfer", transfer)] if transfer != _transfer(table) else [])


def _is_only_there(value: str, folder: Path) -> bool:
    """Return whether a value is a relative path that exists in a folder."""
    return bool(value) and not Path(value).is_absolute() and (folder / value).exists()


def _transfer(table: Mapping[str, Any]) -> list[str]:
    return list(table.get("eval", {}).get("transfer", []))


def _get(table: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key, None if it is not there."""
    value: Any = table
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _assignment(key: str, value: Any) -> str:
    return f"{key}={tomli_w.dumps({'x': value}, multiline_strings=False).partition('=')[2].strip()}".replace("\n", "")


def _print_assumed_settings(model: str, config: Config) -> None:
    """Print that a model without settings of its own is evaluated as the paper does."""
    video = config.video
    _print_once(
        f"rlvid: {model} holds no config.toml or {MODEL_SETTINGS}: it is measured with the preset qwen2_vl_7b, that is "
        f"up to {video.max_frames} frames of {video.resized_height}x{video.resized_width}, "
        f"{config.eval_max_tokens} tokens. Give others as overrides"
    )


@cache
def _print_once(words: str) -> None:
    """Print words on stderr the first time that they are said in this process."""
    print(words, file=sys.stderr)
