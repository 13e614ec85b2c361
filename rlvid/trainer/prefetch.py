"""Prepare the model inputs of the next step in a thread, while the current step is trained on.

The thread works on the CPU only: a GPU has enough to do, and an allocation there by another thread could break the
recording of a CUDA graph. Inputs are copied to the device when their step begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from rlvid.distributed import shard_prompts
from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs
from rlvid.trainer.timer import StepTimer
from rlvid.types import Prompt
from rlvid.video.read import BadVideo
from rlvid.video.views import Clip

VIDEO_TOKENS, IMAGE_TOKENS, CHARACTERS_PER_TOKEN = 648, 81, 4  # at the paper's frames and sizes


class PromptPrefetcher:
    """Encodes this process's share of a step's prompts.

    `plan` lists the prompts of the coming steps. At most one step is prepared ahead; prompts that are not as planned
    are prepared when they are requested. The result is the same either way: an error is raised at the step that it
    belongs to, and an unreadable clip is reported there.

    Args:
        policy: encodes prompts.
        plan: the prompts of each coming step, in order.
        on_bad_clip: called with a prompt and its error for each unreadable clip; raises, or counts and returns.
        alter_clip: what the policy sees of a prompt's clip; noise and altered views come in here.
        timer: counts features computed here as the phase "vision".
        rank, world_size: which process this is, of how many.
    """

    def __init__(
        self,
        policy: Policy,
        plan: Iterable[Sequence[Prompt]],
        on_bad_clip: Callable[[Prompt, BadVideo], None],
        alter_clip: Callable[[Prompt, Clip], Clip],
        timer: StepTimer,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.policy, self.plan, self.on_bad_clip, self.alter_clip = policy, iter(plan), on_bad_clip, alter_clip
        self.timer, self.rank, self.world_size = timer, rank, world_size
        self.thread = ThreadPoolExecutor(1, "prefetch")
        self._prepare_next()

    def __call__(self, prompts: Sequence[Prompt]) -> tuple[list[int], list[Prompt], list[ModelInputs]]:
        """Indices among `prompts`, prompts and model inputs of this process's share, unreadable clips left out."""
        if prompts is self.upcoming:
            encoded = self.future.result()
            self._prepare_next()
        else:
            encoded = self._encode_share(prompts)
        indices, readable, inputs = [], [], []
        for index, prompt, result in encoded:
            if isinstance(result, BadVideo):
                self.on_bad_clip(prompt, result)
            else:
                indices.append(index)
                readable.append(prompt)
                inputs.append(result.to(self.policy.device))
        if self.policy.vision_cache:  # encode here, where this process has all weights; others may have the features
            with self.timer("vision"):
                self.policy.vision_cache.features(inputs)
        return indices, readable, inputs

    def _prepare_next(self) -> None:
        self.upcoming = next(self.plan, None)
        if self.upcoming is not None:
            self.future = self.thread.submit(self._encode_share, self.upcoming)

    def _encode_share(self, prompts: Sequence[Prompt]) -> list[tuple[int, Prompt, ModelInputs | BadVideo]]:
        return [(i, prompts[i], self._encode(prompts[i])) for i in prompt_share(prompts, self.rank, self.world_size)]

    def _encode(self, prompt: Prompt) -> ModelInputs | BadVideo:
        try:
            clip = self.alter_clip(prompt, self.policy.frames(prompt))
            return self.policy.encode(prompt, clip, torch.device("cpu"))
        except BadVideo as error:
            return error


def prompt_share(prompts: Sequence[Prompt], rank: int, world_size: int) -> list[int]:
    """The indices of the prompts that a process takes, balanced by their estimated number of tokens."""
    sizes = [
        len(p.text) / CHARACTERS_PER_TOKEN + VIDEO_TOKENS * bool(p.video) + IMAGE_TOKENS * bool(p.image)
        for p in prompts
    ]
    return shard_prompts(sizes, world_size, rank)
