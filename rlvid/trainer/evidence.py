"""Evidence: what rewards read beyond the text, such as replies to an altered video. Each kind is made once per step.

A reward names the kinds that it reads in `needs`. Each kind is one function in evidence_kinds.py, registered there by
`@evidence("NAME", requires=...)`; `rlvid list evidence` prints them. Before the first step a run refuses kinds that do
not exist or that its data cannot give. Evidence is kept in `group.evidence["NAME"]` and written to `samples/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvid.config import Config, EvidenceConfig
from rlvid.errors import UserError
from rlvid.judges.encoder import entailment, load_encoder
from rlvid.judges.endpoint import Judge
from rlvid.policy.architecture import check_model
from rlvid.policy.families import require_packed
from rlvid.registry import suggest
from rlvid.reward import RewardMix
from rlvid.trainer import evidence_kinds  # registers the kinds
from rlvid.trainer.evidence_registry import EVIDENCE_KINDS, EvidenceRequest, EvidenceSources
from rlvid.types import Prompt
from rlvid.utils.files import read_json
from rlvid.video.views import VIEWS, check_views

__all__ = ["EVIDENCE_KINDS", "EvidenceProvider", "EvidenceRequest", "check_evidence", "evidence_kinds"]


@dataclass(frozen=True)
class EvidenceProvider(EvidenceSources):
    """Makes the evidence that a reward mix needs and attaches it to groups."""

    def attach(self, request: EvidenceRequest) -> None:
        """Write each kind of evidence that the mix needs into `group.evidence` of the request's groups."""
        for need in self.mix.required_evidence if request.groups else ():
            kind, _, argument = need.partition(":")  # such as "view:shuffled"
            with self.timer(kind):
                per_group = EVIDENCE_KINDS[kind].function(self, request, argument)
                for group, value in zip(request.groups, per_group, strict=True):
                    group.evidence[need] = value


def needs_reference(mix: RewardMix) -> bool:
    """Whether some evidence of the mix is computed with the reference model."""
    return any(EVIDENCE_KINDS[need.partition(":")[0]].needs_reference for need in mix.required_evidence)


OF_VIEWS = ("view", "view_logps")  # the kinds that take the name of a view after a colon


def known_evidence() -> list[str]:
    """Every name that a reward may put into `needs`, views spelled out; those with a strength are not among them."""
    return sorted({*EVIDENCE_KINDS, *(f"{kind}:{name}" for kind in OF_VIEWS for name in VIEWS)} - {*OF_VIEWS})


def check_evidence_names(mix: RewardMix) -> None:
    """Raise UserError if a reward needs a kind of evidence that does not exist."""
    for reward, needs in mix.needs.items():
        for need in sorted(needs - {*known_evidence()}):
            kind, _, view = need.partition(":")
            if kind in OF_VIEWS and view.partition(":")[0] in VIEWS:
                check_views([view])  # a view with a strength, such as patches:0.6
                continue
            raise UserError(
                f"reward {reward!r} needs {need!r}, which is no kind of evidence.{suggest(need, known_evidence())}"
            )


def check_evidence_of_model(mix: RewardMix, model: str, use_vllm: bool) -> None:
    """Raise UserError if a reward needs evidence that this model, by its config.json, or its sampler cannot give.

    A reward that reads completions under a view and has a true field `paired` compares completions that the same random
    numbers give. Those of vLLM belong to the batch and not to the completion.
    """
    for reward, needs in mix.needs.items():
        reads_view = any(need.startswith("view:") for need in needs)
        if use_vllm and reads_view and getattr(mix.rewards[reward], "paired", False):
            raise UserError(
                f"reward {reward!r} pairs completions by their random numbers, which are not theirs with "
                f"train.use_vllm: set rewards.{reward}.paired=false (eval.rewards, if it is only measured)"
            )
        for need in sorted(needs):
            if EVIDENCE_KINDS[need.partition(":")[0]].needs_packed:
                require_packed(model, check_model(model), f"reward {reward!r} needs {need!r}")


def check_evidence(mix: RewardMix, prompts: Sequence[Prompt]) -> None:
    """Raise UserError if a reward needs evidence that does not exist or that none of the prompts can give."""
    check_evidence_names(mix)
    for reward, needs in mix.needs.items():
        for need in sorted(needs):
            kind, _, argument = need.partition(":")
            if prompts and not EVIDENCE_KINDS[kind].requires(prompts, argument):
                raise UserError(
                    f"reward {reward!r} needs {need!r}, and no sample of the data can give it: leave this reward out"
                )


def load_judge_models(mix: RewardMix, evidence_config: EvidenceConfig, make_judge: Callable[[], Judge]) -> Judge | None:
    """Load the text models that a mix needs; returns what `make_judge` makes, if a judge is needed.

    Raises UserError, in one line, for a model that cannot be loaded, and what `make_judge` raises.
    """
    if "embeddings" in mix.required_evidence:
        load_encoder(evidence_config.encoder)
    if "nli" in mix.required_evidence:
        entailment([("a", "a")], evidence_config.nli)
    return make_judge() if "judge" in mix.required_evidence else None


def open_judge(config: Config, folder: Path, is_main: bool) -> Judge:
    """Return the judge of a run, whose main process first sends it a short request.

    None is sent where the run may need no reply that is not cached: it is done, or it scores `eval.completions` again.

    Raises:
        UserError: if the endpoint is not set or does not answer, or if the cache cannot be written.
    """
    judge = Judge(config.judge)
    is_done = (read_json(folder / "status.json") or {}).get("state") == "done"
    if is_main and not is_done and not config.eval.completions:
        judge.check()
    return judge
