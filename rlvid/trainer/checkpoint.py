"""Checkpoints: `checkpoints/step-N/` is a plain Hugging Face folder, plus what is needed to go on exactly.

    model.safetensors, config.json, tokenizer...   `from_pretrained` reads them, and so does `rlvid eval`;
                                                   with LoRA the adapter's files stand in the place of the model's
    critic.safetensors                             only where there is one
    optimizer.safetensors                          AdamW's moments
    reference.safetensors                          only where the reference moves
    state.json                                     step, schedule, counters, the algorithm's memory
    SHA256SUMS                                     of all these: a damaged checkpoint is set aside on resuming

Nothing is pickled, and nothing says how many processes wrote it: any number can take it up. There is no random state to
keep: every draw is a function of the seed, the step and the sample id.
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

from rlvid.config import Config
from rlvid.errors import UserError
from rlvid.policy.critic import critic_parameter_names
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.model import Policy
from rlvid.policy.reference import Reference
from rlvid.trainer.run_folder import Run
from rlvid.utils.files import explain_read_errors, explain_write_errors, find_damage, write_checksums, write_text

COUNTERS = ("step", "tokens", "drawn", "skipped", "verdicts", "memory")


def restore_weights(run: Run, policy: Policy, reference: Reference | None) -> None:
    """Take over the weights of the run's last checkpoint, if it has one."""
    if run.main:
        set_damaged_aside(run)
    run.wait()
    if saved := checkpoints(run.folder):
        with explain_read_errors(folder := saved[-1]):
            policy.restore(folder)
            if reference and reference.is_ema:
                load_parameters(reference, load_file(folder / "reference.safetensors"))
            if policy.critic:
                load_parameters(policy, load_file(folder / "critic.safetensors"))


def restore_training_state(run: Run, models: TrainState, scheduler: LRScheduler) -> None:
    """Take up the rest of the last checkpoint, if there is one, and forget what the run wrote after that."""
    if saved := checkpoints(run.folder):
        with explain_read_errors(folder := saved[-1]):
            state = json.loads((folder / "state.json").read_text())
            models.load(unflatten(load_file(folder / "optimizer.safetensors"), state["optimizer"]))
        scheduler.load_state_dict(state["scheduler"])
        for name in COUNTERS:
            setattr(run, name, state[name])
        run.best = tuple(state["best"]) if state["best"] else None
    run.rewind()


def set_damaged_aside(run: Run) -> None:
    """Rename the checkpoints whose files are not what was written: the run goes on from the last one that is whole."""
    for folder in reversed(checkpoints(run.folder)):
        wrong = find_damage(folder)
        if not wrong:
            return
        folder.rename(folder.with_name(f"damaged-{folder.name}"))
        print(f"rlvid: {folder} is set aside: {wrong}", file=sys.stderr)


def save(
    run: Run, step: int, metrics: Mapping[str, float], models: TrainState, scheduler: LRScheduler, ending: bool = False
) -> None:
    """Write `checkpoints/step-N`, whole or not at all, where one is due; keep the last few and the best."""
    train, score = run.config.train, metrics.get(f"eval/{next(iter(run.config.eval.splits), '')}/accuracy")
    if score is None and step % train.save_steps and step != train.max_steps and not ending:
        return
    if score is not None and (run.best is None or score > run.best[0]):
        run.best = (score, step)
    moments = models.state()
    state = {name: getattr(run, name) for name in (*COUNTERS, "best")}
    state |= {"step": step, "scheduler": scheduler.state_dict()}
    final = run.folder / "checkpoints" / f"step-{step:06d}"
    part = final.with_name(f".{final.name}")
    moving = models.reference if models.reference and models.reference.is_ema else None
    with models.gathered(models.policy, moving):
        if run.main:
            shutil.rmtree(part, ignore_errors=True)
            try:
                with explain_write_errors(final):
                    write_checkpoint_files(part, models, moments, state)
            except UserError:
                shutil.rmtree(part)  # what there was room for
                raise
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
            for old in checkpoints(run.folder)[: -train.save_total_limit]:
                if run.best is None or old.name != f"step-{run.best[1]:06d}":
                    shutil.rmtree(old)
    run.step = step


def write_checkpoint_files(
    folder: Path, models: TrainState, moments: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Write a checkpoint's files, and last their sums."""
    policy, reference = models.policy, models.reference
    policy.save(folder)
    tensors, groups = flatten(moments)
    save_file(tensors, folder / "optimizer.safetensors")
    if reference and reference.is_ema:
        averages = {name: value.detach().contiguous() for name, value in reference.named_parameters()}
        save_file(averages, folder / "reference.safetensors")
    if policy.critic:
        parameters = dict(policy.named_parameters())
        own = {name: parameters[name].detach().contiguous() for name in critic_parameter_names(policy)}
        save_file(own, folder / "critic.safetensors")
    write_text(folder / "state.json", json.dumps({**state, "optimizer": groups}))
    write_checksums(folder)


def checkpoints(folder: Path) -> list[Path]:
    """A run's whole checkpoints, oldest first."""
    return sorted((folder / "checkpoints").glob("step-*"))


def flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state dict as named tensors for safetensors, and its parameter groups as JSON."""
    tensors = {f"{i}.{name}": v.contiguous() for i, moments in state["state"].items() for name, v in moments.items()}
    return tensors, state["param_groups"]


def unflatten(tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}


@torch.no_grad()
def load_parameters(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy named tensors into the module's parameters of these names."""
    parameters = dict(module.named_parameters())
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)


def export_cold_start(run: Run, first: Path) -> Path:
    """The `plain` folder of a run that goes before this one; one process writes it, and the others wait."""
    if run.main:
        export_model(first, first / "folded")
    run.wait()
    return first / "folded"


def export_model(path: Path, folder: Path) -> Path:
    """Write a model folder, a checkpoint or a run's last one as a plain Hugging Face folder, an adapter folded in."""
    if not folder.exists():
        part = folder.with_name(f".{folder.name}")
        shutil.rmtree(part, ignore_errors=True)
        Policy.load(Config(), (checkpoints(path) or [path])[-1]).save(part)
        part.rename(folder)
    return folder
