"""One implementation of the step benchmark, as a process: it takes one step per line of its input.

    python -m rlvid.bench.implementations NAME MODEL_FOLDER WORKLOAD_AS_JSON

ours        rlvid: the prompt and its video go through the model once per group
views       as `ours`, with what `Workload.needs` names for each token besides, such as log-probs under a view
rows        the same loop with the prompt repeated for each completion, in sampling, reference and learning
reference   SEED-Bench-R1's scheme (arXiv:2503.24376): as `rows`, and one `generate` call per completion
trl         TRL's GRPOTrainer, on nine images, since it takes no video

After each step it prints one line of JSON: seconds by phase, peak memory in bytes, the process's CPU-seconds so far,
and the step's tokens.
"""

from __future__ import annotations

import inspect
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator

from rlvid.bench.loaded_workload import load_workload
from rlvid.bench.trl_baseline import run_trl
from rlvid.bench.workload import KL_BETA, Workload
from rlvid.config import Plugin
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.optimizer import build_adamw
from rlvid.policy.prompt_pass import PromptPass
from rlvid.policy.reference import Reference
from rlvid.policy.sampler import Sampler
from rlvid.policy.types import ModelInputs
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer.credit import assign_credit
from rlvid.trainer.prompt_pass_maker import PromptPassMaker
from rlvid.trainer.rollout import Rollout
from rlvid.trainer.token_inputs import TokenInputs
from rlvid.trainer.update import update_policy
from rlvid.types import Completion, Group
from rlvid.utils.logging import silence_libraries


class PackedStep:
    """rlvid's own optimizer step of GRPO: preprocessing, sampling, reference, credit and learning.

    Attributes:
        shares_prompts: whether sampling and learning may share one pass of the prompts, as in a run.
        seconds: phase -> seconds, of the last step.
        tokens: tokens of the last step's prompts and completions, the prompt counted once per completion.
    """

    shares_prompts: ClassVar[bool] = True

    def __init__(self, folder: Path, workload: Workload) -> None:
        loaded = load_workload(folder, workload)
        self.workload = workload
        self.config, self.policy = loaded.config, loaded.policy
        self.prompts, self.clips = loaded.prompts, loaded.clips
        self.accelerator = Accelerator()
        self.algorithm = build("algorithms", "grpo", beta=KL_BETA)
        self.mix = RewardMix.build([Plugin("random")])
        self.reference = Reference(self.policy, self.config.train)
        optimizer = build_adamw(self.policy, self.config.train, self.algorithm)
        learner, optimizer = self.accelerator.prepare(self.policy, optimizer)
        self.state = TrainState.create(self.policy, learner, optimizer, self.reference)
        self.backoff = OOMBackoff("tokens", self.config.train.max_tokens_per_forward)
        self.token_inputs = TokenInputs(
            self.algorithm.needs,
            self.policy,
            self.reference,
            self.config.train.temperature,
            self.backoff,
            keeps_forward=True,
        )
        train = self.config.train
        self.make_prompt_pass = PromptPassMaker(self.algorithm, self.policy, train, self.backoff, self.timed)
        self.number = 0  # of the last step
        self.tokens = 0
        self.seconds: dict[str, float] = {}

    def step(self) -> dict[str, float]:
        """Take one optimizer step; returns the seconds of each phase."""
        self.seconds = {}
        self.number += 1
        with self.timed("encode"):
            inputs = [self.policy.encode(p, clip) for p, clip in zip(self.prompts, self.clips, strict=True)]
        prompt_pass = self.make_prompt_pass(inputs, range(len(inputs)), {}) if self.shares_prompts else None
        groups = self.sample(inputs, f"bench|{self.number}", prompt_pass)
        self.tokens = sum(
            len(prompt.input_ids) + len(completion.tokens)
            for prompt, group in zip(inputs, groups, strict=True)
            for completion in group
        )
        self.learn(self.credit(inputs, groups, prompt_pass))
        return self.seconds

    def credit(
        self, inputs: Sequence[ModelInputs], groups: Sequence[Group], prompt_pass: PromptPass | None = None
    ) -> Rollout:
        """Return the rollout of sampled groups with an advantage and a weight for each token."""
        dummy_group = inputs[0], groups[0]
        rollout = Rollout.gather(range(len(groups)), inputs, groups, self.mix(groups), dummy_group, prompt_pass)
        forward_rollout = self.forward_rollout(rollout)
        with self.timed("reference"):
            token_inputs = self.token_inputs(forward_rollout)
        step = rollout.to_step(self.number, self.mix.weights, token_inputs, {})
        return replace(forward_rollout, batch=assign_credit(self.algorithm, step).to(self.policy.device))

    def learn(self, credited: Rollout) -> dict[str, float]:
        """Take the optimizer step of a credited rollout; returns its metrics."""
        with self.timed("learn"):
            train = self.config.train
            return update_policy(self.state, self.algorithm, self.accelerator, credited, train, self.backoff)

    def sample(self, inputs: Sequence[ModelInputs], seed: str, prompt_pass: PromptPass | None = None) -> list[Group]:
        """Sample the completions of the step's prompts."""
        sampler = Sampler(self.policy, self.config.train, self.timed)
        return sampler(self.prompts, inputs, seed, prompt_pass.states if prompt_pass else None)

    def forward_rollout(self, rollout: Rollout) -> Rollout:
        """Return the rollout with the groups that go through the model: here those of the step."""
        return rollout

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time that the context takes to a phase's seconds."""
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


