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
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rlvid.policy import packed_indices as indices
from rlvid.policy.last_layer import only_columns
from rlvid.policy.shared_attention import SharedPromptAttention, is_exact_for
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
    # One call for all rows: under ZeRO-3 each call is a collective, and processes may have unequally many rows.
    embeds = embed_tokens(torch.cat(tokens)).split([len(ids) for ids in tokens])

    with only_columns(language_model, packing.predicting_columns, packing.attend_last):
        hidden = language_model(
            **prompt_embeds.model_arguments(embeds),
            attention_mask=UNUSED_MASK,
            attend_with=packing,
            position_ids=pad_sequence([p.T for p in row_positions], batch_first=True).permute(2, 0, 1).to(device),
            use_cache=False,
        ).last_hidden_state[0]
    return hidden, torch.cat(tokens)


def _position_ids(prompt: ModelInputs, completions: Sequence[Sequence[int]]) -> Tensor:
    """(3, row's tokens): M-RoPE positions. Every completion starts right after the prompt."""
    after = torch.cat([torch.arange(len(completion)) for completion in completions]) + prompt.next_position
    return torch.cat([prompt.position_ids, after.to(prompt.position_ids).expand(3, -1)], dim=1)


@dataclass(frozen=True)
class Packing:
    """Where prompts and completions are in packed rows. Given to the model's layers as `attend_with`.

    Shapes: N rows of L columns; G completions in the largest group, where smaller groups count empty ones; C tokens in
    the longest completion; M completion tokens in all; S columns that cover every prompt.
    """

    prompt_columns: int  # S
    completion_index: Tensor  # (N*G*C,): where each completion token is among the N*L columns; 0 for padding
    completion_mask: Tensor  # (N*G, 1, C, S + C) bool: the mask of call 2, over prompt and own tokens
    output_index: Tensor  # (N*L,): where each column's result is among the N*S of call 1 and then the N*G*C of call 2
    predicting_columns: Tensor  # (M,): the column, among N*L, of the state that predicts each completion token
    token_index: Tensor  # (M,): where each completion token is among the N*G*C

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
        completion_index = indices.completion_index(prompts, lengths, row_length) * is_token
        tensors = (
            completion_index.flatten(),
            indices.completion_mask(prompts, is_token, prompt_columns).flatten(0, 1)[:, None],
            indices.output_index(completion_index, is_token, row_length, prompt_columns),
            indices.predicting_columns(prompts, completion_index, row_length)[is_token],
            is_token.flatten().nonzero()[:, 0],
        )
        return cls(prompt_columns, *(tensor.to(device) for tensor in tensors))

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
        # Call 1: the first S columns. Shorter prompts are followed by completion tokens, whose results are not used.
        prompt_key, prompt_value = (_repeat_heads(x[:, :, : self.prompt_columns], query.shape[1]) for x in (key, value))
        prompt_output = scaled_dot_product_attention(
            query[:, :, : self.prompt_columns], prompt_key, prompt_value, is_causal=True, scale=scale
        ).transpose(1, 2)  # (N, S, heads, D)

        # Call 2: every completion over its prompt and itself.
        completion_output = self._attend_completions(self._completion_rows(query), key, value, scale)

        outputs = torch.cat([prompt_output.flatten(0, 1), completion_output])
        return outputs.index_select(0, self.output_index).view(len(query), -1, *outputs.shape[1:])

    def attend_last(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attention of the last layer, for the states that predict completion tokens (see `last_layer`).

        Call 2 is enough. Its queries are those of the token before each, the prompt's last for the first one:

                   A B C | own tokens
            C      x x x | . .         predicts d
            d      x x x | x .         predicts e
            C      x x x | . .         predicts f
            -      x x x | x .         padding: its result is not used

        Args:
            query: (M, heads, D).
            key, value: (N, key heads, L, D).
            scale: of the scores; None is 1 / sqrt(D).

        Returns:
            (M, heads, D).
        """
        own_query = query.new_zeros(len(self.completion_index), *query.shape[1:]).index_copy(0, self.token_index, query)
        outputs = self._attend_completions(self._in_rows(own_query), key, value, scale, lag=1)
        return outputs.index_select(0, self.token_index)

    def _attend_completions(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float | None, lag: int = 0
    ) -> Tensor:
        """Call 2: (N*G, heads, C, D) queries, and (N, key heads, L, D) keys and values -> (N*G*C, heads, D).

        With lag = 1 a query sees its completion up to the column before its own. Where `SharedPromptAttention` is not
        for this device and precision, prompts are copied and one call has a mask.
        """
        prompt_key, prompt_value = (x[:, :, : self.prompt_columns] for x in (key, value))
        own_key, own_value = (self._completion_rows(x) for x in (key, value))
        if is_exact_for(query):
            parts = query, prompt_key, prompt_value, own_key, own_value
            output = SharedPromptAttention.apply(*parts, self._padding_bias(len(key)), scale, lag)
        else:
            keys, values = (
                _repeat_heads(self._with_prompt(*x), query.shape[1])
                for x in ((prompt_key, own_key), (prompt_value, own_value))
            )
            output = scaled_dot_product_attention(query, keys, values, attn_mask=self._mask(lag), scale=scale)
        return output.transpose(1, 2).flatten(0, 1)

    def _mask(self, lag: int) -> Tensor:
        """(N*G, 1, C, S + C) bool: what a query sees in call 2."""
        if not lag:
            return self.completion_mask
        on_prompt, on_self = self.completion_mask.tensor_split([self.prompt_columns], dim=-1)
        return torch.cat([on_prompt, on_self.tril(-lag)], dim=-1)

    def _padding_bias(self, prompts: int) -> Tensor | None:
        """(N, 1, 1, S): -inf on the columns beyond a prompt's end; None where there are none."""
        on_prompt = self.completion_mask.unflatten(0, (prompts, -1))[:, 0, :, :1, : self.prompt_columns]
        if on_prompt.all():
            return None
        return torch.zeros(on_prompt.shape).masked_fill(~on_prompt, -torch.inf)

    def _completion_rows(self, x: Tensor) -> Tensor:
        """(N, heads, L, D) -> (N*G, heads, C, D): every completion in a row of its own."""
        return self._in_rows(x.transpose(1, 2).flatten(0, 1).index_select(0, self.completion_index))

    def _in_rows(self, tokens: Tensor) -> Tensor:
        """(N*G*C, heads, D) -> (N*G, heads, C, D)."""
        return tokens.unflatten(0, (-1, self.completion_mask.shape[2])).transpose(1, 2)

    def _with_prompt(self, prompt: Tensor, own: Tensor) -> Tensor:
        """(N, heads, S, D) of prompts and (N*G, heads, C, D) of completions -> (N*G, heads, S + C, D)."""
        group_size = len(own) // len(prompt)
        repeated = prompt[:, None].expand(-1, group_size, -1, -1, -1).flatten(0, 1)
        return torch.cat([repeated, own], dim=2)


def _repeat_heads(x: Tensor, heads: int) -> Tensor:
    """(N, key heads, L, D) -> (N, heads, L, D): a key head serves several queries' heads."""
    return x.repeat_interleave(heads // x.shape[1], dim=1)


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
