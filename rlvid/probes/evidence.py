"""What the probed reward reads beyond the text, by the trainer's kinds of evidence. Models are loaded when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from rlvid.config import Config
from rlvid.reward import RewardMix
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.timeout import time_limit_paused

if TYPE_CHECKING:
    from rlvid.judges.endpoint import Judge
    from rlvid.policy.model import Policy
    from rlvid.trainer.evidence import EvidenceProvider
    from rlvid.video.views import Clip

AlterClip = Callable[[Prompt, "Clip"], "Clip"]
TEXT_MODELS = frozenset({"embeddings", "nli", "judge"})  # evidence of models that read texts; all others use a policy
TOKEN_KINDS = frozenset({"ref_logps", "view_logps", "visual_attention"})  # kinds that are about a reply's tokens
SEED = "probe"


class Evidence:
    """Attaches evidence to groups as a step of training does.

    Args:
        mix: the probed reward and those that it reads.
        config: names the policy and the text models.
        like: evidence of another mix with the same config, whose policy is shared.
    """

    def __init__(self, mix: RewardMix, config: Config, like: Evidence | None = None) -> None:
        self.mix, self.config, self.like = mix, config, like
        needs = frozenset(mix.required_evidence)
        self.token_kinds = TOKEN_KINDS & {need.partition(":")[0] for need in needs}
        self.needs_models = bool(needs - {"narrations"})
        self.needs_policy = bool(needs - TEXT_MODELS - {"narrations"})
        self.needs_video = self.needs_policy or "narrations" in needs

    @cached_property
    def policy(self) -> Policy:
        """The policy of the config."""
        if self.like:
            return self.like.policy
        from rlvid.policy.model import Policy
        from rlvid.utils.logging import silence_libraries

        silence_libraries()
        return Policy.load(self.config.model, self.config.train, self.config.video, self.config.seed)

    @cached_property
    def provider(self) -> EvidenceProvider:
        """The trainer's provider of evidence. Raises UserError for a kind that does not exist."""
        from rlvid.policy.oom import OOMBackoff
        from rlvid.trainer.evidence import (
            EvidenceProvider,
            check_evidence_names,
            load_judge_models,
            needs_reference,
        )
        from rlvid.trainer.reference import build_reference

        check_evidence_names(self.mix)
        config = self.config
        policy = self.policy if self.needs_policy else cast("Policy", None)  # text models read no policy
        return EvidenceProvider(
            mix=self.mix,
            policy=policy,
            reference=build_reference(policy, config) if needs_reference(self.mix) else None,
            evidence_config=config.evidence,
            sampling=replace(config.train, num_generations=config.evidence.view_generations),
            backoff=OOMBackoff("tokens", config.train.max_tokens_per_forward),
            timer=lambda phase: time_limit_paused(),  # a model's time is not the reward's
            judge=load_judge_models(self.mix, config.evidence, self._open_judge),
        )

    def _open_judge(self) -> Judge:
        """Return the judge of the config. Raises UserError if it does not answer a short request."""
        from rlvid.judges.endpoint import Judge

        judge = Judge(self.config.judge)
        judge.check()
        return judge

    def attach(self, groups: Sequence[Group], alter: AlterClip | None = None) -> None:
        """Write the evidence that the reward needs into groups; `alter` changes the clips that it is made from."""
        if not self.needs_models:
            for group in groups:
                group.evidence["narrations"] = group.prompt.narrations
            return
        from rlvid.trainer.evidence import EvidenceRequest

        def unaltered(prompt: Prompt, clip: Clip) -> Clip:
            return clip

        change, inputs = alter or unaltered, cast("list[Any]", [None] * len(groups))
        if self.needs_policy:
            policy = self.policy
            inputs = [policy.encode(g.prompt, change(g.prompt, policy.frames(g.prompt))) for g in groups]
            if self.token_kinds:
                self._tokenize(groups)
            if self.token_kinds - {"visual_attention"}:  # they may be compared with those of the sampler
                self._add_logps(groups, inputs)
        self.provider.attach(EvidenceRequest(groups, inputs, SEED, alter_clip=change))

    def _tokenize(self, groups: Sequence[Group]) -> None:
        """Give replies the tokens of the policy, unless they have them: saved and edited replies have other numbers."""
        tokenizer = self.policy.tokenizer
        for group in groups:
            group.completions = [
                one
                if one.tokens and tokenizer.decode(one.tokens, skip_special_tokens=True).strip() == one.text.strip()
                else replace(one, tokens=self._tokens(one))
                for one in group
            ]

    def _tokens(self, completion: Completion) -> tuple[int, ...]:
        """Return a reply's tokens without those of pixels, which no reply can have."""
        tokenizer, banned = self.policy.tokenizer, {*self.policy.banned_token_ids}
        written = [token for token in tokenizer(completion.text)["input_ids"] if token not in banned]
        return (*written, *[tokenizer.eos_token_id] * completion.finished)

    def _add_logps(self, groups: Sequence[Group], inputs: list[Any]) -> None:
        """Give replies the log-probabilities of their tokens under the policy, as if it had sampled them."""
        import torch

        from rlvid.trainer.evidence_kinds import completion_logps

        with torch.no_grad():
            rows = completion_logps(self.provider, self.policy, groups, inputs)
        for group, logps in zip(groups, rows, strict=True):
            group.completions = [replace(one, logps=own) for one, own in zip(group, logps, strict=True)]
