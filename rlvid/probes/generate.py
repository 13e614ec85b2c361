"""Make the shipped groups of replies anew: the embedded models on held-out questions of the embedded kitchen.

    python -m rlvid.probes.generate [FILE]

For each level, `nano` answers 16 questions and `nano/loose` the next 8, with eight replies each, sampled at
temperature 1. `loose` concludes otherwise than it answers more often, and both make mistakes of form. With every
question goes its demonstration: what the clip shows and what follows from it. It takes a minute, and depends on nothing
but the seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlvid.config import load
from rlvid.data import kitchen
from rlvid.data.benchmark import load_level
from rlvid.policy.model import Policy
from rlvid.policy.sampler import make_sampler
from rlvid.probes.replies import SHIPPED
from rlvid.types import Group, Prompt
from rlvid.utils.files import write_jsonl

LEVELS = ("L1", "L2", "L3")
QUESTIONS = {"nano": slice(0, 16), "nano/loose": slice(16, 24)}  # model -> its questions of each level
SEED = "probe|0"


def sample_groups(model: str, prompts: Sequence[Prompt]) -> list[Group]:
    """Return eight replies of a model to each prompt."""
    config = load("nano", [f'model="{model}"'])
    policy = Policy.load(config.model, config.train, config.video, config.seed)
    sampler = make_sampler(policy, replace(config.train, num_generations=8), lambda phase: nullcontext())
    return sampler(prompts, [policy.encode(prompt) for prompt in prompts], SEED)


def demonstration(prompt: Prompt) -> str:
    """Return the demonstration of a held-out question of the kitchen, by drawing its record again.

    The order of the options is part of the record, so the letter is the same.
    """
    levels = list(kitchen.COUNTS)
    number = int(prompt.id.rpartition("_")[2]) if prompt.level == "L3" else int(prompt.id) % 10_000
    sample = kitchen.draw_sample(np.random.default_rng([0, levels.index(prompt.level), number]), prompt.level, number)
    assert sample.question == prompt.question and sample.options == prompt.options
    return sample.response


def main() -> None:
    """Sample the groups of replies that come with rlvid, and write them as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=SHIPPED)
    file = parser.parse_args().file
    rows = []
    for model, chosen in QUESTIONS.items():
        prompts = [prompt for level in LEVELS for prompt in load_level("kitchen", level)[chosen]]
        for group in sample_groups(model, prompts):
            prompt = group.prompt
            rows.append(
                {
                    "id": prompt.id,
                    "level": prompt.level,
                    "model": model,
                    "question": prompt.question,
                    "options": prompt.options,
                    "gold": prompt.answer,
                    "narrations": prompt.narrations,
                    "demonstration": demonstration(prompt),
                    "completions": [completion.text for completion in group],
                    "finished": [completion.finished for completion in group],
                    "tokens": [completion.tokens for completion in group],
                }
            )
    write_jsonl(file, rows)


if __name__ == "__main__":
    main()
