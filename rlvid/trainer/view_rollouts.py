"""Rollouts that are learnt from and were sampled under altered views of the clip, such as noise.

An algorithm names the views and the number of completions of each in `sampling_views`. With `loss_pixels` "clean" its
loss, the old and the reference log-probabilities read the clip itself, whatever a completion was sampled under; with
"sampled" each completion is scored under its own view, so that the rollout is on-policy. Evidence for rewards is always
made with the clip itself.

The random numbers of a view come from the run's seed, the step, the view with its strength, and the sample id: a view
is the same for all completions of a prompt in a step, and another one in the next step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rlvid.algorithm import Algorithm
from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy.model import Policy
from rlvid.policy.prefill import PhaseTimer
from rlvid.policy.prompt_pass import PromptPass
from rlvid.policy.sampler import SampleFn, Sampler, make_sampler
from rlvid.policy.types import ModelInputs
from rlvid.trainer.algorithm_errors import algorithm_errors
from rlvid.trainer.token_inputs import AlterClip, view_inputs
from rlvid.types import Group, Prompt
from rlvid.video.views import check_views


def check_sampling_views(algorithm: Algorithm, train: TrainConfig) -> None:
    """Raise UserError unless an algorithm's `sampling_views` are views, for all completions, in every step of a run."""
    for number in range(1, train.max_steps + 1):
        with algorithm_errors(algorithm, f"at step {number}"):
            try:
                views = algorithm.sampling_views(number, train.max_steps, train.num_generations)
            except ValueError as error:  # the settings do not fit each other: its message says all
                raise UserError(str(error)) from error
            altered = [view for view in views if view]
            if algorithm.completion_source != "policy":
                if altered:
                    raise ValueError("completions of the data set cannot be sampled under a view")
                continue
            if min(views.values()) < 0 or sum(views.values()) != train.num_generations:
                raise ValueError(f"sampling_views {dict(views)} are not of {train.num_generations} completions")
            if algorithm.loss_pixels not in ("clean", "sampled"):
                raise ValueError(f'loss_pixels must be "clean" or "sampled", not {algorithm.loss_pixels!r}')
            check_views(altered)


@dataclass(frozen=True)
class ViewSampler:
    """Samples the completions of each prompt, under the clip itself and under altered views of it.

    Args:
        sample: samples all G completions of each prompt.
        policy, train, timer: what further samplers are made from, one for each number of completions under a view.
        alter_clip: the noise of the clips, which a view comes after.
    """

    sample: SampleFn
    policy: Policy
    train: TrainConfig
    timer: PhaseTimer
    alter_clip: AlterClip
    _samplers: dict[int, SampleFn] = field(default_factory=dict)  # they keep CUDA graphs and a batch size that fits

    def __call__(
        self,
        prompts: Sequence[Prompt],
        inputs: Sequence[ModelInputs],
        seed: str,
        views: Mapping[str, int],
        prompt_pass: PromptPass | None = None,
    ) -> tuple[list[Group], list[ModelInputs]]:
        """Sample the completions of some prompts.

        The completions under the clip itself have the random numbers that they have without any view.

        Args:
            prompts: the questions.
            inputs: their model inputs, with the clip itself.
            seed: of the step.
            views: view, or "" for the clip itself -> how many completions of each prompt are sampled under it.
            prompt_pass: of the prompts, if they went through the model already; without views.

        Returns:
            One group per prompt, with the completions in the order of `views`, and the inputs of each group with those
            of its views as `views`.
        """
        if not prompts:
            return [], []
        if prompt_pass:
            assert isinstance(self.sample, Sampler)  # no other one starts from a pass of the prompts
            return self.sample(prompts, inputs, seed, prompt_pass.states), list(inputs)
        counts = {view: count for view, count in views.items() if count}
        if list(counts) == [""]:
            return self.sample(prompts, inputs, seed), list(inputs)
        parts: list[list[Group]] = []
        seen: list[Sequence[ModelInputs]] = []
        for view, count in counts.items():
            key = f"{seed}|{view}" if view else seed
            seen.append(self._inputs(prompts, view, key) if view else inputs)
            parts.append(self._sampler(count)(prompts, seen[-1], key))
        groups = [
            Group(prompt, [replace(c, view=view) for view, part in zip(counts, row, strict=True) for c in part])
            for prompt, row in zip(prompts, zip(*parts, strict=True), strict=True)
        ]
        by_prompt = zip(inputs, zip(*seen, strict=True), strict=True)
        return groups, [replace(one, views=list(zip(row, counts.values(), strict=True))) for one, row in by_prompt]

    def _inputs(self, prompts: Sequence[Prompt], view: str, key: str) -> list[ModelInputs]:
        with self.timer("views"):
            inputs, _ = view_inputs(self.policy, prompts, view, self.alter_clip, key)
            return [one.unstored() for one in inputs]

    def _sampler(self, count: int) -> SampleFn:
        if count not in self._samplers:
            self._samplers[count] = make_sampler(self.policy, replace(self.train, num_generations=count), self.timer)
        return self._samplers[count]


def loss_inputs(algorithm: Algorithm, inputs: Sequence[ModelInputs]) -> list[ModelInputs]:
    """Return the inputs that an algorithm's loss reads: with their views only if `loss_pixels` is "sampled"."""
    return [one if algorithm.loss_pixels == "sampled" else replace(one, views=()) for one in inputs]
