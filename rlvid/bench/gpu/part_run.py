"""What a part of `rlvid bench gpu` works with: its preset, its device, models with random weights, and its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from rlvid.bench.loaded_workload import load_policy, workload_overrides
from rlvid.bench.workload import Workload, filler_question, write_weightless_model
from rlvid.config import Config, load
from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs
from rlvid.types import Completion, Group, Prompt
from rlvid.video.views import Clip

# A step of each preset: the paper's shape, and a small one for tests and CPUs. As `--plan` does, prompts count 200
# tokens of text beside the visual ones.
WORKLOADS: Mapping[str, Workload] = {
    "tiny": Workload("tiny", num_generations=4, prompt_tokens=212, completion_tokens=32, frames=4, frame_size=56),
    "2b": Workload("2b"),
    "7b": Workload("7b", lora_r=16),
}


class BarMissed(Exception):
    """What a part asserts does not hold."""


class PartSkipped(Exception):
    """A part cannot run here, for a reason that is not a failure."""


@dataclass
class PartRun:
    """One run of a part. Its function fills `values` by `record`, and raises by `require` or `skip`."""

    preset: str
    scratch: Path  # a folder for models, runs and caches
    values: dict[str, float | str | bool] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        """The step of the preset."""
        return WORKLOADS[self.preset]

    @property
    def on_gpu(self) -> bool:
        """Whether the part runs on a GPU."""
        return torch.cuda.is_available()

    @property
    def device(self) -> torch.device:
        """The device on which the part puts its models and tensors."""
        return torch.device("cuda" if self.on_gpu else "cpu")

    def record(self, **values: float | str | bool) -> None:
        """Add results; those of a part that fails later are kept."""
        self.values |= values

    def require(self, condition: bool, message: str) -> None:
        """Raise BarMissed with the message, unless the condition holds."""
        if not condition:
            raise BarMissed(message)

    def skip(self, reason: str) -> None:
        """End the part as skipped, by raising PartSkipped with the reason."""
        raise PartSkipped(reason)

    def model_folder(self) -> Path:
        """Return a folder with the preset's model, whose weights will be random."""
        torch.manual_seed(0)
        return write_weightless_model(self.preset, self.scratch / f"model-{self.preset}")

    def config(self, *overrides: str, workload: Workload | None = None) -> Config:
        """Return the config of a step of the preset, or of another workload on its model."""
        own = workload_overrides(self.model_folder(), workload or self.workload)
        return load("nano", [*own, f"video.cache_dir={self.scratch / 'cache'}", *overrides])

    def policy(self, *overrides: str) -> Policy:
        """Load the preset's model in float32, all adapters away from 0, where they would hide errors."""
        policy = load_policy(self.config("train.dtype=float32", *overrides)).eval()
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.02)
        return policy

    def prompts(self, policy: Policy) -> list[tuple[Prompt, ModelInputs]]:
        """Return two prompts of different lengths and their inputs: a video and an image, and an image alone.

        The longer one has the workload's number of tokens.
        """
        generator, size = np.random.default_rng(0), self.workload.frame_size
        video = generator.integers(0, 256, (self.workload.frames, size, size, 3), np.uint8)
        image = generator.integers(0, 256, (size, size, 3), np.uint8)
        rows = []
        for name, clip, share in (("both", Clip(video, image), 1.0), ("image", Clip(None, image), 0.6)):
            empty = Prompt(name, "", ("a", "b", "c", "d"), "A")
            length = len(policy.encode(empty, clip).input_ids)
            question = filler_question(length, max(length, int(share * self.workload.prompt_tokens)))
            prompt = replace(empty, question=question)
            rows.append((prompt, policy.encode(prompt, clip)))
        return rows


def random_groups(prompts: Sequence[Prompt], count: int, length: int, ragged: bool = False) -> list[Group]:
    """Return one group per prompt, of `count` completions of random tokens, of `length` tokens or up to that many."""
    random = torch.Generator().manual_seed(0)
    groups = []
    for prompt in prompts:
        completions = []
        for i in range(count):
            size = max(1, length * (i + 1) // count) if ragged else length
            tokens = torch.randint(20, 700, (size,), generator=random).tolist()
            completions.append(Completion(f"{i}", tuple(tokens), (0.0,) * size))
        groups.append(Group(prompt, completions))
    return groups


@contextmanager
def in_bfloat16(policy: Policy) -> Iterator[None]:
    """Inside the context a policy that was loaded in float32 computes under autocast to bfloat16."""
    policy.bf16 = True
    try:
        yield
    finally:
        policy.bf16 = False
