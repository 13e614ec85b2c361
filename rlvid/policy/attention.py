"""Where a completion's tokens look: attention weights, formed only where they are asked for.

The row of a token is that of the state from which it was predicted. Weights are formed only in the layers asked for,
only for a completion's rows, 64 rows at a time, and averaged over heads at once: with the heads of Qwen2-VL-7B, 930
tokens of prompt and 256 of completion, all 28 layers add 80 MB, where a single one of full attention adds 315 (as
torch counts what it allocates on a CPU: tests/test_attention.py).

Some positions draw attention from every row whatever it says: sinks, in language models (Xiao et al. 2023,
arXiv:2309.17453) and among visual tokens (Kang et al. 2025, arXiv:2503.03321). Here a key is a sink where three rows in
four give it more than `SINK` times an even share; shares leave sinks out. The rule is ours, and knows no more:
what nearly all of a completion rightly looks at is one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlvid.policy.model import Policy
from rlvid.policy.packing import Packing
from rlvid.policy.types import ModelInputs

ROWS, SINK = 64, 10.0
TOKEN_KINDS = ("video", "image", "text", "own words")


@dataclass(frozen=True)
class AttentionRecorder(Packing):
    """A packed row that, while it is attended to, writes down where its one completion looks."""

    prompt_tokens: int = 0
    layers: Sequence[int] = ()
    heads: Sequence[int] = ()
    seen: list[Tensor | None] = field(default_factory=list)  # for each layer, (T, L) or nothing

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """As `Packing.attend`."""
        watched = not self.layers or layer in self.layers
        with torch.autocast(query.device.type, enabled=False):  # weights are float32, whatever the model computes in
            self.seen.append(self._weights(query, key, scale) if watched else None)
        return super().attend(layer, query, key, value, scale)

    def _weights(self, query: Tensor, key: Tensor, scale: float | None) -> Tensor:
        heads, each = list(self.heads) or list(range(query.shape[1])), query.shape[1] // key.shape[1]
        keys = key[0, [head // each for head in heads]].float()
        places, wanted, found = torch.arange(key.shape[2], device=key.device), slice(self.prompt_tokens - 1, -1), []
        asked = query[0, heads, wanted].float().split(ROWS, dim=1)
        for rows, queries in zip(places[wanted].split(ROWS), asked, strict=True):
            scores = queries @ keys.mT * (scale or query.shape[-1] ** -0.5)
            scores = scores.masked_fill(places > rows[:, None], -torch.inf)
            found.append(scores.softmax(-1).mean(0).cpu())
        return torch.cat(found)


@torch.no_grad()
def record_attention(
    policy: Policy, prompt: ModelInputs, tokens: Sequence[int], layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> Tensor:
    """(T, L) where each of a completion's T tokens looks, over prompt and completion: the mean of layers and heads."""
    on, language = policy.device, policy.model.model.language_model
    ids, start = torch.tensor(tokens, device=on), len(prompt.input_ids)
    packing = Packing.of([start], [[tokens]], on)
    gaze = AttentionRecorder(**vars(packing), prompt_tokens=start, layers=layers, heads=heads)
    after = torch.arange(len(ids), device=on).expand(3, -1) + prompt.next_position
    with policy.precision():
        language(
            inputs_embeds=torch.cat([*policy.embed([prompt]), policy.model.get_input_embeddings()(ids)])[None],
            attention_mask=dict.fromkeys(language.config.layer_types, gaze),
            position_ids=torch.cat([prompt.position_ids, after], dim=1)[:, None],
            use_cache=False,
        )
    return torch.stack([seen for seen in gaze.seen if seen is not None]).mean(0)


def token_kinds(policy: Policy, prompt: ModelInputs, length: int) -> Tensor:
    """(L,) for each of `length` tokens, prompt and completion, its index into `KINDS`."""
    found, ids = torch.full((length,), TOKEN_KINDS.index("text")), prompt.input_ids.cpu()
    found[: len(ids)][ids == policy.model.config.video_token_id] = TOKEN_KINDS.index("video")
    found[: len(ids)][ids == policy.model.config.image_token_id] = TOKEN_KINDS.index("image")
    found[len(ids) :] = TOKEN_KINDS.index("own words")
    return found


def find_sinks(weights: Tensor) -> Tensor:
    """(T, L) weights -> (L,) bool."""
    return weights.quantile(0.25, dim=0) > SINK / weights.shape[1]


def attention_shares(weights: Tensor, kinds: Tensor) -> Tensor:
    """(T, L) weights and (L,) kinds -> (T, 4) each kind's share of a token's attention, sinks left out."""
    free = weights * ~find_sinks(weights)
    found = torch.stack([free[:, kinds == i].sum(1) for i in range(len(TOKEN_KINDS))], dim=1)
    return found / found.sum(1, keepdim=True).clamp(min=1e-9)
