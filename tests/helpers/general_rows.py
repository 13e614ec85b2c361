"""Score completions with a model's plain forward pass, one completion at a time, for the general path's comparison."""

import torch
from torch.nn.utils.rnn import pad_sequence

from rlvid.policy.types import ForwardOutput


def score_plainly(policy, inputs, completions, temperature=0.7):
    """(B, T) log-probabilities, entropies and values of `model(**arguments)`, called for each completion alone."""
    logps, entropies = [], []
    for prompt, group in zip(inputs, completions, strict=True):
        for tokens in group:
            logits = plain_logits(policy, prompt, tokens)[len(prompt.input_ids) - 1 : -1].float() / temperature
            logits[:, policy.banned_token_ids] = -torch.inf
            logps.append(logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0])
            entropies.append(torch.distributions.Categorical(logits=logits).entropy())
    rows = [pad_sequence(part, batch_first=True) for part in (logps, entropies)]
    return ForwardOutput(*rows, torch.zeros_like(rows[0]))


def plain_logits(policy, prompt, tokens):
    """(L, V): the model's own logits of a prompt and one completion, with the mask that its processor writes."""
    input_ids = torch.cat([prompt.input_ids, torch.tensor(tokens, dtype=torch.long)])[None]
    arguments = dict(prompt.arguments)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in arguments:
            arguments[name] = torch.cat([arguments[name], torch.zeros(1, len(tokens), dtype=torch.long)], dim=1)
    mask = torch.ones_like(input_ids)
    return policy.model(input_ids=input_ids, attention_mask=mask, use_cache=False, **arguments).logits[0]
