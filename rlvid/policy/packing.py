"""The shared prefix: one row per group, [prompt | c1 | .. | cG], so that the prompt is processed once, not G times.

Each completion sees the prompt and itself; its positions restart after the prompt. The log-probabilities are those of G
separate rows (tests compare both forms, values and gradients). Attention is taken in two pieces, the prompts' own and
the completions' over prompt and self, so that no completion is ever multiplied with another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLForConditionalGeneration, eager_attention_forward

from rlvid.distributed import all_reduce_max
from rlvid.policy.oom import OOMBackoff

if TYPE_CHECKING:
    from rlvid.policy.model import Policy
    from rlvid.policy.types import ModelInputs

T = TypeVar("T")
Tokens = Sequence[Sequence[Sequence[int]]]  # the tokens of each completion of each group
LOGITS = 2**26  # as many logits exist at once: 256 MB in float32
LANES = 16  # the prompts' piece ends at a multiple: kernels round keys that do not fill a vector in another way


def row_lengths(prompts: Sequence[ModelInputs], completions: Tokens) -> list[int]:
    """How many tokens each group's row has."""
    return [len(p.input_ids) + sum(map(len, group)) for p, group in zip(prompts, completions, strict=True)]


def micro_batches(prompts: Sequence[ModelInputs], completions: Tokens, budget: int) -> list[list[int]]:
    """Which groups share a forward: those of like length, of at most `budget` tokens with their padding, or one."""
    wide = row_lengths(prompts, completions)
    parts: list[list[int]] = []
    for i in sorted(range(len(wide)), key=lambda i: (-wide[i], i)):
        if not parts or wide[parts[-1][0]] * (len(parts[-1]) + 1) > budget:
            parts.append([])
        parts[-1].append(i)
    return parts


def map_micro_batches(
    prompts: Sequence[ModelInputs],
    completions: Tokens,
    backoff: OOMBackoff,
    function: Callable[[list[int]], Sequence[T]],
) -> list[T]:
    """Apply `function` to the indices of each micro-batch of groups; return one result per group, in group order.

    For forward passes without a gradient: where memory runs out, all groups are done again in smaller micro-batches.
    """
    longest = max(row_lengths(prompts, completions), default=1)
    for budget in backoff.sizes(longest * len(prompts), smallest=longest):
        with backoff.attempt(budget):
            results: dict[int, T] = {}
            for part in micro_batches(prompts, completions, budget):
                results |= zip(part, function(part), strict=True)
            return [results[i] for i in range(len(prompts))]
    raise AssertionError("unreachable: sizes() yields until it raises")


def packed_hidden_states(policy: Policy, prompts: Sequence[ModelInputs], completions: Tokens) -> tuple[Tensor, Tensor]:
    """(N, hidden) the last states before each of the completions' N tokens, and the (N,) tokens."""
    on = policy.device
    embed = policy.model.get_input_embeddings()
    tokens = [torch.tensor([t for c in group for t in c], device=on) for group in completions]
    rows = [torch.cat([prompt, embed(ids)]) for prompt, ids in zip(policy.embed(prompts), tokens, strict=True)]
    places = [_position_ids(p, g) for p, g in zip(prompts, completions, strict=True)]
    packing = Packing.of([len(p.input_ids) for p in prompts], completions, on)
    language = policy.model.model.language_model

    hidden = language(
        inputs_embeds=pad_sequence(rows, batch_first=True),
        attention_mask=dict.fromkeys(language.config.layer_types, packing),
        position_ids=pad_sequence([p.T for p in places], batch_first=True).permute(2, 0, 1).to(on),
        use_cache=False,
    ).last_hidden_state

    index = [
        (i, j)
        for i, (p, g) in enumerate(zip(prompts, completions, strict=True))
        for j in _predicting_columns(len(p.input_ids), g)
    ]
    row, column = torch.tensor(index, device=on).T
    return hidden[row, column], torch.cat(tokens)


