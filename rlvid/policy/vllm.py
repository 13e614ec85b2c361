"""Sample completions with vLLM (Kwon et al. 2023, arXiv:2309.06180), where it is installed: `train.use_vllm=true`.

Each process has an engine of its own beside the policy, which samples that process's prompts. It takes over the
policy's weights after every optimizer step, and on a GPU its memory is free while the policy learns. It is never given
pixels: the policy's vision tower encodes a clip once per group, and vLLM runs the language model. Unlike those of our
own sampler, random numbers belong to the batch and not to the sample, and sums are made in another order: a run can be
repeated, but not bit for bit. `sampling/sampling_logp_difference` shows how far sampler and learner differ.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.vllm_prompt import vllm_prompt
from rlvid.types import Completion, Group, Prompt

if TYPE_CHECKING:
    from rlvid.policy.model import Policy
    from rlvid.policy.sampler import PhaseTimer
    from rlvid.policy.types import ModelInputs

BITS = {2: torch.int16, 4: torch.int32}  # bytes of a number -> the integer that has its bits


class VLLMSampler:
    """Samples completions as `Sampler` does, with this process's vLLM engine."""

    def __init__(self, policy: Policy, config: TrainConfig, timer: PhaseTimer) -> None:
        if not policy.family.packs_rows:
            model_type = policy.model.config.model_type
            raise UserError(f"train.use_vllm: the family {model_type} has not been tried with vLLM; turn it off")
        self.policy, self.config, self.timer = policy, config, timer
        self.engine = Engine.of(policy, config)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], seed: str) -> list[Group]:
        """Return one group per prompt. Completions depend on `seed` and on all prompts of the batch.

        Raises:
            UserError: if vLLM reads other tokens than the learner, or places them elsewhere.
        """
        with self.timer("vision"), self.policy.precision():
            requests = [vllm_prompt(self.policy, *row) for row in zip(prompts, inputs, strict=True)]
        with self.timer("weights"):
            self.engine.wake()
            self.engine.sync_weights()
        with self.timer("generate"):
            key = "|".join((seed, *(prompt.sampling_key for prompt in prompts)))
            torch.manual_seed(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) >> 1)
            replies = self.engine.llm.generate(requests, self.engine.sampling_params(self.config), use_tqdm=False)
        for prompt, prompt_inputs, reply in zip(prompts, inputs, replies, strict=True):
            if list(reply.prompt_token_ids) != prompt_inputs.input_ids.tolist():
                raise UserError(f"sample {prompt.id}: vLLM reads other tokens than the learner: turn use_vllm off")
        return [
            Group(prompt, [self._completion(output) for output in reply.outputs])
            for prompt, reply in zip(prompts, replies, strict=True)
        ]

    def _completion(self, output: Any) -> Completion:
        tokens, tokenizer = list(output.token_ids), self.policy.tokenizer
        finished = tokens[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(tokens[: len(tokens) - finished], skip_special_tokens=False)
        logps = [scores[token].logprob for token, scores in zip(tokens, output.logprobs, strict=True)]
        return Completion(text, tuple(tokens), tuple(logps), finished)


class Engine:
    """The vLLM engine of one policy. A process has one at a time, because vLLM keeps global state.

    In a run of several processes all must create it together: vLLM makes process groups then, and never again.

    Attributes:
        steps: steps that any optimizer of this process has taken since the engine was created. The version that torch
            counts for a weight does not do: neither DeepSpeed nor fused AdamW moves it.
        synced: the value of `steps` when the engine last took over the weights; -1 if it has none.
        asleep: whether its memory is free; sampling wakes it.
    """

    current: ClassVar[Engine | None] = None

    @classmethod
    def of(cls, policy: Policy, config: TrainConfig) -> Engine:
        """Return the policy's engine, and shut down that of another policy.

        Raises:
            UserError: if a run of several processes needs a second engine.
        """
        if cls.current is not None and cls.current.model is not policy.model:
            if num_processes() > 1:  # vLLM's shutdown would end the process group that the run needs
                raise UserError("train.use_vllm: several processes can sample from one policy only; turn it off")
            cls.current.shutdown()
        cls.current = cls.current or cls(policy, config)
        return cls.current

    def __init__(self, policy: Policy, config: TrainConfig) -> None:
        # In this process, weights can be handed over by reference.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import vllm
        from vllm.platforms import current_platform

        self.model, self.params_type = policy.model, vllm.SamplingParams
        self.end_token, self.banned_token_ids = policy.tokenizer.eos_token_id, policy.banned_token_ids
        self.can_sleep = config.vllm_enable_sleep_mode and current_platform.is_sleep_mode_available()
        self.dtype = torch.bfloat16 if policy.bf16 else torch.float32
        self.llm = vllm.LLM(
            policy.model.name_or_path,
            dtype="bfloat16" if policy.bf16 else "float32",
            gpu_memory_utilization=config.vllm_gpu_memory_utilization,
            max_model_len=config.vllm_max_model_length or None,
            enforce_eager=policy.device.type == "cpu",
            enable_mm_embeds=True,
            limit_mm_per_prompt={"image": 1, "video": 1},
            logprobs_mode="processed_logprobs",  # at the sampling temperature, as the learner's are
            enable_sleep_mode=self.can_sleep,
            # One engine in each process of `accelerate launch`, none of which shares a model with another.
            distributed_executor_backend="external_launcher" if num_processes() > 1 else None,
        )
        self.steps, self.synced, self.asleep = 0, -1, False
        self.taken_over: set[str] = set()  # weights that have once had the policy's bits
        self._hook = register_optimizer_step_post_hook(self._count_step)

    def _count_step(self, *arguments: Any) -> None:
        self.steps += 1

    def shutdown(self) -> None:
        """End the engine, so that this process can have another one."""
        self._hook.remove()
        self.llm.llm_engine.engine_core.shutdown()
        Engine.current = None
        gc.collect()

    def sync_weights(self) -> None:
        """Take over the policy's weights if an optimizer has taken a step, an adapter merged in."""
        if self.synced != self.steps:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": lora.merged_weights(self.model)})
            self.llm.apply_model(repack_tied_head)
            self.llm.reset_prefix_cache()
            self.llm.llm_engine.reset_encoder_cache()
            self.synced = self.steps

    def sleep(self) -> None:
        """Free the memory of weights and cache until `wake`, where the platform can: on GPUs."""
        if self.can_sleep and not self.asleep:
            self.llm.sleep(level=2)
            self.asleep, self.synced = True, -1  # level 2 drops the weights; the policy has them

    def wake(self) -> None:
        """Take the memory again; weights are those of the policy after `sync_weights`."""
        if self.asleep:
            torch.cuda.empty_cache()
            self.llm.wake_up()
            self.asleep = False

    def weights_difference(self) -> str:
        """Compare the bits of vLLM's weights with the policy's; return what differs, empty if nothing does.

        However small an optimizer step is, weights that vLLM did not take over show. vLLM keeps some weights in a form
        of its own, on a CPU most: only those that have had the policy's bits at an earlier call are compared.
        """
        ours = bit_sums(lora.merged_weights(self.model), self.dtype)
        [theirs] = self.llm.apply_model(vllm_bit_sums)
        equal = {name for name in ours.keys() & theirs.keys() if ours[name] == theirs[name]}
        stale = sorted(self.taken_over - equal)
        self.taken_over |= equal
        return f"{len(stale)} weights, such as {stale[0]}, are not the policy's" if stale else ""

    def sampling_params(self, config: TrainConfig) -> Any:
        """Return vLLM's parameters for sampling a group."""
        return self.params_type(
            n=config.num_generations,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_completion_length,
            ignore_eos=True,  # a model's folder may name several end tokens; completions end at the tokenizer's
            stop_token_ids=[self.end_token],
            logit_bias=dict.fromkeys(self.banned_token_ids, -100.0),  # the lowest bias that vLLM takes
            logprobs=0,  # of the sampled token only
            detokenize=False,
        )


def num_processes() -> int:
    """Return the number of processes of this run."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def repack_tied_head(model: Any) -> None:
    """Update a head that is tied to the embeddings; on a CPU, vLLM 0.32 keeps a packed copy of it."""
    head = model.language_model.lm_head
    head.quant_method.process_weights_after_loading(head)


def vllm_bit_sums(model: Any) -> Counter[str]:
    """Return the bit sums of a vLLM model."""
    return bit_sums(model.named_parameters(), None)


def bit_sums(weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None) -> Counter[str]:
    """Return for each weight of the language model the sum of its numbers' bits, read as integers.

    The sums of a transformers model and of a vLLM model with the same weights are equal: vLLM joins the projections of
    queries, keys and values, and those of gate and up, and pads with zeros, whose bits are 0.

    Args:
        weights: names and weights of either model; those that vLLM has removed are left out.
        dtype: to which weights are rounded first; None keeps theirs.
    """
    sums: Counter[str] = Counter()
    for name, weight in weights:
        if "visual." in name or not weight.numel():
            continue
        name = name.rpartition("language_model.")[2].removeprefix("model.")
        name = re.sub(r"\b[qkv]_proj\b", "qkv_proj", re.sub(r"\b(gate|up)_proj\b", "gate_up_proj", name))
        rounded = weight.detach().to(dtype or weight.dtype).contiguous()
        sums[name] += int(rounded.view(BITS[rounded.element_size()]).sum(dtype=torch.int64))
    return sums
