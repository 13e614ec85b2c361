"""The sampler against transformers' `generate`, against the learner, and CUDA graphs against eager decoding.

In bfloat16 two correct ways to compute a log-prob differ by rounding, so the bars are relative to the rounding that is
seen on the same device: the difference of the learner's log-probs in bfloat16 and in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from transformers import DynamicCache

from rlvid.bench.gpu.part_run import PartRun, in_bfloat16
from rlvid.bench.gpu.separate_rows import media_arguments
from rlvid.bench.implementations import generate_inputs
from rlvid.config import TrainConfig
from rlvid.policy.model import Policy
from rlvid.policy.parity import SAMPLER_TOLERANCE
from rlvid.policy.sampler import Sampler
from rlvid.policy.sampling_weights import SamplingWeights
from rlvid.policy.types import ModelInputs
from rlvid.types import Completion, Group, Prompt

EXACT = 1e-3  # nats, in float32
GREEDY_TOKENS, SAMPLED_TOKENS = 24, 64
COMPLETIONS = 4


def sampler(run: PartRun) -> None:
    """Compare greedy tokens with those of `generate`, and sampled log-probs with the learner's, in both precisions.

    In bfloat16, and with LoRA, decoding has weights of its own (`sampling_weights`); log-probs are compared once more
    after the model's weights have moved.
    """
    policy = run.policy()
    prompts, inputs = zip(*run.prompts(policy), strict=True)
    compare_greedy(run, policy, prompts, inputs, rounding=EXACT, precision="float32")
    groups = sample(policy, prompts, inputs, length(run, SAMPLED_TOKENS))
    exact = learner_logps(policy, inputs, groups)
    largest = (sampled_logps(groups) - exact).abs().max().item()
    run.record(float32_max=largest)
    run.require(largest <= EXACT, f"in float32 a sampled log-prob differs from the learner's by {largest:.1e} nats")

    with in_bfloat16(policy):
        rounding = (learner_logps(policy, inputs, groups) - exact).abs()
        compare_greedy(run, policy, prompts, inputs, rounding=2 * rounding.max().item(), precision="bf16")
        mean = mean_difference(run, policy, prompts, inputs)
        fused = SamplingWeights.of(policy) is not None
        move_weights(policy)
        moved = mean_difference(run, policy, prompts, inputs)  # a copy of old weights would be stale
    run.record(bf16_mean=mean, bf16_moved_mean=moved, rounding_mean=rounding.mean().item(), sampling_weights=fused)
    run.record(alarm_limit=SAMPLER_TOLERANCE[True])
    run.require(fused, "in bfloat16 the model's own layers decoded, not weights of their own")
    bar = 2 * rounding.mean().item()
    for what, difference in (("", mean), ("after the weights moved ", moved)):
        message = f"in bfloat16 {what}sampled log-probs differ by {difference:.1e} nats a token"
        run.require(difference <= bar, f"{message}, rounding allows {bar:.1e}")


def mean_difference(run: PartRun, policy: Policy, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs]) -> float:
    """Return the mean |sampled - learner's log-prob| of completions that are sampled now."""
    groups = sample(policy, prompts, inputs, length(run, SAMPLED_TOKENS))
    return (sampled_logps(groups) - learner_logps(policy, inputs, groups)).abs().mean().item()


def length(run: PartRun, tokens: int) -> int:
    """Return a number of tokens, less for a small preset."""
    return min(tokens, run.workload.completion_tokens)


def compare_greedy(
    run: PartRun,
    policy: Policy,
    prompts: Sequence[Prompt],
    inputs: Sequence[ModelInputs],
    rounding: float,
    precision: str,
) -> None:
    """Require the tokens of `generate`, up to the first whose log-prob is within `rounding` of the other's."""
    tokens = length(run, GREEDY_TOKENS)
    groups = sample(policy, prompts, inputs, tokens, temperature=0.0)
    same = ties = 0
    for prompt, prompt_inputs, group in zip(prompts, inputs, groups, strict=True):
        expected = generate_greedily(policy, prompt_inputs, tokens)
        for completion in group:
            ours = list(completion.tokens)
            first = next((i for i, pair in enumerate(zip(ours, expected, strict=True)) if pair[0] != pair[1]), None)
            if first is None:
                same += 1
                continue
            prefix = ours[: first + 1], expected[: first + 1]
            gap = last_token_gap(policy, prompt, prompt_inputs, *prefix)
            run.require(
                gap <= rounding,
                f"in {precision}, greedy token {first} is {ours[first]}, that of generate is {expected[first]}; "
                f"their float32 log-probs differ by {gap:.1e} nats",
            )
            ties += 1
    run.record(**{f"{precision}_greedy_same": same, f"{precision}_greedy_ties": ties})


@torch.no_grad()
def last_token_gap(
    policy: Policy, prompt: Prompt, inputs: ModelInputs, tokens: Sequence[int], other: Sequence[int]
) -> float:
    """Return |difference| of the float32 log-probs of two completions' last tokens; all tokens before are the same."""
    bf16, policy.bf16 = policy.bf16, False
    group = Group(prompt, [Completion("", tuple(tokens)), Completion("", tuple(other))])
    logps = policy([inputs], [group]).logps[:, -1]
    policy.bf16 = bf16
    return (logps[0] - logps[1]).abs().item()


