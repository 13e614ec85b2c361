"""Train, evaluate and export; check a config and estimate memory without a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlvid.api.arguments import as_list
from rlvid.api.studies import audit
from rlvid.config import Config, NoiseConfig, load
from rlvid.errors import UserError
from rlvid.registry import build

if TYPE_CHECKING:
    from rlvid.bench.memory_estimate import MemoryEstimate


def train(
    preset: str | Path, overrides: str | Sequence[str] = (), out: str | Path | None = None, resume: bool = False
) -> dict[str, float]:
    """Train one run and evaluate it at the end.

    Args:
        preset: the path of a TOML file, or a name from `rlvid list presets`.
        overrides: TOML assignments such as ["train.max_steps=10"]; one alone may be a string.
        out: the run folder; by default runs/PRESET-ID.
        resume: continue the run in that folder from its last checkpoint.

    Returns:
        The metrics of the last step.
    """
    return _train(load(preset, as_list(overrides)), run_folder(preset, overrides, out), resume)


def run_folder(preset: str | Path, overrides: str | Sequence[str] = (), out: str | Path | None = None) -> Path:
    """Return the folder of the run that `train` makes with these arguments: `out`, or runs/PRESET-ID."""
    return Path(out) if out else Path("runs") / f"{Path(preset).stem}-{load(preset, as_list(overrides)).id}"


def evaluation_folder(
    model: str | Path,
    data: str | Path | None = None,
    splits: str | Sequence[str] = (),
    overrides: str | Sequence[str] = (),
    out: str | Path | None = None,
) -> Path:
    """Return the folder of the evaluation that `evaluate` makes with these arguments: `out`, or runs/eval-NAME-ID."""
    if out:
        return Path(out)
    return (
        Path("runs")
        / f"eval-{Path(model).name}-{_evaluation_config(model, data, as_list(splits), as_list(overrides)).id}"
    )


def check_config(preset: str | Path, overrides: str | Sequence[str] = ()) -> Config:
    """Return a config after the checks that need neither a model nor data.

    Raises:
        UserError: for unknown keys, values out of their limits, and unknown rewards, algorithms or noise or wrong
            fields of these.
    """
    from rlvid.noise.apply import build_noise

    config = load(preset, as_list(overrides))
    build("algorithms", config.algorithm.name, **config.algorithm.fields)
    for reward in (*config.rewards, *config.eval.rewards):
        build("rewards", reward.name, **reward.fields)
    build_noise(config.noise)
    return config


def estimate_memory(
    preset: str | Path, overrides: str | Sequence[str] = (), devices: str | Path | None = None
) -> MemoryEstimate:
    """Print an estimate of the memory of a run, on this machine and on some others, without loading a model.

    Args:
        preset: the path of a TOML file, or a name from `rlvid list presets`.
        overrides: TOML assignments such as ["train.lora_r=16"]; one alone may be a string.
        devices: a YAML file of `accelerate launch`. Without it there are as many devices as processes, usually one.

    Returns:
        The estimate of one device, part by part and phase by phase.

    Raises:
        UserError: for a model, algorithm or reward that does not exist, and if the run would be refused with so many
            processes, or because vLLM's share of this device is too small.
    """
    import torch
    from rich.console import Console

    from rlvid.bench.memory_estimate import Devices, estimate
    from rlvid.bench.memory_tables import estimate_table, machines_table

    config = load(preset, as_list(overrides))
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    layout = Devices.read(Path(devices)) if devices else Devices(num_processes)
    device_bytes = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None
    mixed_precision = config.train.dtype != "float32"
    estimated = estimate(config, layout, mixed_precision, device_bytes)
    console = Console()
    console.print("", estimate_table(estimated, layout), "", machines_table(config))
    if device_bytes is not None:
        console.print(f"\nThis device has {device_bytes / 1e9:.0f} GB.")
    return estimated


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    splits: str | Sequence[str] = (),
    overrides: str | Sequence[str] = (),
    out: str | Path | None = None,
) -> dict[str, float]:
    """Evaluate a model on held-out questions and print its audit; resumable.

    An evaluation is a run with 0 steps, and its folder has the layout of a run folder.

    Args:
        model: a run folder, one of its checkpoints, or any Qwen2-VL folder or hub id. A run is evaluated with its own
            config; "nano" with the preset `nano`, and other models with the preset `qwen2_vl_7b`.
        data: a benchmark, see `rlvid list benchmarks`; by default that of the config.
        splits: levels such as ["L1", "L2"]; by default those of the config.
        overrides: TOML assignments such as ["eval.batch_size=8"]; one alone may be a string.
        out: the folder for the results; by default runs/eval-NAME-ID.

    Returns:
        Metrics such as `eval/L1/accuracy`.
    """
    config = _evaluation_config(model, data, as_list(splits), as_list(overrides))
    folder = evaluation_folder(model, data, splits, overrides, out)
    metrics = _train(config, folder, resume=True)
    if os.environ.get("RANK", "0") == "0":
        audit(folder)
    return metrics


def export(run: str | Path, folder: str | Path) -> None:
    """Write the last checkpoint of a run as a plain Hugging Face folder; a LoRA adapter is merged into its base.

    Args:
        run: a run folder, a checkpoint, or an adapter.
        folder: the folder to write.
    """
    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.trainer.checkpoint import export_model

    export_model(_existing_path(run), Path(folder))


def _evaluation_config(
    model: str | Path, data: str | Path | None, splits: Sequence[str], overrides: Sequence[str]
) -> Config:
    """Return the config of an evaluation: that of the model's run if it has one, with 0 steps and without noise."""
    path = _existing_path(model)
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

    if (run / "config.toml").is_file():
        preset: str | Path = run / "config.toml"
        changes += _reference_overrides(run, checkpoints[-1] if checkpoints else path)
    else:
        preset = "nano" if str(model) == "nano" else "qwen2_vl_7b"

    if data:
        changes.append(f'data="{data}"')
    if splits:
        changes.append(f"eval.splits={list(splits)}")
    if data or splits:  # evaluate only what is named
        changes.append("eval.transfer=[]")
    return replace(load(preset, [*changes, *overrides]), noise=NoiseConfig())


def _reference_overrides(run: Path, checkpoint: Path) -> list[str]:
    """Return overrides that give an evaluation the reference of a run: its moving average, or where it started."""
    config = load(run / "config.toml")
    if not config.train.max_steps:
        return []
    start = run / "cold_start" / "folded" if config.cold_start.max_steps else config.model
    return [f'evidence.reference="{checkpoint if config.train.sync_ref_model else start}"']


def _existing_path(model: str | Path) -> Path:
    """Return the path of a run, a checkpoint or a model. UserError if it is a path, not a hub id, and missing."""
    path = Path(model)
    cannot_be_hub_id = path.is_absolute() or path.parent.is_dir()
    if not path.exists() and cannot_be_hub_id and str(model) != "nano":
        raise UserError(f"no run, checkpoint or model folder {str(model)!r}; a hub id is OWNER/NAME")
    return path


def _train(config: Config, folder: Path, resume: bool) -> dict[str, float]:
    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.trainer.loop import train

    return train(config, folder, resume)
