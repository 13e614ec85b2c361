"""Count the parameters of a model as a run holds it, without reading weights: torch's meta device has no memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig

from rlvid.bench.published_models import PUBLISHED_MODELS, published_config
from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.families import check_config, require_packed
from rlvid.policy.loading import frozen_linears
from rlvid.registry import model_path


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters. The first four add up to all parameters; the others are parts of them."""

    config: PretrainedConfig
    language: int  # the language model without its embeddings
    vision: int  # the vision tower
    embeddings: int  # and the head, where it is not tied to them
    adapters: int  # of LoRA
    trainable: int
    linear: int  # weight matrices of linear layers, adapters not counted
    frozen_linear: int  # those of them that are not trained

    @property
    def all(self) -> int:
        """The number of all parameters."""
        return self.language + self.vision + self.embeddings + self.adapters


COUNTED: dict[tuple[str, int, int, bool, int], ParameterCounts] = {}  # what decides a model's counts -> its counts


def count_parameters(model_name: str, train: TrainConfig, seed: int = 0) -> ParameterCounts:
    """Count the parameters of a model with the adapter and the frozen parts of a `[train]` section.

    Counts are kept: a table of machines asks for those of one model twenty times.

    Raises:
        UserError: if the model does not exist or is not of a known family.
    """
    config = model_config(model_name)
    key = (config.to_json_string(), train.lora_r, train.lora_alpha, train.freeze_vision_tower, seed)
    if key not in COUNTED:
        COUNTED[key] = _count(config, train, seed)
    return COUNTED[key]


def _count(config: PretrainedConfig, train: TrainConfig, seed: int) -> ParameterCounts:
    """Count the parameters of a model that is built on the meta device."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    total = _numel(model.parameters())
    language_and_embeddings = _numel(model.model.language_model.parameters())
    vision = _numel(model.model.visual.parameters())
    input_embeddings = _numel(model.get_input_embeddings().parameters())
    model.requires_grad_(False)
    linear = _numel(frozen_linears(model))

    # Adapt and freeze as a run does.
    model.requires_grad_(True)
    if train.lora_r:
        with torch.device("meta"):
            lora.add_adapter(model, lora.POLICY, train.lora_r, train.lora_alpha, seed)
    if train.freeze_vision_tower:
        model.model.visual.requires_grad_(False)

    language = language_and_embeddings - input_embeddings
    return ParameterCounts(
        config=config,
        language=language,
        vision=vision,
        embeddings=total - language - vision,
        adapters=_numel(model.parameters()) - total,
        trainable=_numel(parameter for parameter in model.parameters() if parameter.requires_grad),
        linear=linear,
        frozen_linear=_numel(frozen_linears(model)),
    )


def model_config(model_name: str) -> PretrainedConfig:
    """Return the configuration of a model: a published one, an embedded one, a folder, or a hub id.

    Raises:
        UserError: if there is none, or if it is not that of a known family.
    """
    if model_name in PUBLISHED_MODELS:
        return published_config(model_name)
    try:
        config = AutoConfig.from_pretrained(lora.base_model_of(model_path(model_name)), trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"model {model_name!r}: no config.json in such a folder or on the hub: {reason}") from error
    check_config(model_name, config.to_dict())
    require_packed(model_name, config.to_dict(), "an estimate of memory")
    return config


def _numel(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
