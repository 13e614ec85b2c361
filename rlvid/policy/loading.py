"""Load a model's weights in float32, after its config.json was checked; keep frozen ones in bfloat16."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from rlvid.config import TrainConfig
from rlvid.distributed import holds_weights, uses_deepspeed
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.families import check_config, require_packed
from rlvid.registry import model_path


def disable_cudnn_attention() -> None:
    """Keep PyTorch's attention from calling cuDNN, which torch 2.11 and later would use first on H100, H200 and B200.

    Reported for torch 2.13 with cuDNN 9.20: NaN gradients with a mask (pytorch#196678), and a plan of up to half a
    second for every new shape, kept for ever. Flash attention or the memory-efficient kernel then runs. No effect
    without a GPU.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def load_pretrained(name: str, train: TrainConfig) -> tuple[PreTrainedModel, str]:
    """Return a model in float32, and the folder or hub id that its tokenizer is read from.

    An adapter in the folder is merged. From here on, attention runs without cuDNN. Where `holds_weights` is false, the
    weights are on the meta device: they have shapes and no values.

    Args:
        name: an embedded model, a folder, or a hub id.
        train: gives the attention implementation, and whether an adapter will be added.

    Raises:
        UserError: if there is no such model, if rlvid does not train it, or an adapter is to be added to an adapter.
    """
    disable_cudnn_attention()
    path = model_path(name)
    try:
        base = lora.base_model_of(path)
        config = AutoConfig.from_pretrained(base, trust_remote_code=False).to_dict()
        check_config(name, config)
        if uses_deepspeed():  # on the general path, ranks run different numbers of forward passes
            require_packed(name, config, "DeepSpeed")
        model = AutoModelForImageTextToText.from_pretrained(
            base,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation=train.attn_implementation,
            use_safetensors=True,  # a pickle can run code
            device_map=None if holds_weights() else "meta",
        )
    except UserError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise cannot_be_loaded(name, error) from error
    if base != path:
        if train.lora_r:
            raise UserError(
                f"model {path!r} is a LoRA adapter. To add another, merge it first: rlvid export {path} FOLDER"
            )
        if holds_weights():
            model = lora.merge(model, path)
    return model, path


def cannot_be_loaded(name: str, error: Exception) -> UserError:
    """Return the error for a model, or a part of one, that is not there or is damaged."""
    return UserError(f"model {name!r} cannot be loaded as a folder or hub id: {str(error).splitlines()[0]}")


def cast_frozen_to_bf16(model: PreTrainedModel) -> None:
    """Keep frozen weight matrices in bfloat16, as autocast casts them: the same bits in half the memory."""
    for weight in frozen_linears(model):
        weight.data = weight.data.to(torch.bfloat16)


def frozen_linears(model: PreTrainedModel) -> list[Tensor]:
    """Return the frozen weights of linear layers, except a head that is tied to the embeddings."""
    embeddings = model.get_input_embeddings().weight  # they are looked up and not multiplied, so not cast
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    return [weight for weight in weights if not weight.requires_grad and weight is not embeddings]
