"""The probability of each option's letter as the answer, from one forward pass without sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlvid.answer import LETTERS
from rlvid.policy.batching import map_micro_batches
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.types import ModelInputs

OPEN, CLOSE = "<answer>", "</answer>"


class LetterSplit(NamedTuple):
    """A head tokenized up to the letter that follows it."""

    shared: list[int]  # the tokens before the letter, equal for all letters
    letters: list[int]  # for each letter, the token in which it differs from the others


@torch.no_grad()
def option_letter_probs(
    policy: Policy,
    prompts: Sequence[ModelInputs],
    heads: Sequence[Sequence[str]],
    num_options: Sequence[int],
    backoff: OOMBackoff,
) -> list[list[tuple[float, ...]]]:
    """Compute the probability of each letter after the heads of completions.

    Equal heads of a prompt are computed once.

    Args:
        policy: the model.
        prompts: their inputs.
        heads: for each prompt, texts that end where the letter of the answer comes.
        num_options: for each prompt, its number of options.
        backoff: the token budget of a forward pass.

    Returns:
        For each head of each prompt, the probabilities of the letters among each other; they sum to 1.
    """
    unique_heads = [list(dict.fromkeys(group)) for group in heads]
    splits = [
        [split_at_letter(policy.tokenizer, head, count) for head in group]
        for group, count in zip(unique_heads, num_options, strict=True)
    ]
    # The logits that predict a letter are those before it, so any letter can stand there.
    completions = [[[*split.shared, split.letters[0]] for split in group] for group in splits]

    def letter_logits(indices: Sequence[int]) -> list[Tensor]:
        """For each group of a micro-batch, (heads, V) logits of the letter's token."""
        chosen = [completions[index] for index in indices]
        last = policy.last_token_logits([prompts[index] for index in indices], chosen, 1.0)
        return list(last.split([len(group) for group in chosen]))

    logits = map_micro_batches(prompts, completions, backoff, letter_logits)
    results = []
    for group, group_heads, group_splits, group_logits in zip(heads, unique_heads, splits, logits, strict=True):
        probs = {
            head: _softmax_over(head_logits, split.letters)
            for head, split, head_logits in zip(group_heads, group_splits, group_logits, strict=True)
        }
        results.append([probs[head] for head in group])
    return results


def split_at_letter(tokenizer: PreTrainedTokenizerBase, head: str, num_options: int) -> LetterSplit:
    """Tokenize the completions head + letter + `</answer>`, and split them where the letters make them differ.

    A tokenizer may join a letter with the tag before it (">B"); the joined token is then the letter's. If it joins some
    letters and not others, head and letters are tokenized separately.
    """
    completions = tokenizer([f"{head}{letter}{CLOSE}" for letter in LETTERS[:num_options]])["input_ids"]
    columns = enumerate(zip(*completions, strict=False))
    first_difference = next((i for i, column in columns if len(set(column)) > 1), 0)
    letters = [ids[first_difference] for ids in completions]
    if len(set(letters)) == len(letters):
        return LetterSplit(completions[0][:first_difference], letters)
    separate = tokenizer(list(LETTERS[:num_options]))["input_ids"]
    return LetterSplit(tokenizer(head)["input_ids"], [ids[0] for ids in separate])


def _softmax_over(logits: Tensor, token_ids: list[int]) -> tuple[float, ...]:
    """(V,) logits -> the probabilities of some tokens among each other."""
    return tuple(logits[token_ids].softmax(-1).tolist())
