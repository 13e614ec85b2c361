"""The language model's weights as decoding reads them: fused, in the precision of the products, LoRA as two factors.

A token of decoding is one row per completion: its time is that of reading the weights and of launching kernels. The
model's own layers launch more than it needs. Autocast casts the same input for q, k and v, and peft adds five kernels
to each of seven products. Here a layer has four products, and each input is cast once:

    one product    of the layer's modules
    qkv            q_proj, k_proj, v_proj
    output         o_proj
    gate_up        gate_proj, up_proj
    down           down_proj

Made for each batch that is decoded, and freed with it, so the weights are those of the last optimizer step; during the
batch their addresses stay the same, as CUDA graphs require. A matrix costs memory only where it is copied:

    frozen, in the precision of the products    no copy: the model's own matrices become slices of the fused one
    trained, or in another precision            a copy, 2 bytes a parameter, as autocast makes it for the model's layers
    trained, in float32                         a copy of q, k, v, gate and up, 4 bytes a parameter
    in float32 on a CPU, if large               a copy in oneDNN's layout, 4 bytes a parameter (`cpu_linear.py`)

LoRA's factors stay apart, W x + B (A x), as the learner computes them: W + B A would need a copy of W, 13 GB for 7B.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rlvid.policy import lora
from rlvid.policy.cpu_linear import is_faster_packed, multiply_packed, pack, product_of
from rlvid.policy.last_layer import split_heads

if TYPE_CHECKING:
    from rlvid.policy.model import Policy


class SamplingWeights:
    """The language model and its head, for decoding one token of each row. Made by `of`.

    Attributes:
        head: (R, hidden) -> (R, V) logits.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        language_model = model.model.language_model
        self.embed, self.rotary = model.get_input_embeddings(), language_model.rotary_emb
        self.layers = [FusedLayer(layer, dtype) for layer in language_model.layers]
        self.norm, self.head = language_model.norm, FusedLinear([model.lm_head], dtype)

    @classmethod
    @torch.no_grad()
    def of(cls, policy: Policy) -> SamplingWeights | None:
        """Return the weights of a policy as they are now; None where its own layers decode as fast or must.

        They decode as fast on a GPU in float32 without LoRA. They must where weights are sharded (ZeRO-3), and where a
        layer has more than a plain matrix and plain LoRA.
        """
        model = policy.model
        gains = policy.bf16 or lora.has_adapter(model) or policy.device.type == "cpu"
        is_sharded = any(hasattr(parameter, "ds_tensor") for parameter in model.parameters())
        if not gains or is_sharded or not all(map(lora.is_plain, _linears(model))):
            return None
        return cls(model, torch.bfloat16 if policy.bf16 else torch.float32)

    @torch.inference_mode()  # an operator then costs less than without gradients, and decoding is many small ones
    def decode(self, cache: Any, tokens: Tensor, mask: Tensor, positions: Tensor, attend_with: Any) -> Tensor:
        """Run one token of each row through the language model: as `decoding.decode_step`, (R,) -> (R, hidden)."""
        hidden = self.embed(tokens[:, None])  # (R, 1, hidden)
        rotation = rotation_of_token(*self.rotary(hidden, positions.expand(3, -1)[:, :, None]))
        for layer in self.layers:
            hidden = layer(hidden, rotation, mask, cache, attend_with)
        return norm(self.norm, hidden)[:, -1]


