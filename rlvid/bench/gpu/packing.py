"""Packed rows against separate rows: log-probs and gradients, in float32 and in bfloat16.

In bfloat16 every other order of summation changes results, the more the deeper the model is. So the bars there are
relative to what is seen on the same device: how much other paddings of the separate rows change, and how far the
separate rows are from float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from rlvid.bench.gpu.part_run import PartRun, in_bfloat16, random_groups
from rlvid.bench.gpu.separate_rows import score_alone, score_padded
from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs
from rlvid.types import Group

EXACT = 3e-4  # in float32: log-probs in nats, and gradients relative to their norm
Score = Callable[[], Tensor]  # -> (N,) log-probs of all tokens


def packed_rows(run: PartRun) -> None:
    """Compare packed rows with separate rows."""
    policy = run.policy()
    policy.vision_cache = None  # the tower computes in the precision of the comparison
    prompts, inputs = zip(*run.prompts(policy), strict=True)
    workload = run.workload
    groups = random_groups(prompts, workload.num_generations, workload.completion_tokens, ragged=True)
    packed, alone, padded = forms(policy, inputs, groups)
    with torch.no_grad():
        compare_log_probs(run, policy, packed, alone, padded)
    compare_gradients(run, policy, packed, alone)


def forms(policy: Policy, inputs: Sequence[ModelInputs], groups: Sequence[Group]) -> tuple[Score, Score, list[Score]]:
    """Return the functions that score all tokens: packed, in rows alone, and in batches with two paddings."""

    def packed() -> Tensor:
        logps = policy(inputs, groups).logps
        lengths = [len(completion.tokens) for group in groups for completion in group]
        return torch.cat([row[:length] for row, length in zip(logps, lengths, strict=True)])

    def over_groups(score: Callable[[ModelInputs, Group], Tensor]) -> Tensor:
        return torch.cat([score(*row) for row in zip(inputs, groups, strict=True)])

    def alone() -> Tensor:
        return over_groups(lambda prompt, group: score_alone(policy, prompt, group))

    def in_batches(padding: int) -> Score:
        return lambda: over_groups(lambda prompt, group: score_padded(policy, prompt, group, padding))

    return packed, alone, [in_batches(0), in_batches(37)]


def compare_log_probs(run: PartRun, policy: Policy, packed: Score, alone: Score, padded: Sequence[Score]) -> None:
    """Compare mean differences of log-probs, in nats a token."""
    exact = alone()
    float32 = (packed() - exact).abs().max().item()
    with in_bfloat16(policy):
        separate, ours = alone(), packed()
        paddings = [separate, *(score() for score in padded)]
    run.record(
        float32_max=float32,
        bf16_packed=mean_difference(ours, separate),
        bf16_paddings=max(mean_difference(*pair) for pair in combinations(paddings, 2)),
        rounding_packed=mean_difference(ours, exact),
        rounding_separate=mean_difference(separate, exact),
    )
    values = run.values
    run.require(bool(ours.isfinite().all()), "log-probs of packed rows in bfloat16 are not finite")
    run.require(float32 <= EXACT, f"in float32 a log-prob of packed rows differs by {float32:.1e} nats")
    bar = 1.5 * float(values["bf16_paddings"])
    run.require(
        float(values["bf16_packed"]) <= bar,
        f"in bfloat16 packed rows differ by {values['bf16_packed']:.1e} nats a token, paddings allow {bar:.1e}",
    )
    bar = 1.25 * float(values["rounding_separate"])
    run.require(
        float(values["rounding_packed"]) <= bar,
        f"in bfloat16 packed rows are {values['rounding_packed']:.1e} nats a token from float32, separate ones allow "
        f"{bar:.1e}",
    )


def compare_gradients(run: PartRun, policy: Policy, packed: Score, alone: Score) -> None:
    """Compare the gradients of a random sum of all log-probs, by the norm of their difference over all weights."""
    policy.train()  # gradient checkpointing is active in training mode only
    exact = gradients(policy, alone)
    float32 = relative_difference(gradients(policy, packed), exact)
    with in_bfloat16(policy):
        separate = relative_difference(gradients(policy, alone), exact)
        ours = relative_difference(gradients(policy, packed), exact)
    run.record(gradient_float32=float32, gradient_rounding_packed=ours, gradient_rounding_separate=separate)
    run.require(float32 <= EXACT, f"in float32 the gradient of packed rows differs by {float32:.1e} of its norm")
    run.require(
        ours <= 1.25 * separate,
        f"in bfloat16 the gradient of packed rows is {ours:.1e} of its norm from float32, that of separate rows "
        f"{separate:.1e}",
    )


def gradients(policy: Policy, score: Score) -> list[Tensor]:
    """Return the gradient of a random sum of log-probs, for each trained weight."""
    random = torch.Generator().manual_seed(1)
    logps = score()
    (logps * torch.rand(len(logps), generator=random).to(logps)).sum().backward()
    result = [p.grad for p in policy.parameters() if p.requires_grad and p.grad is not None]
    policy.zero_grad(set_to_none=True)
    return result


def relative_difference(gradient: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return |gradient - other| / |other| over all weights."""
    squares = [(g - o).double().square().sum() for g, o in zip(gradient, other, strict=True)]
    norms = [o.double().square().sum() for o in other]
    return float((torch.stack(squares).sum() / torch.stack(norms).sum()).sqrt())


def mean_difference(logps: Tensor, other: Tensor) -> float:
    """Return the mean absolute difference, in nats a token."""
    return float((logps - other).abs().mean())
