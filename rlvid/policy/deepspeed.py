"""ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054): what DeepSpeed keeps in shards, seen whole.

Stage 2 shards gradients and AdamW's moments over the processes, stage 3 the weights too. A checkpoint knows neither
stages nor shards: moments are gathered one parameter at a time, so a run goes on under any stage and any number of
processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel

from rlvid.distributed import all_reduce_max
from rlvid.errors import UserError
from rlvid.policy.critic import split_parameters
from rlvid.policy.oom import ADVICE

if TYPE_CHECKING:
    from rlvid.policy.model import Policy
    from rlvid.policy.reference import Reference

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainState:
    """A run's weights, and what learns them. Every method is called by all processes together."""

    policy: Policy
    learner: Any  # the policy, as accelerate wrapped it
    optimizer: Any
    reference: Reference | None

    def __post_init__(self) -> None:
        if self.reference and self.stage == 3:
            from deepspeed.runtime.zero import Init

            Init(module=self.reference, config_dict_or_path=self.learner.config)

    @property
    def stage(self) -> int:
        """DeepSpeed's, 0 without it."""
        return self.learner.zero_optimization_stage() if hasattr(self.learner, "zero_optimization_stage") else 0

    @property
    def is_ddp(self) -> bool:
        """Whether each process learns by itself until gradients are added up: DDP's do, ZeRO's meet in each forward."""
        return isinstance(self.learner, DistributedDataParallel)

    def any_rank_out_of_memory(self, short: bool) -> bool:
        """Whether memory ran out in some process, so that all learn again; UserError where they cannot, under ZeRO."""
        if short and self.stage:
            raise UserError(f"out of memory in one of several processes, which under ZeRO cannot go back. {ADVICE}")
        return bool(all_reduce_max(short)) if self.is_ddp else short

    def all_reduce_gradients(self) -> None:
        """The mean of all processes' gradients, where they learn apart."""
        for parameter in self.learner.parameters() if self.is_ddp else ():
            if parameter.requires_grad:
                if parameter.grad is None:  # nothing here went through it
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= torch.distributed.get_world_size()

    @contextmanager
    def gathered(self, *models: nn.Module | None) -> Iterator[None]:
        """All weights of some models are on each process, which may now go through them as often as it likes, alone."""
        if self.stage < 3 or not any(models):
            yield
            return
        from deepspeed.runtime.zero import GatheredParameters
        from trl.models.utils import add_hooks, remove_hooks

        with GatheredParameters(chain(*(model.parameters() for model in models if model))):
            remove_hooks(self.learner)  # they would let go of a layer's weights after it
            try:
                yield
            finally:
                add_hooks(self.learner)

    def state(self) -> dict[str, Any]:
        """What `torch.optim.AdamW.state_dict` gives in one process, on the CPU."""
        if not self.stage:
            return self.optimizer.state_dict()
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link()
        adamw = self.learner.optimizer.optimizer
        steps = float(next(iter(adamw.state.values()))["step"])
        moments = {
            i: {"step": torch.tensor(steps)}
            | {name: safe_get_full_optimizer_state(parameter, name).cpu() for name in MOMENTS}
            for i, parameter in enumerate(chain(*split_parameters(self.policy)))
        }
        places = iter(range(len(moments)))
        members = [[next(places) for _ in part] for part in split_parameters(self.policy) if part]
        groups = [group | {"params": own} for group, own in zip(adamw.param_groups, members, strict=True)]
        return {"state": moments, "param_groups": groups}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take up what `state` gave, under this or another stage."""
        if not self.stage:
            return self.optimizer.load_state_dict(saved)
        zero, adamw = self.learner.optimizer, self.learner.optimizer.optimizer
        for group, was in zip(adamw.param_groups, saved["param_groups"], strict=True):
            group |= {name: value for name, value in was.items() if name != "params"}
        steps = float(saved["state"][0]["step"])
        for flat in zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups:
            count = torch.tensor(steps) if isinstance(adamw, torch.optim.AdamW) else int(steps)
            adamw.state[flat] = {"step": count} | {name: torch.zeros_like(flat) for name in MOMENTS}
        self._link()
        for i, parameter in enumerate(chain(*split_parameters(self.policy))):
            for name in MOMENTS:
                self._lay(parameter, name, saved["state"][i][name])

    def _link(self) -> None:
        """Let stage 2's parameters know their moments; by itself it does so for the first group only (0.19.8)."""
        if self.stage < 3:
            self.learner.optimizer._hp_optimizer_states_linked = False
            self.learner.optimizer._lazy_init_hp_params_optimizer_state()

    def _lay(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Give a parameter's moment to the processes that hold it."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if self.stage < 3:
            return safe_set_full_optimizer_state(parameter, value, name)
        ranks, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        size = local_shard(parameter).numel()  # all shards are as large: the last ones are filled up
        full = pad(value.flatten(), (0, size * ranks - value.numel()))
        safe_set_local_optimizer_state(parameter, full.chunk(ranks)[rank], name)


def local_shard(parameter: Tensor) -> Tensor:
    """What this process holds of a parameter: all of it, or its shard."""
    return getattr(parameter, "ds_tensor", parameter)
