"""Completions after prompts that were prefilled: the tokens of all completions in one row, without padding.

The counterpart of `packing`, where a prompt's tokens are in the row, too. For two prompts ABC and XY with the
completions de, f, and uvw, x:

    token          d e f u v w x
    sees           ABC          XY            and of its own completion what is before it, and itself
    predicted by   C d C Y u v Y              the last state of the prompt, or the state of the token before

So the last layer is computed for d, u and v only, which another token follows (`last_layer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding

from rlvid.policy.last_layer import only_columns
from rlvid.policy.packing import UNUSED_MASK
from rlvid.policy.shared_attention import SharedPromptAttention
from rlvid.policy.types import CompletionTokens

if TYPE_CHECKING:
    from rlvid.policy.model import Policy
    from rlvid.policy.prefill import Prefilled


def completion_hidden_states(
    policy: Policy, prompts: Prefilled, completions: CompletionTokens
) -> tuple[Tensor, Tensor]:
    """Run completions through the language model.

    Args:
        policy: a model in float32 on a CPU (see `shared_attention.is_exact_for`).
        prompts: N prefilled prompts.
        completions: the tokens of G completions of each.

    Returns:
        As `packing.packed_hidden_states`: (M, hidden), the last hidden state before each of the M completion tokens,
        and (M,): the tokens.
    """
    language_model = policy.model.model.language_model
    rows = CompletionRows.build(prompts, completions)
    tokens = torch.tensor([t for group in completions for completion in group for t in completion])
    with only_columns(language_model, rows.followed, rows.attend_last):
        hidden = language_model(
            inputs_embeds=policy.model.get_input_embeddings()(tokens)[None],
            attention_mask=UNUSED_MASK,
            attend_with=rows,
            position_ids=rows.positions.expand(3, 1, -1),
            use_cache=False,
        ).last_hidden_state[0]
    return embedding(rows.predicted_by, torch.cat([prompts.hidden, hidden])), tokens


@dataclass(frozen=True)
class CompletionRows:
    """Where the tokens of completions are, and their attention. Given to the model's layers as `attend_with`.

    Shapes: N prompts of up to S tokens; R = N*G completions, where smaller groups count empty ones, padded to C tokens
    where they attend; M tokens in all.
    """

    prompts: Prefilled
    padding_bias: Tensor | None  # (N, 1, 1, S): -inf on the columns beyond a prompt's end; None if there are none
    shape: tuple[int, int]  # R, C
    token_index: Tensor  # (M,): where each token is among the R*C
    positions: Tensor  # (M,): of M-RoPE, the same on all three axes
    followed: Tensor  # (F,): the tokens that another one of their completion follows
    predicted_by: Tensor  # (M,): the state before each token: a prompt, or N + its number among `followed`

    @classmethod
    def build(cls, prompts: Prefilled, completions: CompletionTokens) -> CompletionRows:
        """Return the rows of the completions of N prefilled prompts; groups may differ in size."""
        group_size = max(map(len, completions))  # G
        lengths = torch.tensor([[*map(len, group)] + [0] * (group_size - len(group)) for group in completions])
        lengths = lengths.flatten()  # (R,)
        prompt_of = torch.arange(len(completions)).repeat_interleave(group_size)  # (R,)
        columns = torch.arange(int(lengths.max()))
        is_token = columns < lengths[:, None]  # (R, C)
        is_followed = columns < lengths[:, None] - 1
        predicted_by = prompt_of[:, None].repeat(1, len(columns))
        numbers = is_followed.flatten().cumsum(0).view(is_followed.shape) - 1
        predicted_by[:, 1:] = len(completions) + numbers[:, :-1]
        is_padding = prompts.attention_mask == 0
        return cls(
            prompts,
            torch.zeros(is_padding.shape).masked_fill(is_padding, -torch.inf)[:, None, None]
            if is_padding.any()
            else None,
            (len(lengths), len(columns)),
            is_token.flatten().nonzero()[:, 0],
            (prompts.next_positions[prompt_of][:, None] + columns)[is_token],
            is_followed[is_token].nonzero()[:, 0],
            predicted_by[is_token],
        )

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attention of one layer: (1, heads, M, D) and twice (1, key heads, M, D) -> (1, M, heads, D)."""
        by_token = query[0].transpose(0, 1)
        return self._attend(layer, by_token, self.token_index, key, value, scale)[None]

    def attend_last(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attention of the last layer for the tokens in `followed`.

        (F, heads, D) and twice (1, key heads, M, D) -> (F, heads, D).
        """
        last = len(self.prompts.cache.layers) - 1
        return self._attend(last, query, self.token_index[self.followed], key, value, scale)

    def _attend(
        self, layer: int, query: Tensor, query_index: Tensor, key: Tensor, value: Tensor, scale: float | None
    ) -> Tensor:
        """Attention of some tokens, which are at `query_index` of the R*C."""
        of_prompts = self.prompts.cache.layers[layer]
        own_key, own_value = (self._in_rows(x[0].transpose(0, 1), self.token_index) for x in (key, value))
        parts = self._in_rows(query, query_index), of_prompts.keys, of_prompts.values, own_key, own_value
        output = SharedPromptAttention.apply(*parts, self.padding_bias, scale, 0)  # (R, heads, C, D)
        return output.transpose(1, 2).flatten(0, 1).index_select(0, query_index)

    def _in_rows(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Tokens, (tokens, heads, D), that are at `index` of the R*C -> (R, heads, C, D), 0 elsewhere."""
        rows, columns = self.shape
        padded = tokens.new_zeros(rows * columns, *tokens.shape[1:]).index_copy(0, index, tokens)
        return padded.unflatten(0, (rows, columns)).transpose(1, 2)
