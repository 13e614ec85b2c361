"""Weights under DeepSpeed's ZeRO-3: shard them at the start, and run forward passes on gathered ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn


def shard(module: nn.Module, config: dict[str, Any], device: torch.device) -> None:
    """Shard a module's weights over all processes, one weight at a time. A collective.

    The main process sends its weights and buffers. The others may hold theirs on the meta device: they allocate one
    full weight at a time, and keep their shard of it.

    Args:
        module: in float32; is changed in place. Its parameters stay the same objects, so an optimizer may hold them.
        config: of DeepSpeed.
        device: of this process.
    """
    from deepspeed.runtime.zero import Init

    first: Any = None
    for parameter in module.parameters():
        if parameter.is_meta:
            full = torch.empty_like(parameter, device=device, requires_grad=parameter.requires_grad)
            torch.utils.swap_tensors(parameter, nn.Parameter(full, parameter.requires_grad))
        if first is None:
            Init(module=nn.ParameterList([parameter]), config_dict_or_path=config)
            first = parameter
        else:
            first.convert_to_zero_parameters(param_list=[parameter])
    for submodule in module.modules():
        for name, buffer in submodule._buffers.items():
            if buffer is not None:
                full = torch.empty_like(buffer, device=device) if buffer.is_meta else buffer.to(device)
                torch.distributed.broadcast(full, src=0)
                submodule._buffers[name] = full


def share_tower_hash(policy: Any) -> None:
    """Give the policies of all processes the main process's hash of the vision tower. A collective."""
    if policy.vision_cache:
        [policy.vision_cache.tower_hash] = broadcast_object_list([policy.vision_cache.tower_hash])


@contextmanager
def without_hooks(learner: Any) -> Iterator[None]:
    """Set DeepSpeed's hooks aside inside the context, so that forward passes neither gather nor release weights.

    The same hooks come back. So DeepSpeed keeps its trace of modules, by which it gathers weights ahead of their use.
    To register new hooks, as TRL's `add_hooks` does, voids the trace: it is recorded again during the next forward and
    backward pass, in which no weights are gathered ahead.

    Args:
        learner: the policy as DeepSpeed wrapped it under ZeRO-3.
    """
    offload = learner.optimizer.parameter_offload
    for parameter in learner.parameters():
        parameter.ds_active_sub_modules.clear()  # else a weight counts as in use, and is not released
    removed = []
    for handle in (*offload.forward_hooks, *offload.backward_hooks):
        hooks = handle.hooks_dict_ref()
        removed.append((hooks, handle.id, hooks.pop(handle.id)))
    try:
        yield
    finally:
        for hooks, number, hook in removed:
            hooks[number] = hook
