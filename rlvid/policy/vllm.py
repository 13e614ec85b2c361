"""Rollouts by vLLM (Kwon et al. 2023, arXiv:2309.06180), for those who have it: `train.use_vllm=true`.

The engine stands in this process beside the policy and takes over its weights whenever they have moved. It never sees a
pixel: what the vision tower makes of a clip is the policy's own, made once for a group, and vLLM runs the language
model. Unlike our own sampler's, its luck belongs to the batch, not to the sample, and sums are made in another order:
runs repeat, but not bit for bit. `sampling/sampling_logp_difference` says how far sampler and learner are apart.
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
from rlvid.policy.mrope import uses_transformers_positions
from rlvid.types import Completion, Group, Prompt

if TYPE_CHECKING:
    from rlvid.policy.model import Policy
    from rlvid.policy.sampler import PhaseTimer
    from rlvid.policy.types import ModelInputs


class VLLMSampler:
    """Acts as `Sampler` does, through the policy's engine."""

    def __init__(self, policy: Policy, config: TrainConfig, timed: PhaseTimer) -> None:
        self.policy, self.config, self.timed = policy, config, timed
        self.engine = Engine.of(policy, config)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        """Groups in the prompts' order."""
        with self.timed("vision"), self.policy.precision():
            asked = [vllm_prompt(self.policy, p, e) for p, e in zip(prompts, encoded, strict=True)]
        with self.timed("weights"):
            self.engine.sync_weights()
        with self.timed("generate"):
            luck = "|".join((seed, *(prompt.id for prompt in prompts)))
            torch.manual_seed(int.from_bytes(hashlib.blake2b(luck.encode(), digest_size=8).digest()) >> 1)
            answered = self.engine.llm.generate(asked, self.engine.sampling(self.config), use_tqdm=False)
        return [Group(p, [self._completion(o) for o in a.outputs]) for p, a in zip(prompts, answered, strict=True)]

    def _completion(self, output: Any) -> Completion:
        tokens, tokenizer = list(output.token_ids), self.policy.tokenizer
        finished = tokens[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(tokens[: len(tokens) - finished], skip_special_tokens=False)
        logps = [scores[token].logprob for token, scores in zip(tokens, output.logprobs, strict=True)]
        return Completion(text, tuple(tokens), tuple(logps), finished)


class Engine:
    """vLLM's engine of one policy, and which of its weights it has. A process has one: vLLM keeps state of its own."""

    only: ClassVar[Engine | None] = None

    @classmethod
    def of(cls, policy: Policy, config: TrainConfig) -> Engine:
        """The policy's engine; another policy's is ended."""
        if cls.only is not None and cls.only.model is not policy.model:
            cls.only.llm.llm_engine.engine_core.shutdown()
            cls.only = None
            gc.collect()
        cls.only = cls.only or cls(policy, config)
        return cls.only

    def __init__(self, policy: Policy, config: TrainConfig) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = (
            "0"  # in this process, where weights are handed over by reference
        )
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import vllm

        self.model, self.params = policy.model, vllm.SamplingParams
        self.eos, self.banned_token_ids = policy.tokenizer.eos_token_id, policy.banned_token_ids
        self.llm = vllm.LLM(
            policy.model.name_or_path,
            dtype="bfloat16" if policy.mixed else "float32",
            gpu_memory_utilization=config.vllm_gpu_memory_utilization,
            max_model_len=config.vllm_max_model_length or None,
            enforce_eager=policy.device.type == "cpu",
            enable_mm_embeds=True,
            limit_mm_per_prompt={"image": 1, "video": 1},
            logprobs_mode="processed_logprobs",  # at the sampling temperature, as the learner's
        )
        self.versions: tuple[int, ...] = ()

    def sync_weights(self) -> None:
        """Take over the policy's weights if they have moved, an adapter's folded in."""
        now = tuple(parameter._version for parameter in self.model.parameters())
        if now != self.versions:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": lora.merged_weights(self.model)})
            self.llm.apply_model(repack_tied_head)
            self.llm.reset_prefix_cache()
            self.llm.llm_engine.reset_encoder_cache()
            self.versions = now

    def sampling(self, config: TrainConfig) -> Any:
        """How a group is drawn."""
        return self.params(
            n=config.num_generations,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_completion_length,
            ignore_eos=True,  # a model's folder may name several; replies end at the tokenizer's
            stop_token_ids=[self.eos],
            logit_bias=dict.fromkeys(self.banned_token_ids, -100.0),  # the most that vLLM takes
            logprobs=0,  # of what was drawn, and of nothing else
            detokenize=False,
        )


def repack_tied_head(model: Any) -> None:
    """Have a head that is tied to the embeddings follow them: on a CPU vLLM 0.32 keeps a packed copy of it."""
    head = model.language_model.lm_head
    head.quant_method.process_weights_after_loading(head)


def vllm_prompt(policy: Policy, prompt: Prompt, encoded: ModelInputs) -> Mapping[str, Any]:
    """A prompt as vLLM takes it: one token for each medium, and what the vision tower made of it.

    Refuses, for a model that was trained with transformers' positions, a video after which vLLM lets text begin later.
    """
    ids, config = encoded.input_ids.tolist(), policy.model.config
    kinds = {config.video_token_id: "video", config.image_token_id: "image"}
    media = [kinds[t] for t, before in zip(ids, [None, *ids[:-1]], strict=True) if t in kinds and t != before]
    merged = policy.merged(encoded.grid_thw.cpu())
    if uses_transformers_positions(config) and any(
        time > max(rows, columns) for time, rows, columns in merged.tolist()
    ):
        raise UserError(
            f"sample {prompt.id}: with train.use_vllm a video shown to this model may have at most as many pairs of "
            f"frames as a frame has visual tokens to a side, and it has {int(merged[:, 0].max())} pairs: lower "
            "video.max_frames, show larger frames, or leave train.use_vllm out"
        )
    features = policy.look([encoded]).split(merged.prod(-1).tolist()) if media else ()
    shown = {
        kind: {f"{kind}_embeds": seen.cpu(), f"{kind}_grid_thw": grid[None].cpu()}
        for kind, seen, grid in zip(media, features, encoded.grid_thw, strict=True)
    }
    short = [t for t, before in zip(ids, [None, *ids[:-1]], strict=True) if not (t in kinds and t == before)]
    return {"prompt_token_ids": short} | ({"multi_modal_data": shown} if shown else {})
