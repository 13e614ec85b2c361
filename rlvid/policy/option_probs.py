"""How likely each option's letter is where the answer stands: read off one forward, nothing is sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlvid.answer import LETTERS
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.packing import map_micro_batches, packed_hidden_states
from rlvid.policy.types import ModelInputs

OPEN, CLOSE = "<answer>", "</answer>"


@torch.no_grad()
def option_letter_probs(
    policy: Policy,
    prompts: Sequence[ModelInputs],
    heads: Sequence[Sequence[str]],
    options: Sequence[int],
    room: OOMBackoff,
) -> list[list[tuple[float, ...]]]:
    """For each prompt's heads, texts that end where a letter comes, the probabilities of its first `options` letters.

    They are taken among these letters alone and sum to 1. Heads of a prompt that are equal are scored once; as many
    prompts go through the model together as there is `room` for their tokens.
    """
    asked = [list(dict.fromkeys(group)) for group in heads]
    parted = [[split_at_letter(policy.tokenizer, h, n) for h in group] for group, n in zip(asked, options, strict=True)]
    rows = [[(*shared, letters[0]) for shared, letters in group] for group in parted]

    def ask(part: Sequence[int]) -> list[Sequence[Tensor]]:
        with policy.precision():
            hidden, tokens = packed_hidden_states(policy, [prompts[i] for i in part], [rows[i] for i in part])
            ends = torch.tensor([len(row) for i in part for row in rows[i]], device=tokens.device).cumsum(0) - 1
            return policy.logits(hidden[ends], 1.0).split([len(rows[i]) for i in part])

    tables = [
        {head: _among(seen, letters) for head, seen, (_, letters) in zip(texts, logits, parts, strict=True)}
        for texts, logits, parts in zip(asked, map_micro_batches(prompts, rows, room, ask), parted, strict=True)
    ]
    return [[table[head] for head in group] for table, group in zip(tables, heads, strict=True)]


def split_at_letter(tokenizer: PreTrainedTokenizerBase, head: str, options: int) -> tuple[list[int], list[int]]:
    """The tokens that the replies head + letter + `</answer>` share, and the one in which each letter's differs.

    A tokenizer may join the letter to the tag before it (">B"): that token is then the letter's. Where it does so with
    some letters and not with others, head and letter are tokenized apart.
    """
    whole = tokenizer([f"{head}{letter}{CLOSE}" for letter in LETTERS[:options]])["input_ids"]
    shared = next((i for i, column in enumerate(zip(*whole, strict=False)) if len(set(column)) > 1), 0)
    letters = [ids[shared] for ids in whole]
    if len(set(letters)) == len(letters):
        return whole[0][:shared], letters
    apart = tokenizer(list(LETTERS[:options]))["input_ids"]
    return tokenizer(head)["input_ids"], [ids[0] for ids in apart]


def _among(logits: Tensor, letters: Sequence[int]) -> tuple[float, ...]:
    return tuple(logits[list(letters)].softmax(-1).tolist())
