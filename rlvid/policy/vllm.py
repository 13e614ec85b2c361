"""Sample completions with vLLM (Kwon et al. 2023, arXiv:2309.06180), where it is installed: `train.use_vllm=true`.

The engine runs in this process beside the policy and takes over its weights whenever they have changed. It is never
given pixels: the policy's vision tower encodes a clip once per group, and vLLM runs the language model. Unlike those of
our own sampler, random numbers belong to the batch and not to the sample, and sums are made in another order: a run can
be repeated, but not bit for bit. `sampling/sampling_logp_difference` shows how far sampler and learner differ.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.encoding import merged_grid
from rlvid.policy.mrope import uses_transformers_positions
from rlvid.types import Completion, Group, Prompt

if TYPE_CHECKING:
    from rlvid.policy.model import Policy
    from rlvid.policy.sampler import PhaseTimer
    from rlvid.policy.types import ModelInputs


class VLLMSampler:
    """Samples completions as `Sampler` does, with the policy's vLLM engine."""

    def __init__(self, policy: Policy, config: TrainConfig, timer: PhaseTimer) -> None:
        if not policy.family.runs_in_vllm:
            raise UserError(f"train.use_vllm: {policy.family.name} has not been tried with vLLM; turn it off")
        self.policy, self.config, self.timer = policy, config, timer
        self.engine = Engine.of(policy, config)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], seed: str) -> list[Group]:
        """Return one group per prompt. Completions depend on `seed` and on all prompts of the batch."""
        with self.timer("vision"), self.policy.precision():
            requests = [vllm_prompt(self.policy, *row) for row in zip(prompts, inputs, strict=True)]
        with self.timer("weights"):
            self.engine.sync_weights()
        with self.timer("generate"):
            key = "|".join((seed, *(prompt.id for prompt in prompts)))
            torch.manual_seed(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) >> 1)
            replies = self.engine.llm.generate(requests, self.engine.sampling_params(self.config), use_tqdm=False)
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

    Attributes:
        fingerprint: of the policy's weights when the engine last took them over.
    """

    current: ClassVar[Engine | None] = None

    @classmethod
    def of(cls, policy: Policy, config: TrainConfig) -> Engine:
        """Return the policy's engine, and shut down that of another policy."""
        if cls.current is not None and cls.current.model is not policy.model:
            cls.current.llm.llm_engine.engine_core.shutdown()
            cls.current = None
            gc.collect()
        cls.current = cls.current or cls(policy, config)
        return cls.current

    def __init__(self, policy: Policy, config: TrainConfig) -> None:
        # In this process, weights can be handed over by reference.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import vllm

        self.model, self.params_type = policy.model, vllm.SamplingParams
        self.end_token, self.banned_token_ids = policy.tokenizer.eos_token_id, policy.banned_token_ids
        self.llm = vllm.LLM(
            policy.model.name_or_path,
            dtype="bfloat16" if policy.bf16 else "float32",
            gpu_memory_utilization=config.vllm_gpu_memory_utilization,
            max_model_len=config.vllm_max_model_length or None,
            enforce_eager=policy.device.type == "cpu",
            enable_mm_embeds=True,
            limit_mm_per_prompt={"image": 1, "video": 1},
            logprobs_mode="processed_logprobs",  # at the sampling temperature, as the learner's are
        )
        self.fingerprint: tuple[float, ...] = ()

    def sync_weights(self) -> None:
        """Take over the policy's weights if they have changed, an adapter merged in."""
        fingerprint = weights_fingerprint(self.model)
        if fingerprint != self.fingerprint:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": lora.merged_weights(self.model)})
            self.llm.apply_model(repack_tied_head)
            self.llm.reset_prefix_cache()
            self.llm.llm_engine.reset_encoder_cache()
            self.fingerprint = fingerprint

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


def weights_fingerprint(model: torch.nn.Module) -> tuple[float, ...]:
    """Return numbers that change whenever a weight does: the sum of each parameter, in float64.

    The version that torch counts for a parameter does not do: DeepSpeed writes weights without moving it, and vLLM then
    samples from those of the first step.
    """
    sums = [parameter.detach().sum(dtype=torch.float64) for parameter in model.parameters()]
    return tuple(torch.stack(sums).tolist())


def repack_tied_head(model: Any) -> None:
    """Update a head that is tied to the embeddings; on a CPU, vLLM 0.32 keeps a packed copy of it."""
    head = model.language_model.lm_head
    head.quant_method.process_weights_after_loading(head)


def vllm_prompt(policy: Policy, prompt: Prompt, inputs: ModelInputs) -> Mapping[str, Any]:
    """Return a prompt for vLLM: one token for each video or image, and its features.

    Raises:
        UserError: if the model was trained with the positions of transformers and the video is so long that vLLM would
            give the text after it other positions.
    """
    config, token_ids = policy.model.config, inputs.input_ids.tolist()
    media_kinds = {config.video_token_id: "video", config.image_token_id: "image"}
    # vLLM wants one token in place of each run of visual tokens.
    previous_ids = [None, *token_ids[:-1]]
    collapsed = [
        token
        for token, previous in zip(token_ids, previous_ids, strict=True)
        if token not in media_kinds or token != previous
    ]
    kinds = [media_kinds[token] for token in collapsed if token in media_kinds]

    grids = merged_grid(inputs.grid_thw.cpu(), config)  # (M, 3)
    too_long = any(time > max(rows, columns) for time, rows, columns in grids.tolist())
    if too_long and uses_transformers_positions(config):
        raise UserError(
            f"sample {prompt.id}: with train.use_vllm, a video for this model may have at most as many pairs of "
            f"frames as a frame has visual tokens on its longer side, and it has {int(grids[:, 0].max())} pairs: lower "
            "video.max_frames, use larger frames, or turn train.use_vllm off"
        )
    features = policy.vision_features([inputs]).split(grids.prod(-1).tolist()) if kinds else ()
    media = {
        kind: {f"{kind}_embeds": embeds.cpu(), f"{kind}_grid_thw": grid[None].cpu()}
        for kind, embeds, grid in zip(kinds, features, inputs.grid_thw, strict=True)
    }
    return {"prompt_token_ids": collapsed} | ({"multi_modal_data": media} if media else {})
