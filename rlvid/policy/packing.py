"""Packed rows: one row per group, [prompt | c1 | .. | cG], so that a prompt is processed once, not G times.

Each completion attends to the prompt and to itself, and its positions start right after the prompt. So its
log-probabilities are those of a row of its own; tests compare values and gradients with G separate rows.

A row with the prompt ABC and G = 2 completions, de and f. `x`: the query attends to the key.

                     key
                A B C d e f
              +-------------
    query   A | x
            B | x x
            C | x x x
            d | x x x x
            e | x x x x x
            f | x x x     x    not to d and e, which are another completion

Attention is computed in two calls, so that no completion is ever multiplied with another:

    1. prompts, causal:          2. completions, each in a row of its own, padded to C = 2 tokens:

           A B C                        A B C | own tokens
        A  x . .                     d  x x x | x .
        B  x x .                     e  x x x | x x
        C  x x x                     f  x x x | x .
                                     -  x x x | x x    padding: its result is not used
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rlvid.policy.types import CompletionTokens, ModelInputs

if TYPE_CHECKING:
    from rlvid.policy.model import Policy

# The prompt part has a multiple of so many columns: kernels sum keys that do not fill a vector in another order.
VECTOR_WIDTH = 16

# The attention mask beside `attend_with`. transformers passes a mask of four dimensions on as it is; this one is empty,
# so that attention that used it would fail and not be wrong.
UNUSED_MASK = torch.zeros(0, 0, 0, 0, dtype=torch.bool)


def packed_hidden_states(
    policy: Policy, prompts: Sequence[ModelInputs], completions: CompletionTokens
) -> tuple[Tensor, Tensor]:
    """Run packed rows through the language model.

    Returns:
        (N, hidden): the last hidden state before each of the N completion tokens of all groups, and (N,): the tokens.
    """
    device = policy.device
    language_model = policy.model.model.language_model
    embed_tokens = policy.model.get_input_embeddings()
    tokens = [torch.tensor([t for completion in group for t in completion], device=device) for group in completions]
    prompt_embeds = policy.embed(prompts)
    row_positions = [_position_ids(*row) for row in zip(prompts, completions, strict=True)]  # (3, row's tokens) each
    packing = Packing.build([len(prompt.input_ids) for prompt in prompts], completions, device)

    hidden = language_model(
        **prompt_embeds.model_arguments([embed_tokens(ids) for ids in tokens]),
        attention_mask=UNUSED_MASK,
        attend_with=packing,
        position_ids=pad_sequence([p.T for p in row_positions], batch_first=True).permute(2, 0, 1).to(device),
        use_cache=False,
    ).last_hidden_state  # (rows, L, hidden)

    columns: list[int] = []  # among the columns of all rows, row after row
    for row, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        first = row * hidden.shape[1]
        columns += [first + column for column in _predicting_columns(len(prompt.input_ids), group)]
    # A prompt's last column occurs once for each completion. The backward pass of `hidden[columns]` would add up their
    # gradients with atomic operations, in an order that changes from run to run; that of an embedding keeps the order.
    return embedding(torch.tensor(columns, device=device), hidden.flatten(0, 1)), torch.cat(tokens)


def _position_ids(prompt: ModelInputs, completions: Sequence[Sequence[int]]) -> Tensor:
    """(3, row's tokens): M-RoPE positions. Every completion starts right after the prompt."""
    after = torch.cat([torch.arange(len(completion)) for completion in completions]) + prompt.next_position
    return torch.cat([prompt.position_ids, after.to(prompt.position_ids).expand(3, -1)], dim=1)


def _predicting_columns(prompt_length: int, completions: Sequence[Sequence[int]]) -> list[int]:
    """The column of the state that predicts each completion token.

    A completion's first token is predicted by the prompt's last, every other one by the token before it:

        token           A B C d e f
        column          0 1 2 3 4 5
        predicted by          2 3 2
    """
    columns, start = [], prompt_length
    for completion in completions:
        end = start + len(completion)
        if completion:
            columns += [prompt_length - 1, *range(start, end - 1)]
        start = end
    return columns


@dataclass(frozen=True)
class Packing:
    """Where prompts and completions are in packed rows. Given to the model's layers as `attend_with`.

    Shapes: N rows of L columns; G completions in the largest group, where smaller groups count empty ones; C tokens in
    the longest completion; S columns that cover every prompt.
    """

    prompt_columns: int  # S
    completion_index: Tensor  # (N*G*C,): where each completion token is among the N*L columns; 0 for padding
    completion_mask: Tensor  # (N*G, 1, C, S + C) bool: the mask of call 2, over prompt and own tokens
    output_index: Tensor  # (N*L,): where each column's result is among the N*S of call 1 and then the N*G*C of call 2

    @classmethod
    def build(cls, prompt_lengths: Sequence[int], completions: CompletionTokens, device: torch.device) -> Packing:
        """Return the packing of N prompts of these lengths and their completions; groups may differ in size."""
        group_size = max(map(len, completions))  # G
        prompts = torch.tensor(prompt_lengths)  # (N,)
        lengths = torch.tensor([[len(c) for c in g] + [0] * (group_size - len(g)) for g in completions])  # (N, G)
        row_length = int((prompts + lengths.sum(1)).max())  # L
        rounded_up = -(-max(prompt_lengths) // VECTOR_WIDTH) * VECTOR_WIDTH
        prompt_columns = min(row_length, rounded_up)  # S

        is_token = torch.arange(int(lengths.max())) < lengths[..., None]  # (N, G, C)
        completion_index = _completion_index(prompts, lengths, row_length) * is_token
        completion_mask = _completion_mask(prompts, is_token, prompt_columns)
        output_index = _output_index(completion_index, is_token, row_length, prompt_columns)
        return cls(
            prompt_columns,
            completion_index.flatten().to(device),
            completion_mask.flatten(0, 1)[:, None].to(device),
            output_index.to(device),
        )

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attention of one layer over packed rows.

        Args:
            layer: the layer's index; subclasses use it.
            query: (N, heads, L, D).
            key, value: (N, key heads, L, D).
            scale: of the scores; None is 1 / sqrt(D).

        Returns:
            (N, L, heads, D).
        """
        queries_per_key = query.shape[1] // key.shape[1]
        key = key.repeat_interleave(queries_per_key, dim=1)
        value = value.repeat_interleave(queries_per_key, dim=1)

        # Call 1: the first S columns. Shorter prompts are followed by completion tokens, whose results are not used.
        prompt_query, prompt_key, prompt_value = (x[:, :, : self.prompt_columns] for x in (query, key, value))
        prompt_output = scaled_dot_product_attention(
            prompt_query, prompt_key, prompt_value, is_causal=True, scale=scale
        ).transpose(1, 2)  # (N, S, heads, D)

        # Call 2: every completion over its prompt and itself.
        own_query, own_key, own_value = (self._completion_rows(x) for x in (query, key, value))
        keys = self._with_prompt(prompt_key, own_key)
        values = self._with_prompt(prompt_value, own_value)
        completion_output = scaled_dot_product_attention(
            own_query, keys, values, attn_mask=self.completion_mask, scale=scale
        ).transpose(1, 2)  # (N*G, C, heads, D)

        outputs = torch.cat([prompt_output.flatten(0, 1), completion_output.flatten(0, 1)])
        return outputs.index_select(0, self.output_index).view(len(query), -1, *outputs.shape[1:])

    def _completion_rows(self, x: Tensor) -> Tensor:
        """(N, heads, L, D) -> (N*G, heads, C, D): every completion in a row of its own."""
        tokens = x.transpose(1, 2).flatten(0, 1).index_select(0, self.completion_index)  # (N*G*C, heads, D)
        return tokens.unflatten(0, (-1, self.completion_mask.shape[2])).transpose(1, 2)

    def _with_prompt(self, prompt: Tensor, own: Tensor) -> Tensor:
        """(N, heads, S, D) of prompts and (N*G, heads, C, D) of completions -> (N*G, heads, S + C, D)."""
        group_size = len(own) // len(prompt)
        repeated = prompt[:, None].expand(-1, group_size, -1, -1, -1).flatten(0, 1)
        return torch.cat([repeated, own], dim=2)


def _completion_index(prompts: Tensor, lengths: Tensor, row_length: int) -> Tensor:
    """(N, G, C): where each completion token is among the N*L columns of all rows, row after row.

    For two rows with L = 6, the first ABC de f, the second XY z uv:

        columns            0 1 2 3 4 5   6 7 8 9 10 11
        tokens             A B C d e f   X Y z u v  .
        completion_index   [[[3, 4], [5, 6]], [[8, 9], [9, 10]]]

    Entries beyond a completion's end, here 6 and the first 9, are padding; the caller sets them to 0.
    """
    start_in_row = prompts[:, None] + lengths.cumsum(1) - lengths  # (N, G)
    row_start = torch.arange(len(prompts))[:, None] * row_length  # (N, 1)
    return (start_in_row + row_start)[..., None] + torch.arange(int(lengths.max()))


def _completion_mask(prompts: Tensor, is_token: Tensor, prompt_columns: int) -> Tensor:
    """(N, G, C, S + C) bool: a completion token attends to its whole prompt, and to its completion up to itself."""
    groups, group_size, longest = is_token.shape
    on_prompt = torch.arange(prompt_columns) < prompts[:, None]  # (N, S)
    on_self = torch.ones(longest, longest, dtype=torch.bool).tril()  # (C, C)
    on_prompt = on_prompt[:, None, None].expand(-1, group_size, longest, -1)
    return torch.cat([on_prompt, on_self.expand(groups, group_size, -1, -1)], dim=-1)


def _output_index(completion_index: Tensor, is_token: Tensor, row_length: int, prompt_columns: int) -> Tensor:
    """(N*L,): where each column's result is, among the N*S results of call 1 followed by the N*G*C of call 2.

    For the example of `_completion_index`, with S = 3 and so N*S = 6 results of call 1:

        columns        0 1 2 3 4 5   6 7 8  9  10 11
        tokens         A B C d e f   X Y z  u  v  .
        output_index   0 1 2 6 7 8   3 4 10 12 13 5

    The result of padding, here 5, is not used.
    """
    groups = len(completion_index)
    first = torch.arange(groups)[:, None] * prompt_columns
    column = torch.arange(row_length).expand(groups, -1)
    from_prompt = (column.clamp(max=prompt_columns - 1) + first).flatten()  # right for prompts, replaced for the rest
    from_completions = groups * prompt_columns + is_token.flatten().nonzero()[:, 0]
    return from_prompt.scatter(0, completion_index[is_token], from_completions)


def register_packed_attention(model: PreTrainedModel) -> None:
    """Make a language model accept the keyword argument `attend_with`, such as a `Packing` (see `attend_packed`).

    transformers hands keyword arguments that it does not know down to the attention function of every layer.
    """
    config = model.model.language_model.config
    original, name = config._attn_implementation, f"{config._attn_implementation}_packed"
    eager = sys.modules[type(model).__module__].eager_attention_forward  # every model has one of its own
    attention_function = ALL_ATTENTION_FUNCTIONS.get_interface(original, eager)
    ALL_ATTENTION_FUNCTIONS.register(name, partial(attend_packed, attention_function))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[original])
    config._attn_implementation = name


def attend_packed(
    original: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    attend_with: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """An attention function for transformers: `attend_with`, if given, computes the attention itself, without a mask.

    Its method is attend(layer, query, key, value, scale), as `Packing.attend`.
    """
    if attend_with is not None:
        return attend_with.attend(module.layer_idx, query, key, value, kwargs.get("scaling")), None
    return original(module, query, key, value, mask, **kwargs)


def pad_completions(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """(N,) values of B completions of these lengths -> (B, T), 0 on padding."""
    return pad_sequence(list(values.split(list(lengths))), batch_first=True)
