"""What a kind of evidence is made from, and the decorator that registers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlvid.config import EvidenceConfig, TrainConfig
from rlvid.judges.endpoint import Judge
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.reference import Reference
from rlvid.policy.sampler import SampleFn, make_sampler
from rlvid.policy.types import ModelInputs
from rlvid.reward import RewardMix, VerdictNoiseFn
from rlvid.types import Group, Prompt
from rlvid.video.views import Clip


@dataclass(frozen=True)
class EvidenceRequest:
    """Groups for which evidence is to be made, and how they were sampled."""

    groups: Sequence[Group]
    inputs: Sequence[ModelInputs]  # one per group
    seed: str  # that the completions were sampled with
    alter_clip: Callable[[Prompt, Clip], Clip] = lambda prompt, clip: clip  # the noise of the clips
    corrupt: VerdictNoiseFn | None = None  # the noise of the verdicts


@dataclass(frozen=True)
class EvidenceSources:
    """What evidence is made from: the policy, the reference, judge models, and the settings of each.

    Args:
        mix: the rewards; `mix.required_evidence` names what they need.
        policy, reference: models that evidence is computed with; the reference only if a kind needs it.
        evidence_config: names of the text encoder and of the cross-encoder.
        sampling: how completions under altered views are sampled.
        backoff: the token budget of forward passes.
        timer: counts the seconds of each kind as a phase of its name.
        judge: a language model behind an endpoint, if a reward needs one.
    """

    mix: RewardMix
    policy: Policy
    reference: Reference | None
    evidence_config: EvidenceConfig
    sampling: TrainConfig
    backoff: OOMBackoff
    timer: Callable[[str], AbstractContextManager[None]]
    judge: Judge | None = None

    @cached_property
    def sample_view(self) -> SampleFn:
        """The sampler of altered views: one for all steps, since it keeps CUDA graphs and a batch size that fits."""
        return make_sampler(self.policy, self.sampling, lambda phase: nullcontext())


# sources, request, argument after the colon -> one value per group
EvidenceFn = Callable[[EvidenceSources, EvidenceRequest, str], list[Any]]
Requirement = Callable[[Sequence[Prompt], str], bool]  # prompts, argument after the colon -> can any of them give it?


@dataclass(frozen=True)
class EvidenceKind:
    """A registered kind of evidence: the function that makes it, and what it requires."""

    name: str
    function: EvidenceFn
    requires: Requirement
    needs_reference: bool
    needs_packed: bool


EVIDENCE_KINDS: dict[str, EvidenceKind] = {}


def evidence(
    name: str,
    requires: Requirement = lambda prompts, argument: True,
    needs_reference: bool = False,
    needs_packed: bool = False,
) -> Callable[[EvidenceFn], EvidenceFn]:
    """Register a function as the kind of evidence `name`.

    Args:
        name: what rewards put into `needs`.
        requires: whether any of the training prompts can give it.
        needs_reference: whether a reference model has to be loaded for it.
        needs_packed: whether models on the general path cannot give it (see `rlvid.policy.families`).
    """

    def register(function: EvidenceFn) -> EvidenceFn:
        EVIDENCE_KINDS[name] = EvidenceKind(name, function, requires, needs_reference, needs_packed)
        return function

    return register
