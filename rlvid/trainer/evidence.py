"""Evidence: what rewards read beyond the text, made because some reward of the mix asks for it, once for all of them.

    narrations          what happens in the video, by the data set; on the prompt
    embeddings          texts -> (n, d) unit vectors, by a sentence encoder
    nli                 (premise, hypothesis) pairs -> probabilities of entailment, by a cross-encoder
    judge               prompts -> replies of a language model behind an endpoint, None where the call failed
    ref_logps           log-probability of each token under the reference
    answer_probs        each letter's probability where the answer stands, under the policy; None without a thought
    answer_likelihood   the same under the reference: in full, without the reasoning, without the pixels
    reanswer            the letter that the policy picks from question, reshuffled options and the thought alone
    visual_attention    share of each completion's attention that falls on pixels
    view:NAME           a group of completions under an altered view, with the columns of rewards that ask for nothing

What is laid on a group under its name is written into `samples/`, too; of the models `nli` and `judge`, what they were
asked through that group, and what they replied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rlvid.answer import LETTERS
from rlvid.config import Config, TrainConfig
from rlvid.errors import UserError
from rlvid.judges.encoder import embed, encoder, entailment
from rlvid.judges.endpoint import Judge
from rlvid.policy import attention
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.option_probs import OPEN, option_letter_probs
from rlvid.policy.packing import map_micro_batches
from rlvid.policy.reference import Reference
from rlvid.policy.sampler import SampleFn, make_sampler
from rlvid.policy.types import ModelInputs
from rlvid.reward import RewardMix, VerdictNoiseFn
from rlvid.types import Completion, Group, Likelihood, Prompt
from rlvid.utils.files import explain_read_errors
from rlvid.utils.hashing import uniform_hash
from rlvid.video.views import Clip, view

Heads = Sequence[Sequence[str | None]]  # for each completion of each group, a text up to where its letter comes


@dataclass(frozen=True)
class EvidenceRequest:
    """Groups about which evidence is wanted, and how they came about."""

    groups: Sequence[Group]
    encoded: Sequence[ModelInputs]
    seed: str
    see: Callable[[Prompt, Clip], Clip] = lambda prompt, clip: clip
    spoil: VerdictNoiseFn | None = None


@dataclass
class LoggedModel:
    """A model as a reward calls it: its time is its kind's own, and what it was asked and replied is kept."""

    model: Callable[[Sequence[Any]], Any]
    timed: Callable[[], AbstractContextManager[None]]
    said: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, things: Sequence[Any]) -> Any:
        """Its replies, in order."""
        with self.timed():
            return self.model(things)

    def __call__(self, things: Sequence[Any]) -> Any:
        """The same, kept."""
        replies = self.ask(things)
        self.said += [{"asked": a, "replied": r} for a, r in zip(things, replies, strict=True)]
        return replies


