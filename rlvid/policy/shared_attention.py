"""Attention of completions to the prompt that they share and each to itself, in float32 on CPUs; no copies.

The attention of a token is a softmax over two sets of keys, the prompt's and its own completion's. Each set is one call
of flash attention; all completions of a group are one batch of queries for their prompt. With the output o and the
log-sum-exp l of the scores of each set, the output over both is

    o = w o1 + (1 - w) o2,    w = exp(l1) / (exp(l1) + exp(l2)),    l = log(exp(l1) + exp(l2))

The backward pass needs no other formula. The gradient of a score s between query i and key j is p (dp - d_i), where
p = exp(s - l_i) and d_i is the product of the output's gradient with the output. So the kernel's own backward pass,
given o and l over both sets, returns each set's share of the gradients, as in ring attention (arXiv:2310.01889).
Splitting a shared prompt off is Hydragen's (arXiv:2402.05099), which has no backward pass.

Shapes: N prompts of S columns; R = N * G completions of C columns, in groups of G; H query heads and K key heads.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable

# (query, key, value) -> attention, and the log-sum-exp of its scores; and its backward pass
attention_with_lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
attention_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# The backward pass runs one thread per prompt and head. Where these are few, a prompt's queries are cut into parts.
MIN_PARTS = 16


def is_exact_for(query: Tensor) -> bool:
    """Return whether attention may be computed in two parts: on a CPU, in float32 or float64 and without autocast.

    In bfloat16 each part would be rounded before they are added, which one call with a mask does not do.
    """
    is_precise = query.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return query.device.type == "cpu" and is_precise


def merge(output: Tensor, lse: Tensor, other_output: Tensor, other_lse: Tensor) -> Tensor:
    """Return the softmax over two sets of keys, (..., D), from the output and log-sum-exp, (...), over each set."""
    weight = (lse - other_lse).sigmoid()[..., None]  # exp(lse) / (exp(lse) + exp(other_lse))
    return other_output + weight * (output - other_output)


class SharedPromptAttention(torch.autograd.Function):
    """Attention of R completions to their prompts and to themselves.

    Args of `apply`:
        query: (R, H, C, D).
        prompt_key, prompt_value: (N, K, S, D).
        own_key, own_value: (R, K, C, D).
        bias: (N, 1, 1, S), added to the scores of the prompt's columns: -inf on padding; or None.
        scale: of the scores; None is 1 / sqrt(D).
        lag: 0 if a query attends to its completion up to its own column, 1 if up to the column before it.

    Returns:
        (R, H, C, D).
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        """Return the attention, (R, H, C, D), and keep for the backward pass what the class's docstring names."""
        query, prompt_key, prompt_value, own_key, own_value, bias, scale, lag = args
        shape = PromptShape(query, prompt_key)
        folded = shape.fold(query)
        prompt_output, prompt_lse = attention_with_lse(
            folded, shape.repeat(prompt_key), shape.repeat(prompt_value), attn_mask=mask_of(bias, folded), scale=scale
        )
        output, lse = (
            shape.unfold(prompt_output),
            shape.unfold(prompt_lse[..., None])[..., 0],
        )  # (R, H, C, D), (R, H, C)

        own = own_columns(query, own_key, own_value, lag)
        if own[0].shape[2]:
            own_output, own_lse = attention_with_lse(*own, is_causal=True, scale=scale)
            output[:, :, lag:] = merge(output[:, :, lag:], lse[:, :, lag:], own_output, own_lse)
            lse[:, :, lag:] = torch.logaddexp(lse[:, :, lag:], own_lse)

        ctx.save_for_backward(query, prompt_key, prompt_value, own_key, own_value, bias, output, lse)
        ctx.scale, ctx.lag = scale, lag
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, prompt and own keys and values."""
        query, prompt_key, prompt_value, own_key, own_value, bias, output, lse = ctx.saved_tensors
        shape, scale, lag = PromptShape(query, prompt_key), ctx.scale, ctx.lag
        folded = shape.fold(query)
        grad_folded, *grad_prompt = attention_backward(
            shape.fold(grad), folded, shape.repeat(prompt_key), shape.repeat(prompt_value), shape.fold(output),
            shape.fold(lse[..., None])[..., 0], 0.0, False, attn_mask=mask_of(bias, folded), scale=scale,
        )  # fmt: skip
        grad_query = shape.unfold(grad_folded)
        grad_own = [torch.zeros_like(own_key), torch.zeros_like(own_value)]

        own = own_columns(query, own_key, own_value, lag)
        columns = own[0].shape[2]
        if columns:
            seen = (x[:, :, lag:].contiguous() for x in (output, lse))
            grad_own_query, *grads = attention_backward(
                grad[:, :, lag:].contiguous(), *own, *seen, 0.0, True, scale=scale
            )
            grad_query[:, :, lag:] += grad_own_query
            for total, part in zip(grad_own, grads, strict=True):
                total[:, :, :columns] = part.unflatten(1, (own_key.shape[1], -1)).sum(2)
        return grad_query, *(shape.sum_repeated(x) for x in grad_prompt), *grad_own, None, None, None


class PromptShape:
    """How the queries of a group are laid out as one batch for their prompt.

    (R, H, C, D) queries are folded into (N, K * parts, rows, D), where `parts` times `rows` are the C columns of all
    completions of a group and of all query heads that share a key head.
    """

    def __init__(self, query: Tensor, prompt_key: Tensor) -> None:
        self.prompts, self.key_heads = prompt_key.shape[:2]
        self.sizes = {"n": self.prompts, "k": self.key_heads}
        self.heads, self.columns = query.shape[1:3]
        shared_by = len(query) // self.prompts * (self.heads // self.key_heads)
        divisors = [parts for parts in range(1, shared_by + 1) if shared_by % parts == 0]
        enough = (parts for parts in divisors if self.prompts * self.key_heads * parts >= MIN_PARTS)
        self.parts = next(enough, shared_by)

    def fold(self, x: Tensor) -> Tensor:
        """(R, H, C, width) -> (N, K * parts, rows, width)."""
        x = rearrange(x, "(n g) (k q) c d -> n k (q g c) d", **self.sizes)
        return x.unflatten(2, (self.parts, -1)).flatten(1, 2)

    def unfold(self, x: Tensor) -> Tensor:
        """(N, K * parts, rows, width) -> (R, H, C, width), in memory of its own."""
        queries = self.heads // self.key_heads
        x = x.unflatten(1, (self.key_heads, self.parts)).flatten(2, 3)
        return rearrange(x, "n k (q g c) d -> (n g) (k q) c d", q=queries, c=self.columns).contiguous()

    def repeat(self, x: Tensor) -> Tensor:
        """(N, K, S, D) -> (N, K * parts, S, D)."""
        return x.repeat_interleave(self.parts, dim=1)

    def sum_repeated(self, x: Tensor) -> Tensor:
        """(N, K * parts, S, D) -> (N, K, S, D)."""
        return x.unflatten(1, (self.key_heads, self.parts)).sum(2)


def mask_of(bias: Tensor | None, query: Tensor) -> Tensor | None:
    """Return the bias of (N, heads, rows, D) queries, (N, 1, rows, S) in their precision."""
    return None if bias is None else bias.expand(-1, 1, query.shape[2], -1).to(query.dtype)


def own_columns(query: Tensor, key: Tensor, value: Tensor, lag: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries that attend to their own completion, and the keys and values of which they see a part.

    (R, H, C, D) and twice (R, K, C, D) -> three of (R, H, C - lag, D); causal attention among these is right.
    """
    columns = query.shape[2] - lag
    repeats = query.shape[1] // key.shape[1]
    key, value = (x[:, :, :columns].repeat_interleave(repeats, dim=1) for x in (key, value))
    return query[:, :, lag:], key, value
