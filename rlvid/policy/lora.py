"""LoRA (Hu et al. 2021, arXiv:2106.09685) on the linear layers of the language model, through peft and transformers.

The policy's adapter is peft's "default". Without an adapter the base model answers, which serves as the reference at no
cost in memory. A critic may have an adapter of its own, "critic".
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlvid.policy.families import family_of
from rlvid.utils.hashing import uniform_hash

POLICY, CRITIC = "default", "critic"  # names of adapters
LINEAR_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def add_adapter(model: PreTrainedModel, name: str, rank: int, alpha: int, seed: int) -> None:
    """Freeze the base model and add a trainable adapter; the policy's adapter stays the active one.

    Args:
        model: is changed in place.
        name: `POLICY` or `CRITIC`.
        rank: r of the adapter.
        alpha: scaling numerator: the adapter is scaled by alpha / rank.
        seed: the initial weights depend on it and on the name alone, not on the process or on earlier random numbers.
    """
    model.requires_grad_(False)
    lora_config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear_layers(model))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=()):  # peft draws weights on the CPU
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # the critic's is a second one, on purpose
        torch.default_generator.manual_seed(int(2**53 * uniform_hash("lora", name, seed)))
        model.add_adapter(lora_config, name)
    model.set_adapter(POLICY)
    for parameter in adapter_parameters(model):
        parameter.requires_grad_(True)


def linear_layers(model: PreTrainedModel) -> str | list[str]:
    """Return the linear layers of the language model, as a pattern or by their names."""
    if family_of(model.config).packs_rows:
        return LINEAR_LAYERS
    decoder = model.get_decoder()
    [prefix] = [name for name, module in model.named_modules() if module is decoder]
    adapted = [
        name for name, module in decoder.named_modules() if isinstance(module, BaseTunerLayer)
    ]  # by the policy's
    linear = [name for name, module in decoder.named_modules() if isinstance(module, nn.Linear)]
    return [f"{prefix}.{name}" for name in adapted or linear]


def base_model_of(path: str) -> str:
    """Return the name of the base model of the adapter in a folder, or `path` itself if it holds no adapter."""
    config_file = Path(path) / "adapter_config.json"
    return json.loads(config_file.read_text())["base_model_name_or_path"] if config_file.is_file() else path


def merge(model: PreTrainedModel, folder: str) -> PreTrainedModel:
    """Return a base model with the adapter of a folder merged into its weights."""
    return PeftModel.from_pretrained(model, folder).merge_and_unload()


def load_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Load the weights of the policy's adapter that `save_pretrained` wrote."""
    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"), adapter_name=POLICY)


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all adapters."""
    return [parameter for name, parameter in model.named_parameters() if ".lora_" in name]


def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield names and weights as a model without adapters would have them, the policy's adapter merged in."""
    adapted: dict[str, Any] = {
        name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)
    }
    for name, weight in model.named_parameters():
        layer, _, kind = name.rpartition(".base_layer.")  # kind is "weight" or "bias"
        if layer in adapted:
            delta = adapted[layer].get_delta_weight(POLICY) if kind == "weight" else 0
            yield f"{layer}.{kind}", weight.detach() + delta
        elif ".lora_" not in name:
            yield name, weight.detach()


def is_plain(module: nn.Module) -> bool:
    """Return whether a module is a linear layer, alone or with LoRA as `add_adapter` adds it.

    That is LoRA without a bias and, in training mode, without dropout; DoRA and other variants are not plain.
    """
    if not isinstance(module, Linear):
        return type(module) is nn.Linear
    has_bias = any(up.bias is not None for up in module.lora_B.values())
    has_dropout = module.training and any(type(x) is not nn.Identity for x in module.lora_dropout.values())
    changed = module.lora_variant or module.merged or has_bias or has_dropout
    return type(module.base_layer) is nn.Linear and not changed


def base_layer(module: Any) -> Any:
    """Return a plain linear layer (see `is_plain`) without its adapters."""
    return getattr(module, "base_layer", module)


def factors(module: Any) -> tuple[Tensor, Tensor]:
    """Return two factors of what a plain linear layer's active adapters add to its weight, up @ down with the scaling.

    Returns:
        (rank, inputs) and (outputs, rank); the rank is 0 without an active adapter.
    """
    weight = base_layer(module).weight
    downs, ups = [weight.new_zeros(0, weight.shape[1])], [weight.new_zeros(len(weight), 0)]
    if hasattr(module, "base_layer") and not module.disable_adapters:
        for name in (name for name in module.active_adapters if name in module.lora_A):
            downs.append(module.lora_A[name].weight)
            ups.append(module.lora_B[name].weight * module.scaling[name])
    return torch.cat(downs), torch.cat(ups, dim=1)


def has_adapter(model: nn.Module) -> bool:
    """Return whether the model has adapters."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@contextmanager
def use_adapter(model: PreTrainedModel, name: str | None) -> Iterator[None]:
    """Use another adapter than the policy's inside the context; None uses the base model.

    What is trainable does not change; peft by itself would switch it together with the adapter.
    """
    trainable = adapter_parameters(model)
    model.disable_adapters() if name is None else model.set_adapter(name)
    try:
        yield
    finally:
        model.enable_adapters() if name is None else model.set_adapter(POLICY)
        for parameter in trainable:
            parameter.requires_grad_(True)
