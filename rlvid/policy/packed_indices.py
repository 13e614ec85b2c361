"""Where the tokens of packed rows are: the index tensors of `packing.Packing`.

Shapes: N rows of L columns; G completions in the largest group; C tokens in the longest completion; S columns that
cover every prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor


def completion_index(prompts: Tensor, lengths: Tensor, row_length: int) -> Tensor:
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


def predicting_columns(prompts: Tensor, completion_index: Tensor, row_length: int) -> Tensor:
    """(N, G, C): the column, among the N*L of all rows, of the state that predicts each completion token.

    A completion's first token is predicted by the prompt's last, every other one by the token before it:

        token           A B C d e f
        column          0 1 2 3 4 5
        predicted by          2 3 2
    """
    last_of_prompt = torch.arange(len(prompts)) * row_length + prompts - 1  # (N,)
    columns = completion_index - 1
    columns[..., :1] = last_of_prompt[:, None, None]
    return columns


def completion_mask(prompts: Tensor, is_token: Tensor, prompt_columns: int) -> Tensor:
    """(N, G, C, S + C) bool: a completion token attends to its whole prompt, and to its completion up to itself."""
    groups, group_size, longest = is_token.shape
    on_prompt = torch.arange(prompt_columns) < prompts[:, None]  # (N, S)
    on_self = torch.ones(longest, longest, dtype=torch.bool).tril()  # (C, C)
    on_prompt = on_prompt[:, None, None].expand(-1, group_size, longest, -1)
    return torch.cat([on_prompt, on_self.expand(groups, group_size, -1, -1)], dim=-1)


def output_index(completion_index: Tensor, is_token: Tensor, row_length: int, prompt_columns: int) -> Tensor:
    """(N*L,): where each column's result is, among the N*S results of call 1 followed by the N*G*C of call 2.

    For the example of `completion_index`, with S = 3 and so N*S = 6 results of call 1:

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
