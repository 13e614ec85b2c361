"""Prompts as the model reads them, made ready ahead: while a step is learnt from, a thread reads the next one's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from rlvid.policy.model import Policy
from rlvid.policy.types import ModelInputs
from rlvid.trainer.run_folder import Run
from rlvid.types import Prompt
from rlvid.video.read import BadVideo
from rlvid.video.views import Clip


class PromptPrefetcher:
    """Gives this process's share of a step, each clip passing through `see`.

    `plan` is what will be asked for, in order; at most one step is read ahead, and anything else is read when it is
    asked for. Either way the same comes out: an error is raised at the step that it belongs to, and a clip that cannot
    be read is an error or a counted skip there.
    """

    def __init__(
        self,
        run: Run,
        policy: Policy,
        plan: Iterable[Sequence[Prompt]] = (),
        see: Callable[[Prompt, Clip], Clip] = lambda _, clip: clip,
    ) -> None:
        self.run, self.policy, self.plan, self.see = run, policy, iter(plan), see
        device = policy.device
        begin = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
        self.thread = ThreadPoolExecutor(1, "reader", begin)
        self._go_on()

    def __call__(self, prompts: Sequence[Prompt]) -> tuple[list[int], list[Prompt], list[ModelInputs]]:
        """Places in the step, prompts and encodings of our share."""
        if prompts is self.coming:
            found = self.future.result()
            self._go_on()
        else:
            found = self._read(prompts)
        places, ours, read = [], [], []
        for place, prompt, encoded in found:
            if isinstance(encoded, BadVideo):
                self.run.skip(prompt, encoded)
            else:
                places.append(place)
                ours.append(prompt)
                read.append(encoded)
        if self.policy.features:
            with self.run.timed("vision"):
                self.policy.features(read)  # now, while this process has all weights: others may know what it does not
        return places, ours, read

    def _go_on(self) -> None:
        self.coming = next(self.plan, None)
        if self.coming is not None:
            self.future = self.thread.submit(self._read, self.coming)

    def _read(self, prompts: Sequence[Prompt]) -> list[tuple[int, Prompt, ModelInputs | BadVideo]]:
        return [(place, prompt, self._encoded(prompt)) for place, prompt in self.run.share(prompts)]

    def _encoded(self, prompt: Prompt) -> ModelInputs | BadVideo:
        try:
            return self.policy.encode(prompt, self.see(prompt, self.policy.frames(prompt)))
        except BadVideo as error:
            return error
