"""The kinds of evidence, one function each: (sources, request, argument) -> one value per group.

To add a kind, write a function here, decorate it with `@evidence("NAME")`, and read `group.evidence["NAME"]` in a
reward with `needs = frozenset({"NAME"})`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from rlvid.answer import LETTERS, TAG
from rlvid.judges.encoder import embed, entailment
from rlvid.judges.logged_model import LoggedModel
from rlvid.policy.attention import attention_shares, record_attention, token_kinds
from rlvid.policy.batching import map_micro_batches
from rlvid.policy.model import Policy
from rlvid.policy.option_probs import OPEN, option_letter_probs
from rlvid.policy.reference import Reference
from rlvid.policy.types import ModelInputs
from rlvid.trainer.evidence_registry import EvidenceRequest, EvidenceSources, evidence
from rlvid.trainer.token_inputs import view_inputs
from rlvid.types import Completion, Group, Likelihood, Prompt
from rlvid.utils.hashing import uniform_hash
from rlvid.video.views import Clip

# For each completion of each group, the text up to where its answer's letter stands; None without a thought.
Heads = Sequence[Sequence[str | None]]


def has_narrations(prompts: Sequence[Prompt], argument: str) -> bool:
    """Whether any prompt has narrations."""
    return any(prompt.narrations for prompt in prompts)


def has_options(prompts: Sequence[Prompt], argument: str) -> bool:
    """Whether any prompt has at least two options."""
    return any(len(prompt.options) > 1 for prompt in prompts)


def has_frames_to_reorder(prompts: Sequence[Prompt], view_name: str) -> bool:
    """Whether any prompt has a video, if the view changes the order of frames."""
    return view_name not in ("shuffled", "reversed") or any(prompt.video for prompt in prompts)


@evidence("narrations", requires=has_narrations)
def narrations(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """What happens in the video, in sentences, according to the data set; never shown in the prompt."""
    return [group.prompt.narrations for group in request.groups]


@evidence("embeddings")
def embeddings(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """A function: n texts -> (n, d) unit vectors of a sentence encoder."""
    model = LoggedModel(partial(embed, encoder=sources.evidence_config.encoder), partial(sources.timer, "embeddings"))
    return [model.call_unlogged] * len(request.groups)  # vectors are too large to log


@evidence("nli")
def nli(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """A function: (premise, hypothesis) pairs -> probabilities of entailment under a cross-encoder."""
    model = partial(entailment, cross_encoder=sources.evidence_config.nli)
    return [LoggedModel(model, partial(sources.timer, "nli")) for _ in request.groups]


@evidence("judge")
def judge(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """A function: prompts -> replies of a language model behind an endpoint, None where the call failed."""
    assert sources.judge is not None
    return [LoggedModel(sources.judge, partial(sources.timer, "judge")) for _ in request.groups]


@evidence("ref_logps", needs_reference=True)
@torch.no_grad()
def ref_logps(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """Per completion, a tuple of its tokens' log-probabilities under the reference at the sampling temperature."""
    assert sources.reference is not None
    return completion_logps(sources, sources.reference, request.groups, request.inputs)


@evidence("view_logps", requires=has_frames_to_reorder)
@torch.no_grad()
def view_logps(sources: EvidenceSources, request: EvidenceRequest, view: str) -> list[Any]:
    """`view_logps:NAME`: per completion, a tuple of its tokens' log-probabilities under an altered view of the clip.

    They are those of the policy that sampled the completions, at the sampling temperature. See `view_inputs`.
    """
    inputs, _ = view_inputs(sources.policy, [group.prompt for group in request.groups], view, request.alter_clip)
    return completion_logps(sources, sources.policy, request.groups, inputs)