@dataclass(frozen=True)
class Packing:
    """Where prompts and completions stand in N packed rows of L tokens: G completions each, of up to C tokens."""

    prompt: int  # the longest prompt's length, rounded up to LANES where rows are as long
    inside: Tensor  # (N*G*C,): where each completion's tokens stand among all rows' N*L; a pad stands at 0
    sees: Tensor  # (N*G, 1, C, prompt + C) bool: a token sees its prompt, and its completion up to itself
    back: Tensor  # (N*L,): where each token stands among the N*prompt and then the N*G*C

    @classmethod
    def of(cls, prompts: Sequence[int], completions: Tokens, device: torch.device) -> Packing:
        """Of prompts so long and their completions; groups may be of different sizes."""
        rows, size = len(prompts), max(map(len, completions))
        counts = torch.tensor([[len(c) for c in g] + [0] * (size - len(g)) for g in completions])  # (N, G)
        length = torch.tensor(prompts)
        width, most = int((length + counts.sum(1)).max()), int(counts.max())
        longest = min(width, -(-max(prompts) // LANES) * LANES)
        begins = length[:, None] + counts.cumsum(1) - counts + torch.arange(rows)[:, None] * width
        step = torch.arange(most)
        real = step < counts[..., None]  # (N, G, C)
        inside = (begins[..., None] + step) * real
        before = (torch.arange(longest) < length[:, None])[:, None, None].expand(-1, size, most, -1)
        own = torch.ones(most, most, dtype=torch.bool).tril().expand(rows, size, -1, -1)
        column = torch.arange(width).expand(rows, -1)
        back = column.clamp(max=longest - 1) + torch.arange(rows)[:, None] * longest
        back = back.flatten().scatter(0, inside[real], rows * longest + real.flatten().nonzero()[:, 0])
        sees = torch.cat([before, own], dim=-1).flatten(0, 1)[:, None]
        return cls(longest, inside.flatten().to(device), sees.to(device), back.to(device))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """(N, heads, L, D) queries over (N, key heads, L, D) keys and values -> (N, L, heads, D)."""
        each = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(each, dim=1), value.repeat_interleave(each, dim=1)
        first, *before = (x[:, :, : self.prompt] for x in (query, key, value))
        heads = scaled_dot_product_attention(first, before[0], before[1], is_causal=True, scale=scale).transpose(1, 2)
        queries, keys, values = (self._own(x) for x in (query, key, value))
        group = len(queries) // len(query)
        keys, values = (
            torch.cat([shared[:, None].expand(-1, group, -1, -1, -1).flatten(0, 1), own], dim=2)
            for shared, own in zip(before, (keys, values), strict=True)
        )
        tails = scaled_dot_product_attention(queries, keys, values, attn_mask=self.sees, scale=scale).transpose(1, 2)
        seen = torch.cat([heads.flatten(0, 1), tails.flatten(0, 1)])
        return seen.index_select(0, self.back).view(len(query), -1, *heads.shape[2:])

    def _own(self, x: Tensor) -> Tensor:
        """(N, heads, L, D) -> (N*G, heads, C, D): the completions', each in a row of its own."""
        tokens = x.transpose(1, 2).flatten(0, 1).index_select(0, self.inside)
        return tokens.unflatten(0, (-1, self.sees.shape[2])).transpose(1, 2)


def attend_packed(
    usual: Callable[..., Any], module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """An attention function of transformers': a `mask` that knows how attends by itself, all else is as usual."""
    if hasattr(mask, "attend"):
        return mask.attend(module.layer_idx, query, key, value, kwargs.get("scaling")), None
    return usual(module, query, key, value, mask, **kwargs)


def register_packed_attention(model: Qwen2VLForConditionalGeneration) -> None:
    """Teach a Qwen2-VL's language model to read packed rows."""
    config = model.model.language_model.config
    usual, name = config._attn_implementation, f"{config._attn_implementation}_packed"
    known = ALL_ATTENTION_FUNCTIONS.get_interface(usual, eager_attention_forward)
    ALL_ATTENTION_FUNCTIONS.register(name, partial(attend_packed, known))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[usual])
    config._attn_implementation = name


def token_logps(policy: Policy, hidden: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(N, hidden) states and the (N,) tokens that follow them -> (N,) log-probabilities and (N,) entropies.

    Where there are too many logits to exist at once they are made in pieces, and made again on the way back. Processes
    that learn together make equally many: under ZeRO-3 they fetch the head's weights together for each.
    """
    pieces = -(-len(tokens) // max(1, LOGITS // policy.model.lm_head.out_features))
    if torch.is_grad_enabled():
        pieces = all_reduce_max(pieces)
    if pieces == 1:
        return _token_logps(policy, hidden, tokens, temperature)
    parts = [
        checkpoint(_token_logps, policy, states, following, temperature, use_reentrant=False)
        for states, following in zip(hidden.tensor_split(pieces), tokens.tensor_split(pieces), strict=True)
    ]
    logps, entropy = zip(*parts, strict=True)
    return torch.cat(logps), torch.cat(entropy)


def _token_logps(policy: Policy, hidden: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logps = policy.logits(hidden, temperature).log_softmax(-1)
    entropy = -(logps.exp() * logps.masked_fill(logps.isneginf(), 0)).sum(-1)
    return logps.gather(-1, tokens[:, None])[:, 0], entropy


def _position_ids(prompt: ModelInputs, completions: Sequence[Sequence[int]]) -> Tensor:
    """(3, L + tokens): M-RoPE positions; every completion starts where the prompt ends."""
    after = torch.cat([torch.arange(len(c)) for c in completions]) + prompt.next_position
    return torch.cat([prompt.position_ids, after.to(prompt.position_ids).expand(3, -1)], dim=1)


def _predicting_columns(length: int, completions: Sequence[Sequence[int]]) -> list[int]:
    """Column of the state that predicts each completion token: the prompt's last, then the token before."""
    columns, offset = [], length
    for completion in completions:
        columns += [length - 1, *range(offset, offset + len(completion) - 1)][: len(completion)]
        offset += len(completion)
    return columns


def pad_rows(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """(N,) -> (B, T), zero on padding."""
    return pad_sequence(list(values.split(list(lengths))), batch_first=True)
