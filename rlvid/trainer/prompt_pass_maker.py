"""Whether sampling and learning share one pass of the prompts through the model (see `policy.prompt_pass`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rlvid.algorithm import Algorithm
from rlvid.config import TrainConfig
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.prefill import PhaseTimer
from rlvid.policy.prompt_pass import PromptPass
from rlvid.policy.types import ModelInputs


@dataclass(frozen=True)
class PromptPassMaker:
    """Makes the pass of a step's prompts.

    Args:
        algorithm: decides where completions come from and how many optimizer steps learn from them.
        policy: runs the prompts.
        train: the `[train]` section.
        backoff: the token budget of forward passes.
        timer: times the phases "vision" and "prefill".
        stage: of ZeRO, under which processes communicate in each pass; 0 without DeepSpeed.
    """

    algorithm: Algorithm
    policy: Policy
    train: TrainConfig
    backoff: OOMBackoff
    timer: PhaseTimer
    stage: int = 0

    @cached_property
    def are_shared(self) -> bool:
        """Whether the update can start from the pass that sampling makes.

        It can where completions are sampled once, by rlvid's own sampler, and one optimizer step learns from them, with
        no other pass of the same prompts that needs gradients or recomputes activations. In float32 on a CPU only: on
        a GPU, autocast would keep a copy of all weights with the pass.
        """
        algorithm, policy = self.algorithm, self.policy
        samples_once = algorithm.completion_source == "policy" and algorithm.max_num_gen_batches == 1
        own_sampler = policy.family.packs_rows and not self.train.use_vllm
        one_optimizer_step = algorithm.num_iterations * algorithm.num_minibatches == 1
        float32_on_cpu = policy.device.type == "cpu" and not policy.bf16
        no_other_pass = policy.critic is None and not self.stage and not self.train.gradient_checkpointing
        return samples_once and own_sampler and one_optimizer_step and float32_on_cpu and no_other_pass

    def __call__(
        self, inputs: Sequence[ModelInputs], indices: Sequence[int], views: Mapping[str, int]
    ) -> PromptPass | None:
        """Return the pass of this process's prompts; None if it is not to be shared or does not fit.

        It has to fit into the token budget together with the longest completions that one of the groups can have.

        Args:
            inputs: of the prompts.
            indices: their numbers.
            views: view -> how many completions of each prompt are sampled under it; "" is the clip itself.
        """
        if not (self.are_shared and inputs) or any(view and count for view, count in views.items()):
            return None
        prompt_tokens = len(inputs) * max(len(prompt.input_ids) for prompt in inputs)
        completion_tokens = self.train.num_generations * self.train.max_completion_length
        if prompt_tokens + completion_tokens > self.backoff.size:
            return None
        with self.backoff.attempt():
            return PromptPass.of(self.policy, inputs, indices, self.timer)
        return None  # out of memory: sampling prefills without gradients
