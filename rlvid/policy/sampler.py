"""Sample completions: each prompt is prefilled once, then G completions of all prompts are decoded together.

The G x T random numbers of a prompt come from a generator seeded with the run's seed, the step and the sample id, and
with which time it is if the prompt occurs in its step before. So a completion does not depend on the batch or the
process in which it is sampled, and runs with equal seeds use the same random numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy.decoding import SharedPrefixCache
from rlvid.policy.graph_cache import CudaGraphCache
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.prefill import PhaseTimer, Prefilled, prefill
from rlvid.policy.sampling_weights import SamplingWeights
from rlvid.policy.types import ModelInputs
from rlvid.types import Completion, Group, Prompt

SampleFn = Callable[[Sequence[Prompt], Sequence[ModelInputs], str], list[Group]]  # the last is the seed


class DemonstrationSampler:
    """Takes completions from the data set: the prompt's demonstration, and the rejected reply if it has one."""

    def __init__(self, policy: Policy, config: TrainConfig, timer: PhaseTimer) -> None:
        self.tokenizer = policy.tokenizer

    def __call__(self, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], seed: str) -> list[Group]:
        """Return one group per prompt; each completion ends with the end token.

        Raises:
            UserError: if a prompt has no demonstration.
        """
        return [Group(prompt, [self._completion(text) for text in self._texts(prompt)]) for prompt in prompts]

    def _texts(self, prompt: Prompt) -> list[str]:
        if not prompt.demonstration:
            raise UserError(f"sample {prompt.id} has no demonstration; train on the file with demonstrations (CoT)")
        return [prompt.demonstration, *([prompt.rejected] if prompt.rejected else [])]

    def _completion(self, text: str) -> Completion:
        return Completion(text, (*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id))


class CompletionBuffer:
    """The tokens of a batch that is decoded, whose rows leave it as they end.

    `rows` holds the rows of the output that the batch still has, and `active` which of them have not ended. For B = 4
    rows, of which row 1 ends at step 1 and row 3 at step 2:

        step   rows        active after it      tokens
        0      0 1 2 3     1 1 1 1              a  d  f  m
        1      0 1 2 3     1 0 1 1              b  E  g  n      E is the end token
        2      0 2 3       1 1 0                c  E  h  E
        3      0 2         ...

    `add` launches nothing on a GPU; `write` copies what was added since the last time to the output, at once.

    Args:
        shape: (B, T), rows and the most tokens of each.
        end_token: fills the output, and ends a row.
        device: of all tensors.

    Attributes:
        tokens, logps: (B, T), the output.
    """

    def __init__(self, shape: Sequence[int], end_token: int, device: torch.device) -> None:
        self.tokens = torch.full(shape, end_token, device=device)
        self.logps = torch.zeros(shape, device=device)
        self.rows = torch.arange(shape[0], device=device)
        self.active = torch.ones_like(self.rows, dtype=torch.bool)
        self.end_token, self.written = end_token, 0
        self.added: list[tuple[Tensor, Tensor]] = []

    def add(self, tokens: Tensor, logps: Tensor) -> None:
        """Take the next token and log-probability of each row, (R,)."""
        self.added.append((tokens, logps))

    def write(self) -> Tensor:
        """Write what was added to the output; return which rows have not ended, (R,) bool."""
        if self.added:
            tokens, logps = (torch.stack(parts, dim=1) for parts in zip(*self.added, strict=True))  # (R, added)
            start, self.written = self.written, self.written + len(self.added)
            self.tokens[self.rows, start : self.written] = tokens
            self.logps[self.rows, start : self.written] = logps
            self.active = self.active & (tokens != self.end_token).all(1)
            self.added = []
        return self.active

    def keep(self, remaining: Tensor) -> None:
        """Keep these of the batch's rows only; all that was added must be written."""
        self.rows, self.active = self.rows[remaining], self.active[remaining]


