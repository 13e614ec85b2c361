"""One contestant of the benchmark, as a process: it takes a step whenever it reads a line, and says how it went.

    python -m rlvid.bench.implementations NAME MODEL_FOLDER SHAPE_AS_JSON

ours        rlvid: the prompt and its video go through the model once per group
rows        the same loop with the prompt repeated for each completion, in rollouts, reference and learning
reference   the paper's scheme: as `rows`, and completions sampled by one `generate` call each
trl         TRL's GRPOTrainer, on nine images, since it takes no video
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from rlvid.bench.trl_baseline import trl
from rlvid.bench.workload import BETA, RATE, Shape, question
from rlvid.config import Config, Plugin, load
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.optimizer import build_adamw
from rlvid.policy.reference import Reference
from rlvid.policy.sampler import Sampler
from rlvid.policy.types import ModelInputs
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer.loop import assign_credit, learn
from rlvid.trainer.rollout import Rollout
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.logging import silence_libraries
from rlvid.video.views import Clip


@dataclass(frozen=True)
class Subject:
    """A model, and as many questions about as many random clips as the shape has groups."""

    config: Config
    policy: Policy
    prompts: Sequence[Prompt]
    clips: Sequence[Clip]


def subject(folder: Path, shape: Shape) -> Subject:
    """Load the model; all of its completions will be as long as can be."""
    settings = [
        f"model={folder}", f"train.prompts_per_step={shape.groups}", f"train.num_generations={shape.generations}",
        f"train.max_completion_length={shape.completion}", f"train.learning_rate={RATE}",
        f"train.lora_r={shape.lora_r}", f"train.gradient_checkpointing={str(torch.cuda.is_available()).lower()}",
        f"video.resized_height={shape.side}", f"video.resized_width={shape.side}",
    ]  # fmt: skip
    config = load("nano", settings)
    policy = Policy.load(config.model, config.train, config.video, config.seed)
    policy = policy.to("cuda" if torch.cuda.is_available() else "cpu")
    policy.banned_token_ids = [*policy.banned_token_ids, policy.tokenizer.eos_token_id]
    random, side = np.random.default_rng(0), shape.side
    video = random.integers(0, 256, (shape.frames, side, side, 3), np.uint8) if shape.frames else None
    clip = Clip(video, random.integers(0, 256, (side, side, 3), np.uint8))
    empty = Prompt("empty", "", ("a", "b", "c", "d"), "A")
    words = question(len(policy.encode(empty, clip).input_ids), shape.prompt)
    prompts = [replace(empty, id=f"q{i}", question=words) for i in range(shape.groups)]
    return Subject(config, policy, prompts, [clip] * shape.groups)


class Ours:
    """A whole optimiser step of GRPO: pixels to patches, rollouts, reference, credit, learning."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.shape, one = shape, subject(folder, shape)
        self.config, self.policy, self.prompts, self.clips = one.config, one.policy, one.prompts, one.clips
        self.accelerator = Accelerator()
        self.algorithm = build("algorithms", "grpo", beta=BETA)
        self.mix = RewardMix.build([Plugin("random")])
        self.reference = Reference(self.policy, self.config.train)
        optimizer = build_adamw(self.policy, self.config.train, self.algorithm)
        learner, optimizer = self.accelerator.prepare(self.policy, optimizer)
        self.models = TrainState.create(self.policy, learner, optimizer, self.reference)
        self.room = OOMBackoff("tokens", self.config.train.max_tokens_per_forward)
        self.number = self.tokens = 0  # steps; the last one's prompt and completion tokens, counted in rows
        self.seconds: dict[str, float] = {}

    def step(self) -> dict[str, float]:
        """Take a step; seconds of each phase."""
        self.seconds, self.number = {}, self.number + 1
        with self.timed("encode"):
            encoded = [self.policy.encode(p, clip) for p, clip in zip(self.prompts, self.clips, strict=True)]
        groups = self.sample(encoded, f"bench|{self.number}")
        self.tokens = sum(len(e.input_ids) + len(c.tokens) for e, g in zip(encoded, groups, strict=True) for c in g)
        idle = encoded[0], groups[0]
        rollout = Rollout.gather(range(len(groups)), encoded, groups, self.mix(groups), idle)
        with self.timed("reference"):
            facts = self.forms(rollout).token_inputs(
                self.policy, self.reference, self.config.train.temperature, self.room
            )
        step = rollout.to_step(self.number, self.mix.weights, facts, {})
        batch = assign_credit(self.algorithm, step).to(self.policy.device)
        with self.timed("learn"):
            learnt = replace(self.forms(rollout), batch=batch)
            learn(self.models, self.algorithm, self.accelerator, learnt, self.config.train, self.room)
        return self.seconds

    def sample(self, encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        """The step's groups."""
        return Sampler(self.policy, self.config.train, self.timed)(self.prompts, encoded, seed)

    def forms(self, rollout: Rollout) -> Rollout:
        """The rollout as it goes through the model."""
        return rollout

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add to a phase's seconds what is spent inside."""
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


class Rows(Ours):
    """The same with every completion in a row of its own, prompt and pixels included."""

    def sample(self, encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        """Each completion from a prefill of its own."""
        alone = Sampler(self.policy, replace(self.config.train, num_generations=1), self.timed)
        size = self.shape.generations
        prompts = [replace(p, id=f"{p.id}|{i}") for p in self.prompts for i in range(size)]
        singles = alone(prompts, [e for e in encoded for _ in range(size)], seed)
        return self.grouped([single.completions[0] for single in singles])

    def grouped(self, completions: Sequence[Completion]) -> list[Group]:
        """Completions in their prompts' order as groups."""
        size = self.shape.generations
        return [Group(p, completions[i * size : (i + 1) * size]) for i, p in enumerate(self.prompts)]

    def forms(self, rollout: Rollout) -> Rollout:
        """One group for each completion."""
        pairs = [(e, Group(g.prompt, [c])) for e, g in zip(rollout.inputs, rollout.groups, strict=True) for c in g]
        places = range(len(pairs))
        records = [replace(rollout.records[0], index=place) for place in places]
        encoded, groups = zip(*pairs, strict=True)
        return Rollout(places, encoded, groups, records, pairs[0])


class PaperScheme(Rows):
    """As SEED-Bench-R1's trainer: one call of `generate` for each completion, with its pixels."""

    @torch.no_grad()
    def sample(self, encoded: Sequence[ModelInputs], seed: str) -> list[Group]:
        """Completions by transformers' own sampling."""
        torch.manual_seed(self.number)
        with self.timed("generate"), self.policy.precision():
            tokens = [self.generate(e) for e in encoded for _ in range(self.shape.generations)]
        logps = (0.0,) * self.shape.completion
        return self.grouped([Completion(f"{i}", row, logps) for i, row in enumerate(tokens)])

    def generate(self, prompt: ModelInputs) -> tuple[int, ...]:
        """The tokens of one completion."""
        output = self.policy.model.generate(
            **as_inputs(self.policy, prompt),
            do_sample=True,
            min_new_tokens=self.shape.completion,
            max_new_tokens=self.shape.completion,
            suppress_tokens=self.policy.banned_token_ids,
        )
        return tuple(output[0, len(prompt.input_ids) :].tolist())


def as_inputs(policy: Policy, prompt: ModelInputs) -> dict[str, Any]:
    """An encoded prompt as transformers' `generate` takes it."""
    config, ids = policy.model.config, prompt.input_ids[None]
    image, video = ids == config.image_token_id, ids == config.video_token_id
    films = len(prompt.grid_thw) - 1
    split = int(prompt.grid_thw[:films].prod(-1).sum())
    film = (
        {"pixel_values_videos": prompt.pixel_values[:split], "video_grid_thw": prompt.grid_thw[:films]} if films else {}
    )
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": image.int() + 2 * video.int(),
        "pixel_values": prompt.pixel_values[split:],
        "image_grid_thw": prompt.grid_thw[films:],
        **film,
    }


OWN: dict[str, type[Ours]] = {"ours": Ours, "rows": Rows, "reference": PaperScheme}
NAMES = (*OWN, "trl")


def main() -> None:
    """Be a contestant."""
    silence_libraries()
    name, folder, shape = sys.argv[1], Path(sys.argv[2]), Shape(**json.loads(sys.argv[3]))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed by libraries goes to stderr

    def say(seconds: dict[str, float], tokens: int) -> None:
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak, "tokens": tokens}), file=replies, flush=True)

    def wait() -> bool:
        return sys.stdin.readline() != ""

    if name == "trl":
        return trl(folder, shape, wait, say)
    contestant = OWN[name](folder, shape)
    while wait():
        start = time.perf_counter()
        seconds = contestant.step()
        say(seconds | {"step": time.perf_counter() - start}, contestant.tokens)


if __name__ == "__main__":
    main()
