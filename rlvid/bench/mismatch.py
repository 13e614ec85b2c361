"""How often would the alarm `mismatch` be raised where nothing is wrong, and where something is?

The alarm compares the log-probabilities that completions were sampled with to those of the learner, on average over the
tokens of a step, with a limit for each precision (`parity.SAMPLER_TOLERANCE`). Here steps are sampled as in a run, and
scored by the learner as they are, and with a fault planted:

    nothing        the same weights and inputs: an alarm would be false
    stale weights  the learner is one step of AdamW ahead of the sampler, with the learning rate of the preset nano
    shuffled       the learner sees the frames in another order
    dropped        the learner sees the first half of the frames twice

python -m rlvid.bench.mismatch
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from rlvid.config import load
from rlvid.data.benchmark import root
from rlvid.data.prompts import prompts_of_step
from rlvid.data.seed_bench_r1 import load as load_prompts
from rlvid.policy.model import Policy
from rlvid.policy.parity import SAMPLER_TOLERANCE
from rlvid.policy.sampler import make_sampler
from rlvid.types import Group, Prompt
from rlvid.utils.logging import silence_libraries
from rlvid.utils.proportions import wilson
from rlvid.video.views import Clip, apply_view

LEARNING_RATE = 1e-4  # of the preset nano
PROMPTS, COMPLETIONS, TOKENS = 6, 4, 48  # of a step


@dataclass
class StepMeans:
    """For each fault, the mean difference of each step, in nats a token; and the largest of any token without one."""

    means: dict[str, list[float]] = field(default_factory=dict)
    largest: float = 0.0

    def add(self, fault: str, differences: np.ndarray) -> None:
        """Add a step's differences, one per token."""
        self.means.setdefault(fault, []).append(float(differences.mean()))
        if fault == "nothing":
            self.largest = max(self.largest, float(differences.max()))

    def alarms(self, fault: str, limit: float) -> int:
        """The number of steps that would raise the alarm."""
        return sum(mean > limit for mean in self.means[fault])


def measure(model: str, dtype: str, steps: int) -> StepMeans:
    """Sample steps with a model and compare them with the learner.

    Args:
        model: as of `rlvid train`.
        dtype: "float32" or "bfloat16".
        steps: how many; each has other prompts and other random numbers.
    """
    config = load("nano", [f'model="{model}"', f'train.dtype="{dtype}"'])
    policy = Policy.load(config.model, config.train, config.video, config.seed).eval()
    train = replace(config.train, num_generations=COMPLETIONS, max_completion_length=TOKENS)
    sampler = make_sampler(policy, train, lambda phase: nullcontext())
    questions, result = load_prompts(root("kitchen"), "train"), StepMeans()
    for step in range(1, steps + 1):
        prompts = prompts_of_step(questions, step, PROMPTS, config.seed)
        groups = sampler(prompts, [policy.encode(prompt) for prompt in prompts], f"mismatch|{step}")
        result.add("nothing", differences(policy, prompts, groups, lambda prompt, clip: clip))
        result.add("shuffled", differences(policy, prompts, groups, shuffled))
        result.add("dropped", differences(policy, prompts, groups, dropped))
        with one_step_ahead(policy, prompts, groups):
            result.add("stale weights", differences(policy, prompts, groups, lambda prompt, clip: clip))
    policy.frames.close()
    return result


@torch.no_grad()
def differences(
    policy: Policy, prompts: Sequence[Prompt], groups: Sequence[Group], see: Callable[[Prompt, Clip], Clip]
) -> np.ndarray:
    """|learner - sampler| log-probability of each token; `see` changes what the learner sees of a clip."""
    inputs = [policy.encode(prompt, see(prompt, policy.frames(prompt))) for prompt in prompts]
    logps = policy(inputs, groups).logps.cpu().numpy()
    completions = [completion for group in groups for completion in group]
    rows = zip(logps, completions, strict=True)
    return np.concatenate([np.abs(row[: len(completion.logps)] - completion.logps) for row, completion in rows])


def shuffled(prompt: Prompt, clip: Clip) -> Clip:
    """The frames in another order."""
    return apply_view("shuffled", clip, prompt.id)


def dropped(prompt: Prompt, clip: Clip) -> Clip:
    """The first half of the frames, twice."""
    if clip.video is None:
        return clip
    half = clip.video[: len(clip.video) // 2]
    return replace(clip, video=np.concatenate([half, half])[: len(clip.video)])


@contextmanager
def one_step_ahead(policy: Policy, prompts: Sequence[Prompt], groups: Sequence[Group]) -> Iterator[None]:
    """Inside the context, the weights are one step of AdamW ahead: its first step is the sign of the gradient."""
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    policy([policy.encode(prompt) for prompt in prompts], groups).logps.mean().backward()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad.sign(), alpha=LEARNING_RATE)
    policy.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                parameter.copy_(before[name])


def table_of(results: dict[tuple[str, str], StepMeans]) -> Table:
    """One row per model, precision and fault."""
    columns = ("model", "precision", "fault", "smallest step", "largest step", "largest token", "limit", "alarms")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for (model, dtype), result in results.items():
        limit = SAMPLER_TOLERANCE[dtype == "bfloat16"]
        for fault, means in result.means.items():
            alarms, steps = result.alarms(fault, limit), len(means)
            low, high = wilson(alarms, steps)
            share = f"{alarms} of {steps} ({100 * max(low, 0):.0f} to {100 * min(high, 1):.0f} %)"
            token = f"{result.largest:.1e}" if fault == "nothing" else ""
            table.add_row(model, dtype, fault, f"{min(means):.1e}", f"{max(means):.1e}", token, f"{limit:g}", share)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all models and print a table."""
    parser = argparse.ArgumentParser(prog="python -m rlvid.bench.mismatch", description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["nano", "nano/qwen2_5_vl", "nano/qwen3_vl"])
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args(argv)
    silence_libraries()
    results = {}
    for model, dtype in product(args.models, ("float32", "bfloat16")):
        results[model, dtype] = measure(model, dtype, args.steps)
        print(f"measured {model} in {dtype}, {args.steps} steps", file=sys.stderr)
    Console(width=160).print(table_of(results))


if __name__ == "__main__":
    main()
