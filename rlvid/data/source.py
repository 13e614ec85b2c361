"""Which prompts a run trains on and is asked, and in which order."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from rlvid.config import Config
from rlvid.data import kitchen, seed_bench_r1
from rlvid.data.noise import corrupt
from rlvid.files import write_jsonl
from rlvid.run import Run
from rlvid.types import Prompt


def root(config: Config) -> Path:
    """The folder of the benchmark; the embedded one is written to the cache when first used."""
    if config.data != "kitchen":
        return Path(config.data)
    folder = Path(os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid") / f"kitchen-{kitchen.VERSION}"
    kitchen.ensure(folder)
    return folder


def training(config: Config, completions: str, run: Run) -> list[Prompt]:
    """The prompts to learn from, none if nothing is learnt; the labels that the config's noise flips are listed."""
    if not config.train.steps:
        return []
    prompts = seed_bench_r1.load(root(config), "train_cot" if completions == "data" else "train", config.data_seed)
    if not config.noise.kind:
        return prompts
    prompts, manifest = corrupt(prompts, config.noise.kind, config.noise.rate, config.noise.seed)
    if run.main:
        write_jsonl(run.folder / "noise_manifest.jsonl", manifest)
    return prompts


def held_out(config: Config) -> dict[str, list[Prompt]]:
    """The evaluation's prompts by level: never shuffled, never corrupted."""
    levels = {name: seed_bench_r1.load(root(config), name) for name in config.eval.splits}
    return {name: prompts[: config.eval.limit or None] for name, prompts in levels.items()}


def take(prompts: list[Prompt], step: int, config: Config) -> list[Prompt]:
    """The prompts of a step (counted from 1), in an order shuffled anew each epoch by the seed and the epoch alone."""
    count, chosen = config.train.prompts_per_step, []
    for index in range((step - 1) * count, step * count):
        epoch, place = divmod(index, len(prompts))
        chosen.append(prompts[_order(len(prompts), config.seed, epoch)[place]])
    return chosen


@lru_cache(maxsize=4)
def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)