class ViewsStep(PackedStep):
    """The step of `PackedStep` with further token tensors, whose seconds are among those of the reference."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        super().__init__(folder, workload)
        clips = {prompt.id: clip for prompt, clip in zip(self.prompts, self.clips, strict=True)}
        self.token_inputs = replace(
            self.token_inputs,
            needs=self.algorithm.needs | {*workload.needs},
            alter_clip=lambda prompt, clip: clips[prompt.id],  # the prompts have no files
        )


class SeparateRowsStep(PackedStep):
    """The step of `PackedStep` with every completion in a row of its own, prompt and pixels included."""

    shares_prompts = False

    def sample(self, inputs: Sequence[ModelInputs], seed: str, prompt_pass: PromptPass | None = None) -> list[Group]:
        """Sample every completion after a prefill of its own."""
        size = self.workload.num_generations
        sampler = Sampler(self.policy, replace(self.config.train, num_generations=1), self.timed)
        prompts = [replace(p, id=f"{p.id}|{i}") for p in self.prompts for i in range(size)]
        repeated_inputs = [prompt_inputs for prompt_inputs in inputs for _ in range(size)]
        single_groups = sampler(prompts, repeated_inputs, seed)
        return self.in_groups([group.completions[0] for group in single_groups])

    def in_groups(self, completions: Sequence[Completion]) -> list[Group]:
        """Return completions, which are in the order of their prompts, as one group per prompt."""
        size = self.workload.num_generations
        return [Group(p, completions[i * size : (i + 1) * size]) for i, p in enumerate(self.prompts)]

    def forward_rollout(self, rollout: Rollout) -> Rollout:
        """Return the rollout with one group for each completion."""
        rows = [
            (prompt_inputs, Group(group.prompt, [completion]))
            for prompt_inputs, group in zip(rollout.inputs, rollout.groups, strict=True)
            for completion in group
        ]
        inputs, groups = zip(*rows, strict=True)
        indices = range(len(rows))
        records = [replace(rollout.records[0], index=index) for index in indices]
        return Rollout(indices, inputs, groups, records, rows[0])


class PaperStep(SeparateRowsStep):
    """The step of SEED-Bench-R1's trainer: separate rows, and one call of `generate` for each completion."""

    @torch.no_grad()
    def sample(self, inputs: Sequence[ModelInputs], seed: str, prompt_pass: PromptPass | None = None) -> list[Group]:
        """Sample the completions with the `generate` method of transformers."""
        torch.manual_seed(self.number)
        size = self.workload.num_generations
        with self.timed("generate"), self.policy.precision():
            tokens = [self.generate(prompt) for prompt in inputs for _ in range(size)]
        logps = (0.0,) * self.workload.completion_tokens
        return self.in_groups([Completion(f"{i}", row, logps) for i, row in enumerate(tokens)])

    def generate(self, prompt: ModelInputs) -> tuple[int, ...]:
        """Return the tokens of one completion."""
        output = self.policy.model.generate(
            **generate_inputs(self.policy, prompt),
            do_sample=True,
            min_new_tokens=self.workload.completion_tokens,
            max_new_tokens=self.workload.completion_tokens,
            suppress_tokens=self.policy.banned_token_ids,
        )
        return tuple(output[0, len(prompt.input_ids) :].tolist())


def generate_inputs(policy: Policy, prompt: ModelInputs) -> dict[str, Any]:
    """Return a prompt as keyword arguments of the `generate` method of transformers, a batch of one."""
    config, input_ids = policy.model.config, prompt.input_ids[None]  # (1, L)
    is_image, is_video = input_ids == config.image_token_id, input_ids == config.video_token_id
    # The prompt's grids are those of the video, if there is one, and then that of the image. So are its patches.
    num_videos = len(prompt.grid_thw) - 1
    video_patches = int(prompt.grid_thw[:num_videos].prod(-1).sum())
    arguments: dict[str, Any] = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "mm_token_type_ids": is_image.int() + 2 * is_video.int(),
        "pixel_values": prompt.pixel_values[video_patches:],
        "image_grid_thw": prompt.grid_thw[num_videos:],
    }
    if num_videos:
        arguments["pixel_values_videos"] = prompt.pixel_values[:video_patches]
        arguments["video_grid_thw"] = prompt.grid_thw[:num_videos]
        accepted = inspect.signature(policy.model.forward).parameters  # times, unless they stand in the prompt
        times = policy.family.video_times(prompt.clock)
        arguments |= {name: value for name, value in times.items() if name in accepted}
    return arguments


STEPS: dict[str, type[PackedStep]] = {
    "ours": PackedStep,
    "views": ViewsStep,
    "rows": SeparateRowsStep,
    "reference": PaperStep,
}


def peak_memory() -> int:
    """Return the peak memory of this process in bytes: the GPU's if there is one, else the resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run the implementation that the command line names."""
    silence_libraries()
    name, folder, workload = sys.argv[1], Path(sys.argv[2]), Workload(**json.loads(sys.argv[3]))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print to stdout goes to stderr, so that replies stay JSON

    def report(seconds: dict[str, float], tokens: int) -> None:
        measured = {"seconds": seconds, "peak": peak_memory(), "cpu": time.process_time(), "tokens": tokens}
        print(json.dumps(measured), file=replies, flush=True)

    def wait() -> bool:
        return sys.stdin.readline() != ""

    if name == "trl":
        return run_trl(folder, workload, wait, report)
    implementation = STEPS[name](folder, workload)
    while wait():
        start = time.perf_counter()
        seconds = implementation.step()
        report(seconds | {"step": time.perf_counter() - start}, implementation.tokens)


if __name__ == "__main__":
    main()
