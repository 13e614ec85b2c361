"""Training state over several processes: plain, DDP, or DeepSpeed's ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054).

ZeRO stage 2 shards gradients and AdamW's moments over the processes, stage 3 also the weights. Checkpoints hold no
shards: moments are gathered one parameter at a time, so a run can be resumed under any stage and with any number of
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

from rlvid.distributed import all_reduce_max, uses_deepspeed
from rlvid.errors import UserError
from rlvid.policy.critic import split_parameters
from rlvid.policy.oom import ADVICE
from rlvid.policy.optimizer import with_own_kernels
from rlvid.policy.sharding import shard, share_tower_hash, without_hooks

if TYPE_CHECKING:
    from accelerate import Accelerator

    from rlvid.policy.model import Policy
    from rlvid.policy.reference import Reference

MOMENTS = ("exp_avg", "exp_avg_sq")
OWN = ("params", "fused", "foreach")  # of a parameter group: not taken from a checkpoint


def prepare(accelerator: Accelerator, policy: Policy, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    """Return the policy and its optimizer, prepared for the processes of this launch. A collective.

    Only DeepSpeed wraps the policy. Without it, every process starts from the main process's weights, and
    `TrainState.all_reduce_gradients` does the rest: PyTorch's DDP would keep a second copy of all gradients.
    """
    if uses_deepspeed():
        plugin = accelerator.deepspeed_plugin
        if plugin.zero_stage == 3:
            shard(policy, plugin.dschf.config, accelerator.device)
            share_tower_hash(policy)
        return accelerator.prepare(policy, optimizer)
    learner = accelerator.prepare_model(policy, evaluation_mode=True)  # which leaves DDP out
    if accelerator.num_processes > 1:
        for tensor in chain(policy.parameters(), policy.buffers()):
            torch.distributed.broadcast(tensor.detach(), src=0)
    return learner, accelerator.prepare_optimizer(optimizer)


@dataclass(frozen=True)
class TrainState:
    """A run's models and its optimizer, plain or sharded. Made by `create`.

    All methods are collectives: every process must call them.
    """

    policy: Policy
    learner: Any  # the policy itself, or as DeepSpeed wrapped it
    optimizer: Any  # the optimizer, as accelerate wrapped it
    reference: Reference | None

    @classmethod
    def create(cls, policy: Policy, learner: Any, optimizer: Any, reference: Reference | None) -> TrainState:
        """Return the state of prepared models, and shard the reference under ZeRO-3. A collective.

        Args:
            policy: the policy itself.
            learner, optimizer: what `prepare` made of the policy and its optimizer.
            reference: not prepared; None without a reference.
        """
        state = cls(policy, learner, optimizer, reference)
        if reference and state.stage == 3:
            shard(reference, learner.config, learner.device)
            share_tower_hash(reference.policy)
        return state

    @property
    def stage(self) -> int:
        """The ZeRO stage; 0 without DeepSpeed."""
        return self.learner.zero_optimization_stage() if hasattr(self.learner, "zero_optimization_stage") else 0

    @property
    def is_ddp(self) -> bool:
        """Whether several processes hold all weights each, and run forward and backward passes without the others."""
        return not self.stage and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1

    def any_rank_out_of_memory(self, out_of_memory: bool) -> bool:
        """Return whether memory ran out on any rank, so that all ranks must repeat the minibatch.

        Raises:
            UserError: under ZeRO, where a rank cannot repeat it, because the others wait inside their forward pass.
        """
        if out_of_memory and self.stage:
            raise UserError(f"out of memory on one rank; under ZeRO a step cannot be repeated. {ADVICE}")
        return bool(all_reduce_max(out_of_memory)) if self.is_ddp else out_of_memory

    def all_reduce_gradients(self) -> None:
        """Average gradients over the ranks, unless DeepSpeed does."""
        if not self.is_ddp:
            return
        for parameter in self.learner.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:  # unused on this rank
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= torch.distributed.get_world_size()

    @contextmanager
    def gathered_parameters(self, *models: nn.Module | None) -> Iterator[None]:
        """Gather the full weights of some models on every rank, under ZeRO-3.

        Inside the context, each rank may run as many forward passes as it likes, without the others.
        """
        if self.stage < 3 or not any(models):
            yield
            return
        from deepspeed.runtime.zero import GatheredParameters

        gathered = GatheredParameters(chain(*(model.parameters() for model in models if model)))
        with gathered, without_hooks(self.learner):  # they would release a layer's weights after its forward pass
            yield

    def optimizer_state(self) -> dict[str, Any]:
        """Return what `torch.optim.AdamW.state_dict` returns in one process, with tensors on the CPU.

        Under ZeRO only the main process, which writes it, keeps the moments; the others return none.
        """
        if not self.stage:
            return self.optimizer.state_dict()
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link_moments()
        adamw = self.learner.optimizer.optimizer
        step = float(next(iter(adamw.state.values()))["step"])
        moments = {}
        for index, parameter in enumerate(self._parameters()):
            full = {name: safe_get_full_optimizer_state(parameter, name) for name in MOMENTS}  # collectives
            if torch.distributed.get_rank() == 0:
                moments[index] = {"step": torch.tensor(step)} | {name: value.cpu() for name, value in full.items()}
        return {"state": moments, "param_groups": self._with_indices(adamw.param_groups)}

    def _with_indices(self, param_groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Parameter groups with the indices of their parameters, as in a state dict, in place of flat tensors."""
        indexed, start = [], 0
        sizes = [len(parameters) for parameters in split_parameters(self.policy) if parameters]
        for group, size in zip(param_groups, sizes, strict=True):
            indexed.append(group | {"params": list(range(start, start + size))})
            start += size
        return indexed

    def load_optimizer_state(self, saved: Mapping[str, Any]) -> None:
        """Load what `optimizer_state` returned, under this or another stage."""
        if not self.stage:
            return self.optimizer.load_state_dict(with_own_kernels(saved, self.optimizer))
        zero, adamw = self.learner.optimizer, self.learner.optimizer.optimizer
        for group, saved_group in zip(adamw.param_groups, saved["param_groups"], strict=True):
            group |= {name: value for name, value in saved_group.items() if name not in OWN}

        # Each flat tensor holds this rank's shards of many parameters. Its moments are allocated here and filled below.
        step = float(saved["state"][0]["step"])
        flat_tensors = zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups
        for flat in flat_tensors:
            count = torch.tensor(step) if isinstance(adamw, torch.optim.AdamW) else int(step)
            adamw.state[flat] = {"step": count} | {name: torch.zeros_like(flat) for name in MOMENTS}
        self._link_moments()
        for index, parameter in enumerate(self._parameters()):
            for name in MOMENTS:
                self._set_moment(parameter, name, saved["state"][index][name])

    def _parameters(self) -> Iterator[nn.Parameter]:
        """The trainable parameters in the order of the optimizer's groups."""
        return chain(*split_parameters(self.policy))

    def _link_moments(self) -> None:
        """Link stage 2's parameters to their moments; DeepSpeed (0.19.8) does so for the first group only."""
        if self.stage < 3:
            self.learner.optimizer._hp_optimizer_states_linked = False
            self.learner.optimizer._lazy_init_hp_params_optimizer_state()

    def _set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Copy a parameter's full moment into the shards of the ranks that hold it."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if self.stage < 3:
            return safe_set_full_optimizer_state(parameter, value, name)
        world_size, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        shard_size = local_shard(parameter).numel()  # equal on all ranks: the last shards are padded
        full = pad(value.flatten(), (0, shard_size * world_size - value.numel()))
        safe_set_local_optimizer_state(parameter, full.chunk(world_size)[rank], name)


def local_shard(parameter: Tensor) -> Tensor:
    """Return what this rank holds of a parameter: all of it, or under ZeRO-3 its shard."""
    return getattr(parameter, "ds_tensor", parameter)
