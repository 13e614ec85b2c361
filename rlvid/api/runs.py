"""Train, evaluate and export; check a config and estimate memory without a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlvid.api.arguments import as_list
from rlvid.api.evaluated import evaluation_config, existing_path, refuse_untrained, write_settings
from rlvid.api.studies import audit
from rlvid.config import Config, load
from rlvid.errors import UserError
from rlvid.utils.collection import collection_paused
from rlvid.utils.console import print_main

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
        / f"eval-{Path(model).name}-{evaluation_config(model, data, as_list(splits), as_list(overrides)).id}"
    )


def check_config(preset: str | Path, overrides: str | Sequence[str] = ()) -> Config:
    """Return a config after the checks that need neither a model nor data.

    Raises:
        UserError: for unknown keys, values out of their limits, and unknown rewards, algorithms or noise or wrong
            fields of these.
    """
    config = load(preset, as_list(overrides))
    _check_plugins(config)
    return config


def _check_plugins(config: Config) -> None:
    """Raise UserError unless algorithm, rewards and noise can be built and do not contradict each other.

    A judge that a reward needs must have an endpoint.
    """
    from rlvid.judges.endpoint import check_endpoint
    from rlvid.noise.apply import build_noise, refuse_half_noise
    from rlvid.reward import RewardMix
    from rlvid.trainer.noop_check import refuse_idle_correction

    algorithm = config.algorithm.build("algorithms")
    mix = RewardMix.build((*config.rewards, *config.eval.rewards))
    if "judge" in mix.required_evidence:
        check_endpoint(config.judge)
    refuse_half_noise(config.noise)
    build_noise(config.noise)
    refuse_idle_correction(algorithm, config.noise.kind, config.data)


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
    from rlvid.bench.memory_tables import estimate_table, machines_table, work_line

    config = load(preset, as_list(overrides))
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    layout = Devices.read(Path(devices)) if devices else Devices(num_processes)
    device_bytes = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None
    mixed_precision = config.train.dtype != "float32"
    estimated = estimate(config, layout, mixed_precision, device_bytes)
    console = Console()
    console.print("", estimate_table(estimated, layout), "", machines_table(config))
    console.print(f"\n{work_line(config)}", highlight=False)
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
        model: a run folder, one of its checkpoints, or any model's folder or hub id. A run, and what `export` wrote,
            is evaluated with its own config; "nano" with the preset `nano`, and other models with the preset
            `qwen2_vl_7b`, which a line on stderr says.
        data: a benchmark, see `rlvid list benchmarks`; by default that of the config.
        splits: levels such as ["L1", "L2"]; by default those of the config.
        overrides: TOML assignments such as ["eval.batch_size=8"]; one alone may be a string.
        out: the folder for the results; by default runs/eval-NAME-ID.

    Returns:
        Metrics such as `eval/L1/accuracy`. With `eval.completions=RUN/samples` no question is answered: the groups of
        training are scored again, and metrics are such as `samples/format/mean`.
    """
    from rlvid.probes.rescoring import is_samples, rescore

    config = evaluation_config(model, data, as_list(splits), as_list(overrides))
    folder = evaluation_folder(model, data, splits, overrides, out)
    if config.eval.completions and is_samples(config.eval.completions):
        return rescore(config, folder)
    refuse_untrained(model)
    metrics = _train(config, folder, resume=True)
    if os.environ.get("RANK", "0") == "0":
        audit(folder)
    return metrics


def export(run: str | Path, folder: str | Path) -> None:
    """Write the last checkpoint of a run as a plain Hugging Face folder; a LoRA adapter is merged into its base.

    With the weights stand what another tool needs to give the run's accuracy: the processors and their sizes, the chat
    template, how replies are decoded, and a README.md that says how to ask. The run's settings are in rlvid.toml, so
    that `evaluate` measures it as it was trained.

    Args:
        run: a run folder, a checkpoint, or an adapter; of a run without steps, the model that it measured.
        folder: the folder to write.

    Raises:
        UserError: if there is no such run, or if the folder exists.
    """
    from rlvid.utils.logging import silence_libraries

    silence_libraries()
    from rlvid.trainer.checkpoint import export_model

    refuse_untrained(existing_path(run))
    target = Path(folder)
    if target.exists():
        raise UserError(f"{target} exists, and its weights would stay as they are: give another folder, or remove it")
    config = evaluation_config(run, None, (), ())
    export_model(Path(config.model), target, config)
    write_settings(Path(run), target)


def export_lmms_eval_task(
    folder: str | Path, run: str | Path | None = None, data: str | Path | None = None, splits: str | Sequence[str] = ()
) -> list[str]:
    """Write a benchmark as a task for lmms-eval, in the wording and with the frames of rlvid.

    Args:
        folder: the folder to write, for lmms-eval's `--include_path`.
        run: a run, a checkpoint, or a model's folder, whose settings are taken; by default the paper's.
        data: a benchmark, see `rlvid list benchmarks`; by default that of the run's config.
        splits: levels such as ["L1", "L2"]; by default those of the config.

    Returns:
        The names of the tasks, one for each level.

    Raises:
        UserError: if the folder exists, there is no such run or benchmark, if a question has no options, or if the
            run's `eval.protocol` reads replies in another way than the task does.
    """
    from rlvid.data.prompts import held_out_prompts
    from rlvid.interop.lmms_eval import task_name, write_task
    from rlvid.policy.architecture import image_factor

    if run is None and data is None:
        raise UserError("a task for lmms-eval needs a run, or a benchmark: --data FOLDER")
    overrides = [f'data="{data}"'] if data else []
    overrides += [f"eval.splits={as_list(splits)}"] if as_list(splits) else []
    if run is None:
        config, factor = load("qwen2_vl_7b", [*overrides, "eval.transfer=[]"]), 28
    else:
        config = evaluation_config(existing_path(run), data, as_list(splits), ())
        factor = image_factor(config.model)
    settings = config.eval
    levels = held_out_prompts(config.data, settings.splits, settings.transfer, settings.limit, settings.protocol)
    source = Path(config.data)
    name = source.stem if source.stem.strip(".") else source.resolve().stem  # "." and ".." are no names
    return write_task(Path(folder), task_name(name), levels, config, factor)


def _train(config: Config, folder: Path, resume: bool) -> dict[str, float]:
    config.to_toml()  # wrong names and fields are refused before anything heavy is imported
    with collection_paused():
        _check_run(config)
        print_main(f"run folder  {folder}")
        for plugin in config.plugins:
            if plugin.copy:
                print(f"rlvid: {plugin.file} has changed or is not here: {plugin.copy} is used", file=sys.stderr)
        from rlvid.utils.logging import silence_libraries

        silence_libraries()
        from rlvid.trainer.loop import train

    return train(config, folder, resume)


def _check_run(config: Config) -> None:
    """Raise UserError for models, levels or plug-ins that do not exist, or that contradict each other."""
    from rlvid.data.benchmark import check_levels
    from rlvid.policy.architecture import check_models

    check_models(config)
    levels = [*config.eval.splits, *(["train"] if config.train.max_steps and config.data.endswith(".toml") else [])]
    check_levels(config.data, levels, config.eval.transfer)
    _check_plugins(config)
