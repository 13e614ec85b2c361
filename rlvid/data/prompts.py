"""Which prompts a run trains on and is asked, and in which order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from rlvid.algorithm import Algorithm
from rlvid.config import Config
from rlvid.data import benchmark, preferences
from rlvid.errors import UserError
from rlvid.noise.apply import apply_noise, realised_rates
from rlvid.noise.base import Noise
from rlvid.trainer.run_folder import Run
from rlvid.types import Prompt
from rlvid.utils.files import write_jsonl, write_text
from rlvid.utils.hashing import uniform_hash


def training_prompts(config: Config, algorithm: Algorithm, noise: Noise, run: Run) -> list[Prompt]:
    """The prompts to learn from, none if nothing is learnt; what the noise changes in them is listed."""
    if not config.train.max_steps:
        return []
    pairs = getattr(algorithm, "preferences", "")
    split = "train_cot" if algorithm.completion_source == "data" and not pairs else "train"
    clean = subset(benchmark.level(config.data, split, config.data_seed), config)
    prompts, manifest = apply_noise(clean, noise)
    if run.main and config.noise.kind:
        write_jsonl(run.folder / "noise_manifest.jsonl", manifest)
        write_text(run.folder / "noise.json", json.dumps(realised_rates(noise, clean, manifest)))
    return preferences.attach(prompts, Path(pairs)) if pairs else prompts


def subset(prompts: list[Prompt], config: Config) -> list[Prompt]:
    """`train.data_fraction` of a split, at least one: the same for every algorithm, and fewer are always among more."""
    if (fraction := config.train.data_fraction) == 1:
        return prompts
    luck = {prompt.id: uniform_hash("fraction", config.seed, prompt.id) for prompt in prompts}
    chosen = set(sorted(luck, key=luck.__getitem__)[: max(1, round(fraction * len(prompts)))])
    return [prompt for prompt in prompts if prompt.id in chosen]


def held_out_prompts(config: Config) -> dict[str, list[Prompt]]:
    """The evaluation's prompts by level, those of the transfer benchmarks last: never shuffled, never corrupted."""
    levels = {name: benchmark.level(config.data, name) for name in config.eval.splits}
    for other in config.eval.transfer:
        found = benchmark.levels(other)
        if twice := sorted(found.keys() & levels.keys()):
            raise UserError(f"eval.transfer: {other} has a level {twice[0]!r}, and so has another benchmark asked here")
        levels |= found
    return {name: prompts[: config.eval.limit or None] for name, prompts in levels.items()}


def prompts_of_step(prompts: list[Prompt], step: int, config: Config) -> list[Prompt]:
    """The prompts of a step (counted from 1), in an order shuffled anew each epoch by the seed and the epoch alone."""
    count, chosen = config.train.prompts_per_step, []
    for index in range((step - 1) * count, step * count):
        epoch, place = divmod(index, len(prompts))
        chosen.append(prompts[_order(len(prompts), config.seed, epoch)[place]])
    return chosen


def spare_prompts(
    prompts: list[Prompt], drawn: Sequence[Prompt], count: int, step: int, config: Config
) -> list[Prompt]:
    """`count` further prompts for a step, none that it has drawn, in an order of the step's own.

    So what later steps are asked does not depend on how many groups of this one were flat.
    """
    used = {prompt.id for prompt in drawn}
    order = np.random.default_rng([config.seed, step, 1]).permutation(len(prompts))
    return [prompts[i] for i in order if prompts[i].id not in used][: max(count, 0)]


@lru_cache(maxsize=4)
def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)
