"""Which prompts a run trains on and is evaluated on, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rlvid.data import benchmark, preferences
from rlvid.errors import UserError
from rlvid.noise.apply import apply_noise, summarize_noise
from rlvid.noise.base import Noise
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class TrainingData:
    """The prompts to train on, and what noise changed in them."""

    prompts: list[Prompt]
    manifest: list[dict[str, Any]] = field(default_factory=list)  # one row per changed sample; see `apply_noise`
    noise_summary: dict[str, Any] = field(default_factory=dict)  # see `summarize_noise`


def training_data(
    data: str,
    split: str,
    data_seed: int,
    fraction: float,
    seed: int,
    noise: Noise,
    preferences_file: Path | None = None,
) -> TrainingData:
    """Read a training split, take a fraction of it, and apply noise.

    Args:
        data: a benchmark, as in the config's `data`.
        split: "train", or "train_cot" for demonstrations.
        data_seed: decides options and their order, where the data set leaves them open.
        fraction: `train.data_fraction`; `seed` chooses the samples.
        noise: corrupts the prompts that are left.
        preferences_file: pairs to attach; prompts without a pair are left out.
    """
    clean = subset(benchmark.level(data, split, data_seed), fraction, seed)
    prompts, manifest = apply_noise(clean, noise)
    noise_summary = summarize_noise(noise, clean, manifest)
    if preferences_file:
        prompts = preferences.attach(prompts, preferences_file)
    return TrainingData(prompts, manifest, noise_summary)


def subset(prompts: list[Prompt], fraction: float, seed: int) -> list[Prompt]:
    """A fraction of the prompts, at least one, chosen by hash of the seed and the sample id, in their order.

    The choice is the same for every algorithm, and a smaller fraction is part of a larger one.
    """
    if fraction == 1:
        return prompts
    uniforms = {prompt.id: uniform_hash("fraction", seed, prompt.id) for prompt in prompts}
    smallest = sorted(uniforms, key=uniforms.__getitem__)[: max(1, round(fraction * len(prompts)))]
    chosen = set(smallest)
    return [prompt for prompt in prompts if prompt.id in chosen]


def held_out_prompts(
    data: str, splits: Sequence[str], transfer: Sequence[str] = (), limit: int = 0
) -> dict[str, list[Prompt]]:
    """Level -> its questions, in file order and never corrupted: the benchmark's own levels, then `transfer`'s.

    `limit` keeps the first so many questions of each level; 0 keeps all. Raises UserError if two benchmarks have
    a level of the same name.
    """
    levels = {name: benchmark.level(data, name) for name in splits}
    for other in transfer:
        more = benchmark.levels(other)
        if shared := sorted(more.keys() & levels.keys()):
            raise UserError(f"eval.transfer: {other} has a level {shared[0]!r}, and so has another benchmark here")
        levels |= more
    return {name: prompts[: limit or None] for name, prompts in levels.items()}


def prompts_of_step(prompts: list[Prompt], step: int, count: int, seed: int) -> list[Prompt]:
    """The `count` prompts of a step (numbered from 1). Seed and epoch alone decide the order within each epoch."""
    chosen = []
    for index in range((step - 1) * count, step * count):
        epoch, position = divmod(index, len(prompts))
        chosen.append(prompts[_epoch_order(len(prompts), seed, epoch)[position]])
    return chosen


def spare_prompts(prompts: list[Prompt], drawn: Sequence[Prompt], count: int, step: int, seed: int) -> list[Prompt]:
    """Up to `count` further prompts for a step, none of those already drawn.

    Their order depends on the seed and the step alone, so the prompts of later steps do not depend on how many groups
    of this one were flat.
    """
    used = {prompt.id for prompt in drawn}
    order = np.random.default_rng([seed, step, 1]).permutation(len(prompts))
    return [prompts[i] for i in order if prompts[i].id not in used][: max(count, 0)]


@lru_cache(maxsize=4)
def _epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)
