"""The shared prefix: one row per group, [prompt | c1 | .. | cG], so that the prompt is processed once, not G times.

Each completion sees the prompt and itself; its positions restart after the prompt. The log-probabilities are those of G
separate rows (tests compare both forms, values and gradients).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from rlvid.policy.model import Encoded, Policy


def packed_states(
    policy: Policy, prompts: Sequence[Encoded], completions: Sequence[Sequence[Sequence[int]]]
) -> tuple[Tensor, Tensor]:
    """(N, hidden) the last states before each of the completions' N tokens, and the (N,) tokens."""
    on = policy.device
    embed = policy.model.get_input_embeddings()
    tokens = [torch.tensor([t for c in group for t in c], device=on) for group in completions]
    rows = [torch.cat([prompt, embed(ids)]) for prompt, ids in zip(policy.embed(prompts), tokens, strict=True)]
    segments = [_segments(len(p.ids), g) for p, g in zip(prompts, completions, strict=True)]
    places = [_places(p, g) for p, g in zip(prompts, completions, strict=True)]

    hidden = policy.model.model.language_model(
        inputs_embeds=pad_sequence(rows, batch_first=True),
        attention_mask=_mask(pad_sequence(segments, batch_first=True, padding_value=-1).to(on)),
        position_ids=pad_sequence([p.T for p in places], batch_first=True).permute(2, 0, 1).to(on),
        use_cache=False,
    ).last_hidden_state

    index = [(i, j) for i, (p, g) in enumerate(zip(prompts, completions, strict=True)) for j in _before(len(p.ids), g)]
    row, column = torch.tensor(index, device=on).T
    return hidden[row, column], torch.cat(tokens)


def score(policy: Policy, hidden: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(N, hidden) states and the (N,) tokens that follow them -> (N,) log-probabilities and (N,) entropies."""
    logps = policy.logits(hidden, temperature).log_softmax(-1)
    entropy = -(logps.exp() * logps.masked_fill(logps.isneginf(), 0)).sum(-1)
    return logps.gather(-1, tokens[:, None])[:, 0], entropy


def _segments(length: int, completions: Sequence[Sequence[int]]) -> Tensor:
    """(L + tokens,): 0 on the prompt, 1..G on the completions."""
    counts = torch.tensor([length, *map(len, completions)])
    return torch.arange(len(counts)).repeat_interleave(counts)


def _places(prompt: Encoded, completions: Sequence[Sequence[int]]) -> Tensor:
    """(3, L + tokens): M-RoPE positions; every completion starts where the prompt ends."""
    after = torch.cat([torch.arange(len(c)) for c in completions]) + prompt.start
    return torch.cat([prompt.positions, after.to(prompt.positions).expand(3, -1)], dim=1)


def _mask(segments: Tensor) -> Tensor:
    """(P, L) segments -> (P, 1, L, L) bool: a token sees the prompt and its own segment, up to itself."""
    same = segments[:, :, None] == segments[:, None, :]
    prompt = (segments == 0)[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    return ((same | prompt) & causal)[:, None]


def _before(length: int, completions: Sequence[Sequence[int]]) -> list[int]:
    """Column of the state that predicts each completion token: the prompt's last, then the token before."""
    columns, offset = [], length
    for completion in completions:
        columns += [length - 1, *range(offset, offset + len(completion) - 1)][: len(completion)]
        offset += len(completion)
    return columns


def rows(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """(N,) -> (B, T), zero on padding."""
    return pad_sequence(list(values.split(list(lengths))), batch_first=True)
