"""Log-probabilities and entropies of tokens, from hidden states, in chunks that fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rlvid.policy.types import CompletionTokens

if TYPE_CHECKING:
    from rlvid.policy.model import Policy

MAX_LOGITS = 2**26  # the most logits that exist at once: 256 MB in float32


def num_logit_chunks(policy: Policy, num_tokens: int) -> int:
    """Return how many chunks of at most `MAX_LOGITS` logits the logits of some tokens are computed in."""
    tokens_per_chunk = max(1, MAX_LOGITS // policy.model.get_output_embeddings().out_features)
    return -(-num_tokens // tokens_per_chunk)  # rounded up


def sync_logit_chunks(policy: Policy, micro_batches: Sequence[CompletionTokens]) -> list[int]:
    """Agree with all ranks on the number of logit chunks of each micro-batch. A collective.

    Under ZeRO-3 the ranks gather the head's weights together for each chunk, so their forward passes must have equally
    many.

    Args:
        policy: gives the size of the vocabulary.
        micro_batches: the completions of each micro-batch of this rank.

    Returns:
        The largest number over all ranks, for each micro-batch of the rank that has the most.
    """
    chunks = [num_logit_chunks(policy, sum(len(c) for group in batch for c in group)) for batch in micro_batches]
    chunks_of_ranks: list[list[int]] = gather_object([chunks])
    return [max(same_batch) for same_batch in zip_longest(*chunks_of_ranks, fillvalue=1)]


def token_logps(
    policy: Policy, hidden: Tensor, tokens: Tensor, temperature: float, num_chunks: int | None = None
) -> tuple[Tensor, Tensor]:
    """Compute log-probabilities and entropies of N tokens.

    Several chunks are computed one after the other, and again in the backward pass, so that only one chunk of logits
    exists at a time.

    Args:
        policy: its head gives the logits.
        hidden: (N, hidden), the state before each token.
        tokens: (N,) token ids.
        temperature: of the distribution.
        num_chunks: from `sync_logit_chunks`; None computes as many as this rank needs.

    Returns:
        (N,) log-probabilities and (N,) entropies in nats.
    """
    if num_chunks is None:
        num_chunks = num_logit_chunks(policy, len(tokens))
    if num_chunks == 1:
        return _token_logps(policy, hidden, tokens, temperature)
    chunks = [
        checkpoint(_token_logps, policy, chunk_hidden, chunk_tokens, temperature, use_reentrant=False)
        for chunk_hidden, chunk_tokens in zip(
            hidden.tensor_split(num_chunks), tokens.tensor_split(num_chunks), strict=True
        )
    ]
    logps, entropies = zip(*chunks, strict=True)
    return torch.cat(logps), torch.cat(entropies)


def _token_logps(policy: Policy, hidden: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logps = policy.logits(hidden, temperature).log_softmax(-1)  # (N, V)
    # A banned token adds 0 to the entropy; without the fill it would be 0 * -inf, which is NaN.
    entropies = -(logps.exp() * logps.masked_fill(logps.isneginf(), 0)).sum(-1)
    return logps.gather(-1, tokens[:, None])[:, 0], entropies
