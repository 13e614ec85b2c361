"""Choose the prompts of a run: what it trains on and in which order, and what it is evaluated on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rlvid.data.benchmark import load_level, load_levels
from rlvid.data.preferences import attach_preferences
from rlvid.errors import UserError
from rlvid.noise.apply import apply_noise, summarize_noise
from rlvid.noise.base import Noise
from rlvid.protocols import DEFAULT, load_protocol
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
    preferences: Path | None = None,
    protocol: str = "rlvid",
) -> TrainingData:
    """Read a training split, take a fraction of it, and apply noise.

    Args:
        data: a benchmark, as in the config's `data`.
        split: "train", or "train_cot" for demonstrations.
        data_seed: decides the options and their order where the data set leaves them open.
        fraction: `train.data_fraction`; `seed` chooses the samples.
        seed: the run's seed.
        noise: corrupts the chosen prompts.
        preferences: a file of pairs that are attached to the prompts; prompts without a pair are left out.
        protocol: words the questions and reads the replies, as in the config's `train.protocol`.

    Raises:
        UserError: if the benchmark, the pairs or the protocol cannot be used.
    """
    clean = subset(load_level(data, split, data_seed), fraction, seed)
    prompts, manifest = apply_noise(clean, noise)
    noise_summary = summarize_noise(noise, clean, manifest)
    if preferences:
        prompts = attach_preferences(prompts, preferences)
    return TrainingData(under_protocol(prompts, protocol), manifest, noise_summary)


def subset(prompts: list[Prompt], fraction: float, seed: int) -> list[Prompt]:
    """Return a fraction of the prompts, at least one, in their order.

    A hash of the seed and the sample id chooses them. So the choice is the same for every algorithm, and a smaller
    fraction is a subset of a larger one.
    """
    if fraction == 1:
        return prompts
    uniforms = {prompt.id: uniform_hash("fraction", seed, prompt.id) for prompt in prompts}
    count = max(1, round(fraction * len(prompts)))
    chosen = set(sorted(uniforms, key=uniforms.__getitem__)[:count])
    return [prompt for prompt in prompts if prompt.id in chosen]


def held_out_prompts(
    data: str, splits: Sequence[str], transfer: Sequence[str] = (), limit: int = 0, protocol: str = "rlvid"
) -> dict[str, list[Prompt]]:
    """Return the questions of each held-out level, in the order of the file and without noise.

    Args:
        data: a benchmark, as in the config's `data`.
        splits: its levels.
        transfer: further benchmarks, all levels of which are added.
        limit: the maximal number of questions per level, counted from the first one; 0 means all.
        protocol: as in the config's `eval.protocol`.

    Raises:
        UserError: if a level does not exist, if two benchmarks have a level of the same name, or if the protocol has no
            wording for a question.
    """
    levels = {level: load_level(data, level) for level in splits}
    for other in transfer:
        more = load_levels(other)
        if shared := sorted(more.keys() & levels.keys()):
            raise UserError(
                f"eval.transfer: {other} has a level {shared[0]!r}, as another benchmark of this run has; "
                "remove one of the two benchmarks"
            )
        levels |= more
    return {level: under_protocol(prompts[: limit or None], protocol) for level, prompts in levels.items()}


def under_protocol(prompts: list[Prompt], name: str) -> list[Prompt]:
    """Return prompts with the wording, the parser and the form of demonstrations of a protocol.

    Raises UserError if it cannot word one of them.
    """
    protocol = load_protocol(name)
    if protocol == DEFAULT:
        return prompts
    worded = [
        replace(
            prompt,
            protocol=protocol,
            demonstration=prompt.demonstration and protocol.demonstration(prompt.demonstration),
            rejected=prompt.rejected and protocol.demonstration(prompt.rejected),
        )
        for prompt in prompts
    ]
    for prompt in worded:
        assert prompt.text  # raises where the protocol has no wording
    return worded


def prompts_of_step(prompts: list[Prompt], step: int, count: int, seed: int) -> list[Prompt]:
    """Return the `count` prompts of a step, counted from 1.

    Each epoch is a permutation of all prompts that depends on the seed and the epoch alone. With 5 prompts and 3 of
    them per step:

        epoch    0 0 0 0 0 1 1 1 1 1
        step     1 1 1 2 2 2 3 3 3 4

    A prompt can occur again in a step, at the edge of two epochs, and always where there are fewer prompts than
    `count`. Its `repeat` then says which time it is, so that its completions are new ones.
    """
    chosen: list[Prompt] = []
    occurrences = Counter[str]()
    for index in range((step - 1) * count, step * count):
        epoch, position = divmod(index, len(prompts))
        prompt = prompts[_epoch_order(len(prompts), seed, epoch)[position]]
        repeat = occurrences[prompt.id]
        occurrences[prompt.id] += 1
        chosen.append(replace(prompt, repeat=repeat) if repeat else prompt)
    return chosen


def replacement_prompts(
    prompts: list[Prompt], drawn: Sequence[Prompt], count: int, step: int, seed: int
) -> list[Prompt]:
    """Return up to `count` further prompts for a step, none of which is in `drawn`.

    Their order depends on the seed and the step alone. So the prompts of later steps do not depend on the number of
    flat groups in this one.
    """
    used = {prompt.id for prompt in drawn}
    order = np.random.default_rng([seed, step, 1]).permutation(len(prompts))
    unused = [prompts[index] for index in order if prompts[index].id not in used]
    return unused[: max(count, 0)]


@lru_cache(maxsize=4)
def _epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)
