"""Record where a completion's tokens attend.

The attention of a token is that of the state from which it was predicted. Weights are computed only for a completion's
tokens and only in the layers that are wanted, 64 tokens at a time, and are averaged over heads at once. So with the
heads of Qwen2-VL-7B, 930 prompt tokens and 256 completion tokens, all 28 layers add 80 MB, where full attention of a
single layer adds 315 MB (as torch counts what it allocates on a CPU: tests/study/test_attention.py).

Some positions attract attention from every token, whatever it is: attention sinks, in language models (Xiao et al.
2023, arXiv:2309.17453) and among visual tokens (Kang et al. 2025, arXiv:2503.03321). Here a position is a sink if three
tokens in four give it more than `SINK_FACTOR` times an equal share; shares leave sinks out. The rule is ours. It cannot
tell a sink from a position that nearly all tokens of a completion attend to for a good reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlvid.policy.families import require_packed
from rlvid.policy.model import Policy
from rlvid.policy.packing import UNUSED_MASK, Packing
from rlvid.policy.types import ModelInputs

TOKENS_AT_ONCE = 64
SINK_FACTOR = 10.0
TOKEN_KINDS = ("video", "image", "text", "completion")


@dataclass(frozen=True)
class AttentionRecorder(Packing):
    """A packed row with one completion that records the attention of each of its tokens.

    L is the number of prompt and completion tokens, T that of completion tokens. With no `layers` or `heads` all are
    recorded.
    """

    prompt_tokens: int = 0
    layers: Sequence[int] = ()
    heads: Sequence[int] = ()
    recorded: list[Tensor] = field(default_factory=list)  # (T, L) for each recorded layer

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """As `Packing.attend`; also records the layer's weights."""
        if not self.layers or layer in self.layers:
            with torch.autocast(
                query.device.type, enabled=False
            ):  # weights are float32, whatever the model computes in
                self.recorded.append(self._weights(query, key, scale))
        return super().attend(layer, query, key, value, scale)

    def _weights(self, query: Tensor, key: Tensor, scale: float | None) -> Tensor:
        """(1, heads, L, D) queries and (1, key heads, L, D) keys -> (T, L), the mean over heads."""
        heads = list(self.heads) or list(range(query.shape[1]))
        queries_per_key = query.shape[1] // key.shape[1]
        keys = key[0, [head // queries_per_key for head in heads]].float()  # (heads, L, D)
        columns = torch.arange(key.shape[2], device=key.device)
        predicting = slice(self.prompt_tokens - 1, -1)  # the columns that completion tokens are predicted from
        query_parts = query[0, heads, predicting].float().split(TOKENS_AT_ONCE, dim=1)
        column_parts = columns[predicting].split(TOKENS_AT_ONCE)
        weights = []
        for part_columns, part_queries in zip(column_parts, query_parts, strict=True):
            scores = part_queries @ keys.mT * (scale or query.shape[-1] ** -0.5)
            scores = scores.masked_fill(columns > part_columns[:, None], -torch.inf)  # causal
            weights.append(scores.softmax(-1).mean(0).cpu())
        return torch.cat(weights)


@torch.no_grad()
def record_attention(
    policy: Policy, prompt: ModelInputs, tokens: Sequence[int], layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> Tensor:
    """Return where each of a completion's T tokens attends.

    Args:
        policy: the model.
        prompt: its inputs.
        tokens: the completion's T token ids.
        layers, heads: to average over; none are all.

    Returns:
        (T, L) float32 weights over prompt and completion tokens.

    Raises:
        UserError: for a model on the general path.
    """
    require_packed(policy.model.name_or_path, policy.model.config.to_dict(), "attention maps")
    device, language_model = policy.device, policy.model.model.language_model
    prompt_length, token_ids = len(prompt.input_ids), torch.tensor(tokens, device=device)
    packing = Packing.build([prompt_length], [[tokens]], device)
    recorder = AttentionRecorder(**vars(packing), prompt_tokens=prompt_length, layers=layers, heads=heads)
    positions = torch.arange(len(token_ids), device=device).expand(3, -1) + prompt.next_position
    with policy.precision():
        language_model(
            **policy.embed([prompt]).model_arguments([policy.model.get_input_embeddings()(token_ids)]),
            attention_mask=UNUSED_MASK,
            attend_with=recorder,
            position_ids=torch.cat([prompt.position_ids, positions], dim=1)[:, None],
            use_cache=False,
        )
    return torch.stack(recorder.recorded).mean(0)


def token_kinds(policy: Policy, prompt: ModelInputs, length: int) -> Tensor:
    """Return (L,) indices into `TOKEN_KINDS`, for the prompt's tokens and a completion; `length` is L."""
    config, prompt_ids = policy.model.config, prompt.input_ids.cpu()
    kinds = torch.full((length,), TOKEN_KINDS.index("completion"))
    prompt_kinds = torch.full((len(prompt_ids),), TOKEN_KINDS.index("text"))
    prompt_kinds[prompt_ids == config.video_token_id] = TOKEN_KINDS.index("video")
    prompt_kinds[prompt_ids == config.image_token_id] = TOKEN_KINDS.index("image")
    kinds[: len(prompt_ids)] = prompt_kinds
    return kinds


def find_sinks(weights: Tensor) -> Tensor:
    """(T, L) weights -> (L,) bool: whether a position is an attention sink."""
    return weights.quantile(0.25, dim=0) > SINK_FACTOR / weights.shape[1]  # three tokens in four exceed the quantile


def attention_shares(weights: Tensor, kinds: Tensor) -> Tensor:
    """(T, L) weights and (L,) kinds -> (T, 4): each kind's share of a token's attention, sinks left out."""
    without_sinks = weights * ~find_sinks(weights)
    by_kind = [without_sinks[:, kinds == kind].sum(1) for kind in range(len(TOKEN_KINDS))]
    shares = torch.stack(by_kind, dim=1)
    return shares / shares.sum(1, keepdim=True).clamp(min=1e-9)