@evidence("answer_probs", requires=has_options)
def answer_probs(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """Per completion, each letter's probability where the answer stands, under the policy; None without a thought."""
    return letter_probs(sources, sources.policy, request.groups, request.inputs, answer_heads(request.groups))


@evidence("forced_probs", requires=has_options)
def forced_probs(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """Per completion, each letter's probability after its reasoning, whether or not the reply has tags or an answer."""
    heads = [[_completion_head(c) or answer_head(_untagged(c.text)) for c in group] for group in request.groups]
    return letter_probs(sources, sources.policy, request.groups, request.inputs, heads)


@evidence("answer_likelihood", requires=has_options, needs_reference=True)
def answer_likelihood(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """Per completion, a `Likelihood` under the reference: in full, without the reasoning, without the pixels."""
    assert sources.reference is not None
    groups, heads = request.groups, answer_heads(request.groups)
    without_reasoning = [[head and answer_head("") for head in row] for row in heads]
    without_video = [sources.policy.encode(group.prompt, Clip()) for group in groups]
    with sources.reference.as_policy() as reference:
        full = letter_probs(sources, reference, groups, request.inputs, heads)
        no_reasoning = letter_probs(sources, reference, groups, request.inputs, without_reasoning)
        no_video = letter_probs(sources, reference, groups, without_video, heads)
    return [
        [Likelihood(*probs) if probs[0] else None for probs in zip(*rows, strict=True)]
        for rows in zip(full, no_reasoning, no_video, strict=True)
    ]


@evidence("reanswer", requires=has_options)
def reanswer(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """Per completion, the letter that the policy finds likeliest given the thought alone; None without a thought.

    The prompt has no pixels, and its options are reshuffled; the letter is in the original order of the options.
    """
    orders = [reshuffled_options(group.prompt) for group in request.groups]
    prompts = [
        replace(group.prompt, options=tuple(group.prompt.options[i] for i in order))
        for group, order in zip(request.groups, orders, strict=True)
    ]
    heads = [[None if c.thought is None else answer_head(c.thought) for c in group] for group in request.groups]
    inputs = [sources.policy.encode(prompt, Clip()) for prompt in prompts]
    probs = letter_probs(sources, sources.policy, request.groups, inputs, heads)
    return [
        [None if p is None else LETTERS[order[p.index(max(p))]] for p in row]
        for order, row in zip(orders, probs, strict=True)
    ]


@evidence("visual_attention", needs_packed=True)
def visual_attention(sources: EvidenceSources, request: EvidenceRequest, argument: str) -> list[Any]:
    """Per completion, the share of its attention on pixels: mean over layers, heads, tokens; None without pixels."""

    def share(inputs: ModelInputs, completion: Completion) -> float:
        weights = record_attention(sources.policy, inputs, completion.tokens)  # (T, L)
        shares = attention_shares(weights, token_kinds(sources.policy, inputs, weights.shape[1]))
        return float(shares[:, :2].sum(1).mean())  # the first two kinds are video and image

    return [
        [share(inputs, completion) if len(inputs.grid_thw) else None for completion in group]
        for group, inputs in zip(request.groups, request.inputs, strict=True)
    ]


@evidence("view", requires=has_frames_to_reorder)
def altered_view(sources: EvidenceSources, request: EvidenceRequest, view_name: str) -> list[Any]:
    """`view:NAME`: a group of completions sampled under an altered view, with the columns of rewards without needs.

    They are sampled with the same seed as the request's completions, and judged by the same verifier.
    """
    prompts = [group.prompt for group in request.groups]
    inputs, _ = view_inputs(sources.policy, prompts, view_name, request.alter_clip)
    groups = sources.sample_view(prompts, inputs, request.seed)
    sources.mix.score_text_only(groups, request.corrupt)
    return groups


def completion_logps(
    sources: EvidenceSources, model: Policy | Reference, groups: Sequence[Group], inputs: Sequence[ModelInputs]
) -> list[Any]:
    """Per completion, a tuple of its tokens' log-probabilities under a model, at the sampling temperature."""
    temperature = sources.sampling.temperature or 1.0
    tokens = [[c.tokens for c in group] for group in groups]

    def score(chosen: Sequence[int]) -> list[Any]:
        part = [groups[i] for i in chosen]
        output = model.forward([inputs[i] for i in chosen], part, temperature)  # without hooks: see `score_no_grad`
        rows = iter(output.logps.tolist())
        return [[tuple(next(rows)[: len(c.tokens)]) for c in group] for group in part]

    return map_micro_batches(inputs, tokens, sources.backoff, score)


def letter_probs(
    sources: EvidenceSources, policy: Policy, groups: Sequence[Group], inputs: Sequence[ModelInputs], heads: Heads
) -> list[list[Any]]:
    """Per completion, the probabilities of its prompt's letters after its head; None where it has no head."""
    texts = [[head for head in row if head] for row in heads]
    options = [len(group.prompt.options) for group in groups]
    scored = [i for i, row in enumerate(texts) if row and options[i]]
    probs = option_letter_probs(
        policy, [inputs[i] for i in scored], [texts[i] for i in scored], [options[i] for i in scored], sources.backoff
    )
    by_group = dict(zip(scored, probs, strict=True))
    rows = []
    for i, row in enumerate(heads):
        remaining = iter(by_group.get(i, ()))
        rows.append([next(remaining, None) if head else None for head in row])
    return rows


def reshuffled_options(prompt: Prompt) -> list[int]:
    """Another order of the options, by hash of the sample id: new index -> original index; no option stays in place."""
    indices = list(range(len(prompt.options)))
    shift = 1 + int(uniform_hash("reanswer", prompt.id) * (len(indices) - 1)) if len(indices) > 1 else 0
    return indices[shift:] + indices[:shift]


def answer_heads(groups: Sequence[Group]) -> Heads:
    """Each completion up to the letter of its answer; None for one without a thought."""
    return [[_completion_head(completion) for completion in group] for group in groups]


def answer_head(thought: str) -> str:
    """A completion with this thought, up to the letter of its answer."""
    return f"<think>{thought}</think>{OPEN}"


def _completion_head(completion: Completion) -> str | None:
    if completion.thought is None:
        return None
    before, tag, _ = completion.text.partition(OPEN)
    return before + tag if tag and "</think>" in before else answer_head(completion.thought)


def _untagged(text: str) -> str:
    """A reply up to its first answer, without tags."""
    return TAG.sub("", text.partition(OPEN)[0]).strip()
