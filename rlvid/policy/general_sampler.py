"""Sample completions on the general path: a prompt is processed once, and its cache is forked for its completions.

One prompt is decoded at a time, so no row has padding on its left, which some models do not read exactly. The model
builds its cache and continues it itself: keys and values, sliding windows, states of linear layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from rlvid.policy.general import GeneralPolicy
from rlvid.policy.prefill import Prefilled
from rlvid.policy.sampler import Sampler, seeded_uniforms
from rlvid.policy.types import ModelInputs, ProcessorInputs
from rlvid.types import Group, Prompt


class GeneralSampler(Sampler):
    """Samples as `Sampler` does, with the model's own forward pass and cache."""

    policy: GeneralPolicy

    def _sample_batch(
        self, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], seed: str, prefilled: Prefilled | None
    ) -> list[Group]:
        assert prefilled is None, "the general path prefills each prompt by itself"
        return [self._sample_group(*row, seed) for row in zip(prompts, inputs, strict=True)]

    def _sample_group(self, prompt: Prompt, inputs: ModelInputs, seed: str) -> Group:
        assert isinstance(inputs, ProcessorInputs)
        shape = self.config.num_generations, self.config.max_completion_length
        uniforms = seeded_uniforms(*shape, f"{seed}|{prompt.sampling_key}")
        with self.policy.precision():
            tokens, logps = self._decode_group(inputs, uniforms.to(self.policy.device))
        return self._group(prompt, list(zip(tokens.tolist(), logps.tolist(), strict=True)))

    def _decode_group(self, inputs: ProcessorInputs, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the completions of one prompt; rows that have ended leave the batch, as in `Sampler._decode`.

        Returns:
            (G, T) tokens, and (G, T) log-probabilities, which have no meaning after a row's end.
        """
        end_token = self.policy.tokenizer.eos_token_id
        with self.timer("prefill"):
            logits, cache = self._prefill_group(inputs, len(uniforms))
        with self.timer("generate"):
            tokens = torch.full(uniforms.shape, end_token, device=uniforms.device)
            logps = torch.zeros(uniforms.shape, device=uniforms.device)
            rows = torch.arange(len(uniforms), device=uniforms.device)
            active = torch.ones_like(rows, dtype=torch.bool)
            last_step = uniforms.shape[1] - 1
            for step in range(uniforms.shape[1]):
                logits = self.policy.sampling_logits(logits, self.config.temperature or 1.0)
                token, logps[rows, step] = self._next_token(logits, uniforms[rows, step])
                tokens[rows, step] = token
                active &= token != end_token
                if step == last_step or not active.any():
                    break
                remaining = active.nonzero()[:, 0]
                if len(remaining) < len(active) and fork(cache, remaining):
                    rows, active, token = rows[remaining], active[remaining], token[remaining]
                output = self.policy.model(input_ids=token[:, None], past_key_values=cache, use_cache=True)
                logits, cache = output.logits[:, -1], output.past_key_values
        return tokens, logps

    def _prefill_group(self, inputs: ProcessorInputs, count: int) -> tuple[Tensor, Any]:
        """Return (G, V) logits after the prompt, and the cache of G rows, forked or else of G equal rows."""
        model = self.policy.model
        for module in model.modules():
            if hasattr(module, "rope_deltas"):  # of the last prompt; a prompt without pixels would not replace them
                module.rope_deltas = None
        output = model(**self.policy.arguments(inputs), use_cache=True, logits_to_keep=1)
        if fork(output.past_key_values, torch.zeros(count, dtype=torch.long, device=inputs.input_ids.device)):
            return output.logits[:, -1].expand(count, -1), output.past_key_values
        output = model(**self.policy.arguments(inputs, count), use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values


def fork(cache: Any, rows: Tensor) -> bool:
    """Make a cache hold these of its rows, in this order, each as often as it is named.

    Returns:
        Whether that was possible: a model may have a cache of its own kind.
    """
    if not isinstance(cache, Cache):
        return False
    cache.reorder_cache(rows)
    return True