class Sampler:
    """Samples `num_generations` completions of each prompt from the policy. Temperature 0 is greedy decoding.

    If memory runs out, it decodes fewer prompts at a time.
    """

    def __init__(self, policy: Policy, config: TrainConfig, timer: PhaseTimer) -> None:
        self.policy, self.config, self.timer = policy, config, timer
        self.backoff = OOMBackoff("prompts")
        on_cpu = policy.device.type == "cpu"
        # How often finished rows are looked for, in tokens. A GPU would wait for the CPU each time.
        self.finished_interval = 1 if on_cpu else 8
        self.cache_type: type[SharedPrefixCache] | type[CudaGraphCache] = (
            SharedPrefixCache if on_cpu else CudaGraphCache
        )

    @torch.no_grad()
    def __call__(
        self, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], seed: str, prefilled: Prefilled | None = None
    ) -> list[Group]:
        """Return one group per prompt. Completions depend on `seed` and the prompt's `sampling_key`, not on others.

        `prefilled` are the prompts, if they went through the model already.
        """
        for size in self.backoff.sizes(len(prompts)):
            with self.backoff.attempt():
                groups: list[Group] = []
                for start in range(0, len(prompts), size):
                    batch = range(start, min(start + size, len(prompts)))
                    groups += self._sample_batch(
                        [prompts[i] for i in batch],
                        [inputs[i] for i in batch],
                        seed,
                        prefilled and prefilled.select(batch),
                    )
                return groups
        raise AssertionError("unreachable: sizes() yields until it raises")

    def _sample_batch(
        self, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], seed: str, prefilled: Prefilled | None
    ) -> list[Group]:
        count, length = self.config.num_generations, self.config.max_completion_length
        uniforms = torch.zeros(len(prompts) * count, length, dtype=torch.float64)  # (B, T)
        if self.config.temperature:  # greedy decoding needs no random numbers
            keys = [f"{seed}|{prompt.sampling_key}" for prompt in prompts]
            uniforms = torch.cat([seeded_uniforms(count, length, key) for key in keys])
        if prefilled is None:
            with self.policy.precision():  # at its end autocast frees its copies of the weights
                prefilled = prefill(self.policy, inputs, self.timer)
        with self.policy.precision():
            tokens, logps = self._decode(prefilled, uniforms.to(self.policy.device))
        rows = list(zip(tokens.tolist(), logps.tolist(), strict=True))
        return [self._group(prompt, rows[i * count : (i + 1) * count]) for i, prompt in enumerate(prompts)]

    def _decode(self, prefilled: Prefilled, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Decode `num_generations` completions of each prompt, one token per step.

        Rows that have ended leave the batch (see `CompletionBuffer`). They stay in it until the next look for them, and
        `CudaGraphCache` may keep them longer; what is decoded for them is cut off later.

        Args:
            prefilled: P prompts.
            uniforms: (B, T) random numbers in [0, 1), B = P * num_generations.

        Returns:
            (B, T) tokens, and (B, T) log-probabilities, which have no meaning after a row's end.
        """
        with self.timer("generate"):
            count, end_token = self.config.num_generations, self.policy.tokenizer.eos_token_id
            hidden = prefilled.hidden.repeat_interleave(count, dim=0)  # (B, hidden)
            output = CompletionBuffer(uniforms.shape, end_token, hidden.device)
            weights = SamplingWeights.of(self.policy)
            head = weights.head if weights else self.policy.model.lm_head
            cache = self.cache_type(
                self.policy, prefilled.cache, prefilled.attention_mask, prefilled.next_positions, count, weights
            )
            last_step = uniforms.shape[1] - 1
            for step in range(uniforms.shape[1]):
                logits = self.policy.sampling_logits(head(hidden), self.config.temperature or 1.0)
                token, logps = self._next_token(logits, uniforms[:, step])
                output.add(token, logps)
                if step == last_step:
                    break
                if (step + 1) % self.finished_interval == 0:
                    active = output.write()
                    if not active.any():
                        break
                    remaining = cache.drop_finished(active)
                    if len(remaining) < len(active):
                        output.keep(remaining)
                        uniforms, token = uniforms[remaining], token[remaining]
                hidden = cache.decode(token)
            output.write()
        return output.tokens, output.logps

    def _next_token(self, logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """(R, V) logits and (R,) uniforms -> (R,) tokens and log-probabilities at the sampling temperature."""
        logps = logits.log_softmax(-1)
        token = sample_tokens(logps, uniforms, self.config.top_p) if self.config.temperature else logps.argmax(-1)
        return token, logps.gather(-1, token[:, None])[:, 0]

    def _group(self, prompt: Prompt, rows: Sequence[tuple[list[int], list[float]]]) -> Group:
        """Return a prompt's completions, from tokens and log-probabilities. Raises UserError if logits were NaN."""
        completions = [self._completion(*row) for row in rows]
        for completion in completions:
            broken = next((i for i, logp in enumerate(completion.logps) if math.isnan(logp)), None)
            if broken is not None:
                raise UserError(
                    f"sample {prompt.id}: the logits of token {broken} of a completion are NaN: the weights, or a "
                    "kernel, are broken. Compare with train.dtype=float32, and with an earlier checkpoint"
                )
        return Group(prompt, completions)

    def _completion(self, tokens: list[int], logps: list[float]) -> Completion:
        """Cut a row after its end token. A row without one was cut off by the length limit."""
        end_token = self.policy.tokenizer.eos_token_id
        finished = end_token in tokens
        length = tokens.index(end_token) + 1 if finished else len(tokens)
        text = self.policy.tokenizer.decode(tokens[: length - finished], skip_special_tokens=False)
        return Completion(text, tuple(tokens[:length]), tuple(logps[:length]), finished)


def make_sampler(policy: Policy, config: TrainConfig, timer: PhaseTimer) -> SampleFn:
    """Return a sampler of the policy: `Sampler`, vLLM's with `train.use_vllm`, or that of the general path."""
    if config.use_vllm:
        from rlvid.policy.vllm import VLLMSampler

        return VLLMSampler(policy, config, timer)
    if not policy.family.packs_rows:
        from rlvid.policy.general_sampler import GeneralSampler

        return GeneralSampler(policy, config, timer)
    return Sampler(policy, config, timer)


def free_sampler_memory(config: TrainConfig) -> None:
    """Free the memory that vLLM holds until the next completion is sampled; other samplers hold none."""
    if config.use_vllm:
        from rlvid.policy.vllm import Engine

        if Engine.current:
            Engine.current.sleep()


# By an algorithm's `completion_source`.
SAMPLERS: dict[str, Callable[[Policy, TrainConfig, PhaseTimer], SampleFn]] = {
    "policy": make_sampler,
    "data": DemonstrationSampler,
}


def seeded_uniforms(rows: int, length: int, key: str) -> Tensor:
    """Return (rows, length) float64 numbers in [0, 1) that depend on the key alone."""
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) >> 1
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample_tokens(logps: Tensor, uniforms: Tensor, top_p: float = 1.0) -> Tensor:
    """Sample tokens by inverting the cumulative distribution.

    The sum is in float64: in float32, rounding adds up over a large vocabulary, and a token less likely than the last
    digit of the sum before it is never sampled (`test_a_sum_in_float32_would_lose_tokens`).

    Args:
        logps: (B, V) log-probabilities.
        uniforms: (B,) random numbers in [0, 1), in float64 at most: then uniform * total rounds below the total, and
            no token after the last possible one is selected.
        top_p: keeps the smallest set of most likely tokens whose probability reaches it (nucleus sampling,
            arXiv:1904.09751).

    Returns:
        (B,) tokens. A token of probability 0 is never returned; where log-probabilities are NaN, it is any token.

    >>> logps = torch.tensor([[0.5, 0.25, 0.25]]).log().expand(3, -1)
    >>> sample_tokens(logps, torch.tensor([0.4, 0.6, 0.8])).tolist()
    [0, 1, 2]
    """
    order = None
    if top_p < 1:
        logps, order = logps.sort(descending=True, dim=-1)  # in float32, half the work of a sort in float64
    probs = logps.double().exp_()
    if top_p < 1:
        probs_before = probs.cumsum(-1) - probs
        probs = probs * (probs_before < top_p)
    cdf = probs.cumsum_(-1)  # not normalised: it ends at the sum of what is kept
    token = torch.searchsorted(cdf, (uniforms * cdf[:, -1])[:, None], right=True)
    token = token.clamp_(max=logps.shape[-1] - 1)  # NaN is sorted behind the last token
    return (token if order is None else order.gather(-1, token))[:, 0]
