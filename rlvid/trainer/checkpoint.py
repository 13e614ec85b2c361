"""Checkpoints: `checkpoints/step-N/` is a plain Hugging Face folder, plus what is needed to resume exactly.

    model.safetensors, config.json, tokenizer...   read by `from_pretrained` and by `rlvid eval`;
                                                   with LoRA the adapter's files instead of the model's
    critic.safetensors                             only with a critic
    optimizer.safetensors                          AdamW's moments
    reference.safetensors                          only with a moving reference
    state.json                                     step, learning-rate schedule, counters, the algorithm's memory
    SHA256SUMS                                     of all these files: a damaged checkpoint is set aside on resuming

Nothing is pickled, and nothing depends on the number of processes: any number can resume. There is no random state to
save, since every draw is a function of the seed, the step and the sample id.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from rlvid.config import Config, TrainConfig, VideoConfig
from rlvid.distributed import holds_weights
from rlvid.errors import UserError
from rlvid.policy.critic import critic_parameter_names
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.model import Policy
from rlvid.policy.model_card import model_card
from rlvid.policy.processor_files import write_usage_files
from rlvid.policy.reference import Reference
from rlvid.trainer.counters import Counters
from rlvid.trainer.run_folder import RunFolder
from rlvid.utils.files import find_damage, wrap_read_errors, wrap_write_errors, write_checksums, write_text


def restore_weights(folder: RunFolder, policy: Policy, reference: Reference | None) -> None:
    """Load the weights of the run's last intact checkpoint, if there is one. A collective.

    Under ZeRO-3 the main process alone reads them, before they are sharded.
    """
    if folder.is_main:
        rename_damaged(folder.path)
    folder.wait()
    saved = checkpoints(folder.path)
    if saved and holds_weights():
        with wrap_read_errors(path := saved[-1]):
            policy.restore(path)
            if reference and reference.is_ema:
                load_parameters(reference, load_file(path / "reference.safetensors"))
            if policy.critic:
                load_parameters(policy, load_file(path / "critic.safetensors"))


def restore_training_state(folder: RunFolder, counters: Counters, state: TrainState, scheduler: LRScheduler) -> int:
    """Load optimizer, schedule and counters of the last checkpoint, and remove what was logged after it.

    Returns the checkpoint's step; 0 without a checkpoint.
    """
    step = 0
    if saved := checkpoints(folder.path):
        with wrap_read_errors(path := saved[-1]):
            values = json.loads((path / "state.json").read_text())
            state.load_optimizer_state(unflatten(load_file(path / "optimizer.safetensors"), values["optimizer"]))
        scheduler.load_state_dict(values["scheduler"])
        counters.load_state_dict(values)
        step = values["step"]
    folder.rewind(step, counters.skipped)
    return step


def rename_damaged(run_path: Path) -> None:
    """Rename checkpoints whose files have changed since they were written, so that the last intact one is resumed."""
    for path in reversed(checkpoints(run_path)):
        damage = find_damage(path)
        if not damage:
            return
        path.rename(path.with_name(f"damaged-{path.name}"))
        print(f"rlvid: {path} is set aside: {damage}", file=sys.stderr)


def checkpoint_is_due(config: Config, step: int, evaluated: bool, ending: bool) -> bool:
    """Whether to save: after an evaluation, every `save_steps` steps, after the last step, and after a SIGTERM."""
    return evaluated or ending or step % config.train.save_steps == 0 or step == config.train.max_steps


def save(
    folder: RunFolder,
    counters: Counters,
    state: TrainState,
    scheduler: LRScheduler,
    step: int,
    metrics: Mapping[str, float],
    ending: bool = False,
) -> None:
    """Write `checkpoints/step-N`, whole or not at all, if one is due; keep the last few and the best. A collective.

    The best checkpoint is that of the highest accuracy on the first level of `eval.splits`.
    """
    config = folder.config
    accuracy = metrics.get(f"eval/{next(iter(config.eval.splits), '')}/accuracy")
    evaluated = any(name.startswith("eval/") for name in metrics)
    if not checkpoint_is_due(config, step, evaluated, ending):
        return
    if accuracy is not None and (counters.best is None or accuracy > counters.best[0]):
        counters.best = (accuracy, step)
    optimizer_state = state.optimizer_state()
    counters.share_skipped()  # an evaluation may have met further ones
    values = counters.state_dict() | {"step": step, "scheduler": scheduler.state_dict()}
    moving_reference = state.reference if state.reference and state.reference.is_ema else None
    with state.gathered_parameters(state.policy, moving_reference):
        if folder.is_main:
            _write_atomically(folder.path / "checkpoints" / f"step-{step:06d}", state, optimizer_state, values)
            _remove_old(folder.path, config.train.save_total_limit, counters.best)
    folder.saved_step = step


def _write_atomically(
    path: Path, state: TrainState, optimizer_state: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    part = path.with_name(f".{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with wrap_write_errors(path):
            write_checkpoint_files(part, state, optimizer_state, values)
    except UserError:
        shutil.rmtree(part)  # as much as the disk had room for
        raise
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def _remove_old(run_path: Path, limit: int, best: tuple[float, int] | None) -> None:
    for path in checkpoints(run_path)[:-limit]:
        if best is None or path.name != f"step-{best[1]:06d}":
            shutil.rmtree(path)


def write_checkpoint_files(
    path: Path, state: TrainState, optimizer_state: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    """Write a checkpoint's files, and their checksums last."""
    policy, reference = state.policy, state.reference
    policy.save(path)
    tensors, groups = flatten(optimizer_state)
    save_file(tensors, path / "optimizer.safetensors")
    if reference and reference.is_ema:
        averages = {name: value.detach().contiguous() for name, value in reference.named_parameters()}
        save_file(averages, path / "reference.safetensors")
    if policy.critic:
        parameters = dict(policy.named_parameters())
        critic = {name: parameters[name].detach().contiguous() for name in critic_parameter_names(policy)}
        save_file(critic, path / "critic.safetensors")
    write_text(path / "state.json", json.dumps({**values, "optimizer": groups}))
    write_checksums(path)