@torch.no_grad()
def generate_greedily(policy: Policy, inputs: ModelInputs, tokens: int) -> list[int]:
    """Return the tokens of transformers' greedy completion, without an end token."""
    with policy.precision():
        output = policy.model.generate(
            **generate_inputs(policy, inputs),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            suppress_tokens=policy.banned_token_ids,
        )
    return output[0, len(inputs.input_ids) :].tolist()


def sample(
    policy: Policy, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], tokens: int, temperature: float = 1.0
) -> list[Group]:
    """Sample completions of exactly so many tokens: the end token is banned. Prompts share a batch."""
    end_token = policy.tokenizer.eos_token_id
    if end_token not in policy.banned_token_ids:
        policy.banned_token_ids = [*policy.banned_token_ids, end_token]
    train = TrainConfig(num_generations=COMPLETIONS, max_completion_length=tokens, temperature=temperature)
    return Sampler(policy, train, lambda phase: nullcontext())(prompts, inputs, "gpu")


def sampled_logps(groups: Sequence[Group]) -> Tensor:
    """Return (B, T) log-probs that completions of equal length were sampled with."""
    return torch.tensor([completion.logps for group in groups for completion in group])


@torch.no_grad()
def learner_logps(policy: Policy, inputs: Sequence[ModelInputs], groups: Sequence[Group]) -> Tensor:
    """Return (B, T) log-probs by packed rows."""
    return policy(inputs, groups).logps.float().cpu()


def graph(run: PartRun) -> None:
    """Compare decoding with CUDA graphs with eager decoding, and again after the weights have moved."""
    policy = run.policy()
    prompts, inputs = zip(*run.prompts(policy), strict=True)
    with counted_replays() as replays:
        compare_with_eager(run, policy, prompts, inputs, "")
        move_weights(policy)
        compare_with_eager(run, policy, prompts, inputs, "moved_")  # a graph or a copy of old weights would be stale
    run.record(replays=len(replays))
    run.require(len(replays) > 0, "no CUDA graph was replayed: decoding was eager")


def compare_with_eager(
    run: PartRun, policy: Policy, prompts: Sequence[Prompt], inputs: Sequence[ModelInputs], prefix: str
) -> None:
    """Require that log-probs of sampled completions are those of eager decoding, in both precisions."""
    tokens = length(run, SAMPLED_TOKENS)
    groups = sample(policy, prompts, inputs, tokens)
    largest = (sampled_logps(groups) - eager_logps(policy, inputs, groups)).abs().max().item()
    run.record(**{f"{prefix}float32_max": largest})
    run.require(largest <= EXACT, f"in float32 a log-prob differs from eager decoding by {largest:.1e} nats")
    with in_bfloat16(policy):
        groups = sample(policy, prompts, inputs, tokens)
        eager = eager_logps(policy, inputs, groups)
        mean = (sampled_logps(groups) - eager).abs().mean().item()
        bar = 2 * (eager - learner_logps(policy, inputs, groups)).abs().mean().item()
    run.record(**{f"{prefix}bf16_mean": mean, f"{prefix}bf16_bar": bar})
    run.require(mean <= bar, f"in bfloat16 log-probs differ from eager decoding by {mean:.1e} nats a token")


@torch.no_grad()
def move_weights(policy: Policy) -> None:
    """Change all trained weights in place, as an optimizer step does."""
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.mul_(1.05)


@torch.no_grad()
def eager_logps(policy: Policy, inputs: Sequence[ModelInputs], groups: Sequence[Group]) -> Tensor:
    """Return (B, T) log-probs of completions of equal length, decoded token by token with transformers' own cache."""
    rows = [_eager_group(policy, *row) for row in zip(inputs, groups, strict=True)]
    return torch.cat(rows).cpu()


def _eager_group(policy: Policy, inputs: ModelInputs, group: Group) -> Tensor:
    tokens = torch.tensor([completion.tokens for completion in group], device=policy.device)  # (G, T)
    prompt = inputs.input_ids[None].to(policy.device)
    cache = DynamicCache(config=policy.model.config.text_config)
    logps = []
    with policy.precision():
        hidden = policy.model.model(
            input_ids=prompt,
            position_ids=inputs.position_ids[:, None].to(policy.device),
            past_key_values=cache,
            use_cache=True,
            **media_arguments(policy, inputs, inputs.input_ids[None].cpu()),
        ).last_hidden_state[:, -1]
        hidden = hidden.expand(len(tokens), -1)
        cache.batch_repeat_interleave(len(tokens))
        for step, token in enumerate(tokens.T):
            distribution = policy.logits(hidden, 1.0).log_softmax(-1)
            logps.append(distribution.gather(-1, token[:, None])[:, 0])
            position = torch.full((3, len(tokens), 1), inputs.next_position + step, device=policy.device)
            hidden = policy.model.model.language_model(
                inputs_embeds=policy.model.get_input_embeddings()(token[:, None]),
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
    return torch.stack(logps, dim=1)


@contextmanager
def counted_replays() -> Iterator[list[int]]:
    """Yield a list that grows with every replay of a CUDA graph."""
    replays: list[int] = []
    original = torch.cuda.CUDAGraph.replay

    def replay(self: torch.cuda.CUDAGraph) -> None:
        replays.append(1)
        original(self)

    torch.cuda.CUDAGraph.replay = replay  # type: ignore[method-assign]
    try:
        yield replays
    finally:
        torch.cuda.CUDAGraph.replay = original  # type: ignore[method-assign]
