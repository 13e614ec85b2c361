"""LoRA (Hu et al. 2021, arXiv:2106.09685) on the language model's linear layers, through peft and transformers.

The policy's adapter is peft's "default". Without any adapter the base answers: that is the reference, for free. A
critic may have one of its own, "critic".
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
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlvid.config import Config
from rlvid.utils.hashing import uniform_hash

POLICY, CRITIC = "default", "critic"
LINEAR = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def add_adapter(model: PreTrainedModel, name: str, config: Config) -> None:
    """Freeze the base and give it one more trainable adapter of rank `lora_r`; the policy's is in use.

    Where it starts is the seed's alone, in whatever process and after whatever else was drawn.
    """
    model.requires_grad_(False)
    about = LoraConfig(r=config.train.lora_r, lora_alpha=config.train.lora_alpha, target_modules=LINEAR)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=()):  # peft draws on the CPU
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # a critic's comes second, on purpose
        torch.default_generator.manual_seed(int(2**53 * uniform_hash("lora", name, config.seed)))
        model.add_adapter(about, name)
    model.set_adapter(POLICY)
    for parameter in adapter_parameters(model):
        parameter.requires_grad_(True)


def base_model_of(path: str) -> str:
    """The model that the adapter in this folder adapts; the path itself if there is no adapter in it."""
    about = Path(path) / "adapter_config.json"
    return json.loads(about.read_text())["base_model_name_or_path"] if about.is_file() else path


def merge(model: PreTrainedModel, folder: str) -> PreTrainedModel:
    """A base with the adapter of this folder added to its weights, and no adapter left."""
    return PeftModel.from_pretrained(model, folder).merge_and_unload()


def load_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Take over the policy's adapter that `save_pretrained` wrote."""
    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"), adapter_name=POLICY)


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Those of all adapters."""
    return [p for name, p in model.named_parameters() if ".lora_" in name]


def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and weights as a model without adapters would have them, the policy's folded in."""
    modules = model.named_modules()
    adapting: dict[str, Any] = {name: module for name, module in modules if isinstance(module, BaseTunerLayer)}
    for name, weight in model.named_parameters():
        owner, _, kind = name.rpartition(".base_layer.")
        if owner in adapting:
            delta = adapting[owner].get_delta_weight(POLICY) if kind == "weight" else 0
            yield f"{owner}.{kind}", weight.detach() + delta
        elif ".lora_" not in name:
            yield name, weight.detach()


def has_adapter(model: nn.Module) -> bool:
    """Whether the model carries adapters."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@contextmanager
def use_adapter(model: PreTrainedModel, name: str | None) -> Iterator[None]:
    """Answer with another adapter, or with none. What is trainable stays so; peft would switch it with the adapter."""
    learning = adapter_parameters(model)
    model.disable_adapters() if name is None else model.set_adapter(name)
    try:
        yield
    finally:
        model.enable_adapters() if name is None else model.set_adapter(POLICY)
        for parameter in learning:
            parameter.requires_grad_(True)