def checkpoints(run_path: Path) -> list[Path]:
    """The folders of a run's complete checkpoints, oldest first."""
    return sorted((run_path / "checkpoints").glob("step-*"))


def flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimizer's state dict as named tensors for safetensors, and its parameter groups as JSON."""
    tensors = {f"{i}.{name}": v.contiguous() for i, moments in state["state"].items() for name, v in moments.items()}
    return tensors, state["param_groups"]


def unflatten(tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an optimizer's state dict from its named tensors and its parameter groups: the inverse of `flatten`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}


@torch.no_grad()
def load_parameters(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy named tensors into the module's parameters of the same names."""
    parameters = dict(module.named_parameters())
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)


def export_cold_start(folder: RunFolder, cold_start: Path) -> Path:
    """The weights of a run's cold start as a plain model folder; the main process writes it. A collective."""
    if folder.is_main:
        export_model(cold_start, cold_start / "folded")
    folder.wait()
    return cold_start / "folded"


def export_model(source: Path, target: Path, config: Config | None = None) -> Path:
    """Write a model folder, a checkpoint, or a run's last checkpoint as a plain Hugging Face folder.

    A LoRA adapter is merged into its base. An existing `target` is left as it is.

    Args:
        source: what to read.
        target: the folder to write.
        config: of evaluations; with it, processors and other files that other tools need are written, too.
    """
    if not target.exists():
        part = target.with_name(f".{target.name}")
        shutil.rmtree(part, ignore_errors=True)
        weights = (checkpoints(source) or [source])[-1]
        policy = Policy.load(str(weights), TrainConfig(), VideoConfig())
        policy.save(part)
        if config:
            write_usage_files(part, policy, config)
            write_text(part / "README.md", model_card(target.name, config, policy.family))
        part.rename(target)
    return target
