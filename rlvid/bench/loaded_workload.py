"""A benchmark's model, questions and clips, loaded from the folder of a model with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from rlvid.bench.workload import LEARNING_RATE, Workload, filler_question
from rlvid.config import Config, load
from rlvid.policy.model import Policy
from rlvid.types import Prompt
from rlvid.video.read import Clock
from rlvid.video.views import Clip


@dataclass(frozen=True)
class LoadedWorkload:
    """A loaded model, and one question about one random clip for each group of the workload."""

    config: Config
    policy: Policy
    prompts: Sequence[Prompt]
    clips: Sequence[Clip]


def load_workload(folder: Path, workload: Workload) -> LoadedWorkload:
    """Load the model of a folder. It never samples its end token, so all completions have the full length."""
    config = load("nano", workload_overrides(folder, workload))
    policy = load_policy(config)
    policy.banned_token_ids = [*policy.banned_token_ids, policy.tokenizer.eos_token_id]

    factor, generator = policy.family.image_factor, np.random.default_rng(0)
    size = round(workload.frame_size / factor) * factor
    video = clock = None
    if workload.frames:
        video = generator.integers(0, 256, (workload.frames, size, size, 3), np.uint8)
        clock = Clock(np.arange(workload.frames) / 2, 2.0)  # two frames a second, as in [video]
    clip = Clip(video, generator.integers(0, 256, (size, size, 3), np.uint8), clock)

    no_question = Prompt("empty", "", ("a", "b", "c", "d"), "A")
    length_without = len(policy.encode(no_question, clip).input_ids)
    question = filler_question(length_without, workload.prompt_tokens)
    prompts = [replace(no_question, id=f"q{i}", question=question) for i in range(workload.groups)]
    return LoadedWorkload(config, policy, prompts, [clip] * workload.groups)


def load_policy(config: Config) -> Policy:
    """Load the policy of a config on the GPU, or on the CPU if there is no GPU.

    Weights that the model's folder lacks are random, and made on that device (see `workload.write_weightless_model`).
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        policy = Policy.load(config.model, config.train, config.video, config.seed)
    return policy.to(device)


def workload_overrides(folder: Path, workload: Workload) -> list[str]:
    """Return the overrides of the preset `nano` that describe a workload."""
    checkpointing = str(torch.cuda.is_available()).lower()
    return [
        f"model={folder}",
        f"train.prompts_per_step={workload.groups}",
        f"train.num_generations={workload.num_generations}",
        f"train.max_completion_length={workload.completion_tokens}",
        f"train.learning_rate={LEARNING_RATE}",
        f"train.lora_r={workload.lora_r}",
        f"train.gradient_checkpointing={checkpointing}",
        f"video.max_frames={max(workload.frames, 4)}",
        f"video.resized_height={workload.frame_size}",
        f"video.resized_width={workload.frame_size}",
    ]