@dataclass(frozen=True)
class EvidenceProvider:
    """Provides what a mix asks for, from the policy, the reference and models of language."""

    mix: RewardMix
    policy: Policy
    reference: Reference | None
    config: Config
    train: TrainConfig  # how altered views are answered
    room: OOMBackoff
    timed: Callable[[str], AbstractContextManager[None]]
    judge: Judge | None = None

    def __call__(self, asked: EvidenceRequest) -> None:
        """Lay the evidence on the groups; its time is that of its kind."""
        for need in self.mix.required_evidence if asked.groups else ():
            kind, _, name = need.partition(":")
            with self.timed(kind):
                for group, found in zip(asked.groups, KINDS[kind](self, asked, name), strict=True):
                    group.evidence[need] = found

    def embeddings(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """The encoder itself: what to embed is the reward's business, and vectors are not kept."""
        model = partial(embed, name=self.config.evidence.encoder)
        return [LoggedModel(model, partial(self.timed, "embeddings")).ask] * len(asked.groups)

    def nli(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """The cross-encoder itself."""
        model = partial(entailment, name=self.config.evidence.nli)
        return [LoggedModel(model, partial(self.timed, "nli")) for _ in asked.groups]

    def judging(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """The judge itself."""
        assert self.judge is not None
        return [LoggedModel(self.judge, partial(self.timed, "judge")) for _ in asked.groups]

    def narrations(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """The prompt's own."""
        return [group.prompt.narrations for group in asked.groups]

    @torch.no_grad()
    def ref_logps(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """Per completion, a tuple of its tokens' log-probabilities at the sampling temperature."""
        assert self.reference is not None
        reference, tokens = self.reference, [[c.tokens for c in group] for group in asked.groups]

        def ask(part: Sequence[int]) -> list[Any]:
            groups = [asked.groups[i] for i in part]
            rows = iter(
                reference([asked.encoded[i] for i in part], groups, self.train.temperature or 1.0).logps.tolist()
            )
            return [[tuple(next(rows)[: len(c.tokens)]) for c in group] for group in groups]

        return map_micro_batches(asked.encoded, tokens, self.room, ask)

    def answer_probs(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """Per completion, the policy's own."""
        return self._letters(self.policy, asked.groups, asked.encoded, _heads(asked.groups))

    def answer_likelihood(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """Per completion, the reference's in three conditions."""
        assert self.reference is not None
        heads, groups = _heads(asked.groups), asked.groups
        unthought = [[head and _head("") for head in row] for row in heads]
        bare = [self.policy.encode(group.prompt, Clip()) for group in groups]
        with self.reference.as_policy() as speaker:
            full, no_reasoning, no_video = (
                self._letters(speaker, groups, *where)
                for where in ((asked.encoded, heads), (asked.encoded, unthought), (bare, heads))
            )
        return [
            [Likelihood(*row) if row[0] else None for row in zip(*rows, strict=True)]
            for rows in zip(full, no_reasoning, no_video, strict=True)
        ]

    def reanswer(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """Per completion, the likeliest letter after the thought, in the original order of the options."""
        orders = [reshuffled_options(group.prompt) for group in asked.groups]
        prompts = [
            replace(group.prompt, options=tuple(group.prompt.options[i] for i in order))
            for group, order in zip(asked.groups, orders, strict=True)
        ]
        heads = [[None if c.thought is None else _head(c.thought) for c in group] for group in asked.groups]
        encoded = [self.policy.encode(prompt, Clip()) for prompt in prompts]
        probs = self._letters(self.policy, asked.groups, encoded, heads)
        return [
            [None if p is None else LETTERS[order[p.index(max(p))]] for p in row]
            for order, row in zip(orders, probs, strict=True)
        ]

    def visual_attention(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """Per completion, from 0 to 1: the mean of all layers, heads and tokens; None where there are no pixels."""
        return [
            [self._on_pixels(encoded, completion) if len(encoded.grid_thw) else None for completion in group]
            for group, encoded in zip(asked.groups, asked.encoded, strict=True)
        ]

    def _on_pixels(self, encoded: ModelInputs, completion: Completion) -> float:
        seen = attention.record_attention(self.policy, encoded, completion.tokens)
        return float(
            attention.attention_shares(seen, attention.token_kinds(self.policy, encoded, seen.shape[1]))[:, :2]
            .sum(1)
            .mean()
        )

    @cached_property
    def look(self) -> SampleFn:
        """What answers altered views, one for all steps: it keeps its graphs, and what it has learnt about memory."""
        return make_sampler(self.policy, self.train, lambda phase: nullcontext())

    def view(self, asked: EvidenceRequest, name: str) -> list[Any]:
        """A group each, from the same luck as the completions, judged by the same verifier."""
        prompts = [group.prompt for group in asked.groups]
        encoded = [self.policy.encode(p, view(name, asked.see(p, self.policy.frames(p)), p.id)) for p in prompts]
        found = self.look(prompts, encoded, asked.seed)
        self.mix.score_text_only(found, asked.spoil)
        return found

    def _letters(
        self, policy: Policy, groups: Sequence[Group], encoded: Sequence[ModelInputs], heads: Heads
    ) -> list[Any]:
        """Per completion, the probabilities after its head; None where it has none."""
        there = [[head for head in row if head] for row in heads]
        options = [len(group.prompt.options) for group in groups]
        asked = [i for i, row in enumerate(there) if row and options[i]]
        scored = option_letter_probs(
            policy, [encoded[i] for i in asked], [there[i] for i in asked], [options[i] for i in asked], self.room
        )
        found = dict(zip(asked, scored, strict=True))
        probs = [iter(found.get(i, ())) for i in range(len(groups))]
        return [[next(left, None) if head else None for head in row] for left, row in zip(probs, heads, strict=True)]


KINDS: Mapping[str, Callable[[EvidenceProvider, EvidenceRequest, str], list[Any]]] = {
    "embeddings": EvidenceProvider.embeddings,
    "nli": EvidenceProvider.nli,
    "judge": EvidenceProvider.judging,
    "narrations": EvidenceProvider.narrations,
    "ref_logps": EvidenceProvider.ref_logps,
    "answer_probs": EvidenceProvider.answer_probs,
    "answer_likelihood": EvidenceProvider.answer_likelihood,
    "reanswer": EvidenceProvider.reanswer,
    "visual_attention": EvidenceProvider.visual_attention,
    "view": EvidenceProvider.view,
}
NEEDS_REFERENCE = frozenset({"ref_logps", "answer_likelihood"})


def check_evidence(mix: RewardMix, prompts: Sequence[Prompt]) -> None:
    """Refuse, before step 0, a reward whose evidence none of the prompts can give."""
    has = {
        "narrations": any(p.narrations for p in prompts),
        "view:shuffled": any(p.video for p in prompts),
        "view:reversed": any(p.video for p in prompts),
        **dict.fromkeys(("answer_probs", "answer_likelihood", "reanswer"), any(len(p.options) > 1 for p in prompts)),
    }
    for name, needs in mix.needs.items():
        for need in sorted(needs):
            if prompts and not has.get(need, True):
                raise UserError(f"reward {name!r} needs {need!r}, and no sample of the data can give it: leave it out")


def load_judge_models(mix: RewardMix, config: Config) -> Judge | None:
    """Load the models that a mix asks, or refuse them in one line, before anything is done; returns the judge."""
    if "embeddings" in mix.required_evidence:
        encoder(config.evidence.encoder)
    if "nli" in mix.required_evidence:
        entailment([("a", "a")], config.evidence.nli)
    return Judge(config.judge) if "judge" in mix.required_evidence else None


def build_reference(policy: Policy, config: Config) -> Reference:
    """The policy as it is now; with `evidence.reference` another model, or the average that a checkpoint keeps."""
    saved = Path(config.evidence.reference) / "reference.safetensors"
    if not config.evidence.reference or saved.is_file():
        made = Reference(policy, config.train)
        if config.evidence.reference:
            with explain_read_errors(saved.parent):
                made.load_state_dict(load_file(saved), strict=False)  # tied weights are kept once
        return made
    own = Policy.load(replace(config, model=config.evidence.reference)).to(policy.device)
    return Reference(own, config.train)


def to_json(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence as `samples/` keeps it: what JSON can say; of models, what they were asked and replied."""
    said = {name: thing.said for name, thing in evidence.items() if isinstance(thing, LoggedModel) and thing.said}
    return {name: _plain(thing) for name, thing in {**evidence, **said}.items() if not callable(thing)}


def reshuffled_options(prompt: Prompt) -> list[int]:
    """Another order of the options, by hash of the sample: place -> original place; no option stays where it was."""
    places = list(range(len(prompt.options)))
    step = 1 + int(uniform_hash("reanswer", prompt.id) * (len(places) - 1)) if len(places) > 1 else 0
    return places[step:] + places[:step]


def _heads(groups: Sequence[Group]) -> Heads:
    """Each completion up to its answer's letter; None where it has no thought."""
    return [[_own_head(completion) for completion in group] for group in groups]


def _own_head(completion: Completion) -> str | None:
    if completion.thought is None:
        return None
    before, tag, _ = completion.text.partition(OPEN)
    return before + tag if tag and "</think>" in before else _head(completion.thought)


def _head(said: str) -> str:
    return f"<think>{said}</think>{OPEN}"


def _plain(thing: Any) -> Any:
    if isinstance(thing, Group):
        texts = {"completions": [c.text for c in thing], "answers": [c.answer for c in thing]}
        return texts | {"columns": thing.columns}
    if isinstance(thing, Likelihood):
        return asdict(thing)
    return [_plain(item) for item in thing] if isinstance(thing, list | tuple) else thing
