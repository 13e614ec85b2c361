"""Rollouts: prefill once per prompt, and sample G replies of each of all prompts together.

Randomness belongs to the prompt: its G x T uniforms come from a generator seeded by the run's seed, the step and the
sample id. So a sample does not depend on the batch or the process that it was drawn in, and runs that share a seed
share their luck.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy.decoding import CudaGraphCache, LowPrecisionDynamicCache, SharedPrefixCache
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.types import ModelInputs
from rlvid.types import Completion, Group, Prompt

PhaseTimer = Callable[[str], AbstractContextManager[None]]
SampleFn = Callable[
    [Sequence[Prompt], Sequence[ModelInputs], str], list[Group]
]  # prompts, as they are read, seed -> groups


class DemonstrationSampler:
    """Acts by reading from the data set: a group is the prompt's demonstration, and what was rejected, if anything."""

    def __init__(self, policy: Policy, config: TrainConfig, timed: PhaseTimer) -> None:
        self.tokenizer = policy.tokenizer

    def __call__(self, prompts: Sequence[Prompt], encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        """The demonstrations, ended by the end token."""
        return [Group(prompt, [self._completion(text) for text in self._texts(prompt)]) for prompt in prompts]

    def _texts(self, prompt: Prompt) -> list[str]:
        if not prompt.demonstration:
            raise UserError(f"sample {prompt.id} has no demonstration to imitate; the CoT file is the one to train on")
        return [prompt.demonstration, *([prompt.rejected] if prompt.rejected else [])]

    def _completion(self, text: str) -> Completion:
        return Completion(text, (*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id))


class Sampler:
    """Acts by sampling `num_generations` completions of each prompt. Temperature 0 is greedy."""

    def __init__(self, policy: Policy, config: TrainConfig, timed: PhaseTimer) -> None:
        self.policy, self.config, self.timed = policy, config, timed
        self.backoff = OOMBackoff("prompts")
        self.decoding: type[SharedPrefixCache] | type[CudaGraphCache] = (
            SharedPrefixCache if policy.device.type == "cpu" else CudaGraphCache
        )

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        """Groups in the prompts' order; the same seed and sample give the same completions, few or many at a time."""

        for size in self.backoff.sizes(len(prompts)):
            with self.backoff.attempt(size):
                starts = range(0, len(prompts), size)
                return [g for i in starts for g in self._together(prompts[i : i + size], encoded[i : i + size], seed)]
        raise AssertionError("unreachable: sizes() yields until it raises")

    def _together(self, prompts: Sequence[Prompt], encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        count, length = self.config.num_generations, self.config.max_completion_length
        uniforms = [seeded_uniforms(count, length, f"{seed}|{prompt.id}") for prompt in prompts]
        with self.policy.precision():
            tokens, logps = self._decode(*self._prefill(encoded), count, torch.cat(uniforms).to(self.policy.device))
        completions = [self._completion(*row) for row in zip(tokens.tolist(), logps.tolist(), strict=True)]
        return [Group(p, completions[i * count : (i + 1) * count]) for i, p in enumerate(prompts)]

    def _prefill(self, encoded: Sequence[ModelInputs]) -> tuple[DynamicCache, Tensor, Tensor, Tensor]:
        """Run the P prompts once, padded on the left: cache, last states, what is no padding, where replies begin."""
        with self.timed("vision"):
            embeds = self.policy.embed(encoded)
        with self.timed("prefill"):
            cache = LowPrecisionDynamicCache(config=self.policy.model.config.text_config)
            seen, positions = (
                pad_sequence(x, batch_first=True, padding_side="left")
                for x in ([torch.ones_like(p.input_ids) for p in encoded], [p.position_ids.T for p in encoded])
            )
            hidden = self.policy.model.model.language_model(
                inputs_embeds=pad_sequence(embeds, batch_first=True, padding_side="left"),
                attention_mask=seen,
                position_ids=positions.permute(2, 0, 1),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        return cache, hidden, seen, torch.tensor([p.next_position for p in encoded], device=hidden.device)

    def _decode(
        self, cache: DynamicCache, hidden: Tensor, seen: Tensor, place: Tensor, count: int, uniforms: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, T) tokens and their log-probabilities, which mean nothing after a row's end."""
        with self.timed("generate"):
            hidden = hidden.repeat_interleave(count, dim=0)
            eos, rows = self.policy.tokenizer.eos_token_id, torch.arange(len(hidden), device=hidden.device)
            tokens = torch.full(uniforms.shape, eos, device=hidden.device)
            logps = torch.zeros(uniforms.shape, device=hidden.device)
            step, going = self.decoding(self.policy, cache, seen, place, count), torch.ones_like(rows, dtype=torch.bool)
            for t in range(uniforms.shape[1]):
                token, logps[rows, t] = self._choose(hidden, uniforms[rows, t])
                tokens[rows, t] = token
                going &= token != eos
                if t + 1 == uniforms.shape[1] or not going.any():
                    break
                stay = step.keep(going)
                rows, going = rows[stay], going[stay]
                hidden = step(token[stay])
        return tokens, logps

    def _choose(self, hidden: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """The next token of each row, and its log-probability at the sampling temperature."""
        logps = self.policy.logits(hidden, self.config.temperature or 1.0).log_softmax(-1)
        token = sample_tokens(logps, uniforms, self.config.top_p) if self.config.temperature else logps.argmax(-1)
        return token, logps.gather(-1, token[:, None])[:, 0]

    def _completion(self, tokens: list[int], logps: list[float]) -> Completion:
        """Cut a row after its end token; without one it was cut off by the length limit."""
        eos = self.policy.tokenizer.eos_token_id
        finished = eos in tokens
        length = tokens.index(eos) + 1 if finished else len(tokens)
        text = self.policy.tokenizer.decode(tokens[: length - finished], skip_special_tokens=False)
        return Completion(text, tuple(tokens[:length]), tuple(logps[:length]), finished)


def make_sampler(policy: Policy, config: TrainConfig, timed: PhaseTimer) -> SampleFn:
    """Ours, or with `use_vllm` vLLM's."""
    if config.use_vllm:
        from rlvid.policy.vllm import VLLMSampler

        return VLLMSampler(policy, config, timed)
    return Sampler(policy, config, timed)


SAMPLERS: dict[str, Callable[[Policy, TrainConfig, PhaseTimer], SampleFn]] = {
    "policy": make_sampler,
    "data": DemonstrationSampler,
}


def seeded_uniforms(rows: int, length: int, key: str) -> Tensor:
    """(rows, length) float64 in [0, 1), a function of the key alone."""
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) >> 1
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample_tokens(logps: Tensor, uniforms: Tensor, top_p: float = 1.0) -> Tensor:
    """(B, V) log-probabilities and (B,) uniforms -> (B,) tokens, by inverting the cumulative distribution.

    `top_p` keeps the fewest likeliest tokens whose probability reaches it (nucleus sampling, arXiv:1904.09751).
    """
    probs, order = logps.double().exp(), None
    if top_p < 1:
        probs, order = probs.sort(descending=True, dim=-1)
        probs = probs * (probs.cumsum(-1) - probs < top_p)
    cdf = probs.cumsum(-1)
    below = torch.minimum(uniforms * cdf[:, -1], cdf[:, -1].nextafter(cdf.new_zeros(())))
    token = torch.searchsorted(cdf, below[:, None], right=True)
    return (token if order is None else order.gather(-1, token))[:, 0]