class FusedLayer:
    """A decoder layer of any packed family, whose norms and activation are the model's own."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.layer, self.attention = layer, attention
        self.qkv = FusedLinear([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self.output = FusedLinear([attention.o_proj], dtype)
        self.mlp = FusedMLP(mlp, dtype) if hasattr(mlp, "gate_proj") else mlp  # experts run as they are
        self.attend = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]

    def __call__(
        self, hidden: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor, cache: Any, attend_with: Any
    ) -> Tensor:
        """(R, 1, hidden) -> (R, 1, hidden)."""
        attention = self.attention
        # Queries, keys and values of all heads, one after another: (R, heads + 2 * key heads, 1, D).
        qkv = split_heads(self.qkv(norm(self.layer.input_layernorm, hidden)), attention)
        heads, key_heads, _ = (width // attention.head_dim for width in self.qkv.widths)
        query_key, value = qkv.split([heads + key_heads, key_heads], dim=1)
        if hasattr(attention, "q_norm"):  # Qwen3-VL
            query, key = query_key.split([heads, key_heads], dim=1)
            query_key = torch.cat([attention.q_norm(query), attention.k_norm(key)], dim=1)
        query, key = rotate_token(query_key, *rotation).split([heads, key_heads], dim=1)
        key, value = cache.update(key, value, attention.layer_idx)
        scale = attention.scaling
        attended, _ = self.attend(attention, query, key, value, mask, attend_with=attend_with, scaling=scale)
        hidden = hidden + self.output(attended.flatten(2))
        return hidden + self.mlp(norm(self.layer.post_attention_layernorm, hidden))


class FusedMLP:
    """A gated MLP with two products."""

    def __init__(self, mlp: Any, dtype: torch.dtype) -> None:
        self.activation = mlp.act_fn
        self.gate_up = FusedLinear([mlp.gate_proj, mlp.up_proj], dtype)
        self.down = FusedLinear([mlp.down_proj], dtype)

    def __call__(self, hidden: Tensor) -> Tensor:
        """(R, 1, hidden) -> (R, 1, hidden)."""
        gate, up = self.gate_up(hidden).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)


class FusedLinear:
    """Linear layers with the same input as one product; LoRA adds two small ones for all of them.

    Attributes:
        widths: the numbers of outputs of each layer.
    """

    def __init__(self, modules: Sequence[nn.Module], dtype: torch.dtype) -> None:
        bases = [lora.base_layer(module) for module in modules]
        self.widths, self.product = [len(base.weight) for base in bases], product_of(bases[0])
        self.weight = fuse([base.weight for base in bases], dtype)
        if is_faster_packed(self.weight):
            self.weight, self.product = pack(self.weight), multiply_packed
        self.bias = None if bases[0].bias is None else torch.cat([base.bias for base in bases]).to(dtype)
        downs, ups = zip(*(lora.factors(module) for module in modules), strict=True)
        self.down, self.up = torch.cat(downs).to(dtype), torch.block_diag(*ups).mT.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., sum of `widths`), in the precision of the weights."""
        x = x.to(self.weight.dtype)
        y = self.product(x, self.weight, self.bias)
        if len(self.down):
            y.flatten(0, -2).addmm_(linear(x, self.down).flatten(0, -2), self.up)
        return y


def rotation_of_token(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """(R, 1, D) cosines and sines -> (R, 1, 1, D) each, as `rotate_token` takes them: half of the sines negative."""
    first, second = sin.chunk(2, dim=-1)
    return cos[:, None], torch.cat([-first, second], dim=-1)[:, None]


def rotate_token(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Give (R, heads, 1, D) queries or keys their positions: the bits of `last_layer.rotate`, in fewer operators."""
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * signed_sin


def norm(module: Any, x: Tensor) -> Tensor:
    """Apply an RMS norm of the model, whose own forward pass is six kernels where this is one on a GPU."""
    return rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)


def fuse(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return matrices of equal width as one, below each other.

    Frozen ones of this dtype become slices of it, with the values that they have. Then the next call copies nothing.
    """
    if any(weight.dtype != dtype for weight in weights):
        return torch.cat([weight.detach().to(dtype) for weight in weights])
    if len(weights) == 1:
        return weights[0].detach()
    if any(weight.requires_grad for weight in weights):
        return torch.cat([weight.detach() for weight in weights])
    if not all(_follows(above, below) for above, below in pairwise(weights)):
        fused = torch.cat([weight.detach() for weight in weights])
        for weight, part in zip(weights, fused.split([len(weight) for weight in weights]), strict=True):
            weight.data = part
    first = weights[0].detach()
    return first.as_strided((sum(map(len, weights)), first.shape[1]), (first.shape[1], 1))


def _follows(above: Tensor, below: Tensor) -> bool:
    """Return whether a matrix is stored right below another one, in the same memory."""
    same_storage = above.untyped_storage().data_ptr() == below.untyped_storage().data_ptr()
    return same_storage and below.storage_offset() == above.storage_offset() + above.numel()


def _linears(model: Any) -> list[nn.Module]:
    """Return the modules that are fused: projections and the head."""
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    layers = model.model.language_model.layers
    parts = [part for layer in layers for part in (layer.self_attn, layer.mlp)]
    return [model.lm_head, *(getattr(part, name) for part in parts for name in names if hasattr(part, name))]
