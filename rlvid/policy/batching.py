"""Split groups into micro-batches within a token budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rlvid.policy.oom import OOMBackoff
from rlvid.policy.types import CompletionTokens, ModelInputs, split_by_view

T = TypeVar("T")


def row_lengths(prompts: Sequence[ModelInputs], completions: CompletionTokens) -> list[int]:
    """Return the number of tokens of each group's packed row: its prompt and all its completions.

    A group whose completions read several views of the clip has several rows, padded to the longest of them.
    """
    return [
        _padded_length(*split_by_view([prompt], [group])) for prompt, group in zip(prompts, completions, strict=True)
    ]


def _padded_length(prompts: Sequence[ModelInputs], completions: CompletionTokens) -> int:
    rows = zip(prompts, completions, strict=True)
    return len(prompts) * max(len(prompt.input_ids) + sum(len(tokens) for tokens in group) for prompt, group in rows)


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split groups of some lengths (see `row_lengths`) into micro-batches of at most `budget` tokens, with padding.

    Groups of similar length share a micro-batch. A group that is longer than the budget is a micro-batch of its own.

    Returns:
        The indices of the groups of each micro-batch, the longest groups first.
    """
    longest_first = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in longest_first:
        # Rows are padded to the first row of their micro-batch, which is its longest.
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def map_micro_batches(
    prompts: Sequence[ModelInputs],
    completions: CompletionTokens,
    backoff: OOMBackoff,
    function: Callable[[list[int]], Sequence[T]],
) -> list[T]:
    """Apply a function to each micro-batch of groups.

    For forward passes without gradients: if memory runs out, all groups are computed again in smaller micro-batches.

    Args:
        prompts, completions: the groups.
        backoff: the token budget of a micro-batch.
        function: takes the indices of a micro-batch's groups and returns one result per group.

    Returns:
        One result per group, in the order of the groups.
    """
    lengths = row_lengths(prompts, completions)
    longest = max(lengths, default=1)
    for budget in backoff.sizes(longest * len(prompts), smallest=longest):
        with backoff.attempt():
            results: dict[int, T] = {}
            for indices in micro_batches(lengths, budget):
                results |= zip(indices, function(indices), strict=True)
            return [results[index] for index in range(len(prompts))]
    raise AssertionError("unreachable: sizes() yields until it raises")
