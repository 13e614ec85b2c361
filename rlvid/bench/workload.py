"""What a benchmark runs: the model's architecture, and the number and length of prompts and completions.

Weights are random: speed and memory do not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2VLConfig,
)

from rlvid.bench.published_models import OTHER_FAMILIES, PUBLISHED_SHAPES, published_config
from rlvid.data.kitchen import write_once
from rlvid.errors import UserError
from rlvid.registry import NANO_CHECKPOINT, suggest

# The implementations that `rlvid bench step` can compare; see implementations.py.
IMPLEMENTATIONS = ("ours", "views", "rows", "reference", "trl")

FILLER = " carrot"  # a word of one token, repeated to reach a prompt length
KL_BETA = 0.04  # the same for all implementations: weight of the KL divergence from the reference,
LEARNING_RATE = 1e-6  # and learning rate


@dataclass(frozen=True)
class Workload:
    """One optimizer step: groups, completions per group, and exact lengths in tokens.

    A prompt is text plus visual tokens: 81 for an image of 252x252, and 81 for each two frames of a video of that size.
    Nine images, sixteen frames and an image, or one image of 756x756 all have 729 visual tokens.
    """

    model: str = "20m"  # of `MODELS`
    groups: int = 1
    num_generations: int = 8  # completions per group
    prompt_tokens: int = 930  # visual tokens included
    completion_tokens: int = 150
    frames: int = 16  # of the video; 0 means no video
    frame_size: int = 252  # height and width in pixels of the frames and of the image
    lora_r: int = 0  # rank of a LoRA adapter; 0 trains all weights
    needs: tuple[str, ...] = ("view_logps:patches",)  # what the implementation "views" computes besides, each step


# What a prompt shows: a video and an image, or one image with as many visual tokens.
MEDIA: dict[str, dict[str, int]] = {
    "video": {"frames": 16, "frame_size": 252},
    "image": {"frames": 0, "frame_size": 756},
}

# "2b" and "7b" are the sizes of Qwen/Qwen2-VL-2B-Instruct and Qwen/Qwen2-VL-7B-Instruct, "tiny" is about that of nano.
MODEL_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 192, "intermediate_size": 576, "num_hidden_layers": 4, "num_attention_heads": 6,
        "num_key_value_heads": 3, "mrope_section": [4, 6, 6], "vocab_size": 753, "tied": True,
        "initializer_range": 0.05, "vision": {"depth": 2, "embed_dim": 128, "num_heads": 4},
    },
    "20m": {
        "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6,
        "num_key_value_heads": 2, "mrope_section": [8, 12, 12], "vocab_size": 753, "tied": True,
        "vision": {"depth": 4, "embed_dim": 256, "num_heads": 4},
    },
    "2b": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "mrope_section": [16, 24, 24], "vocab_size": 151936, "tied": True,
        "vision": {"depth": 32, "embed_dim": 1280, "num_heads": 16},
    },
    "7b": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "mrope_section": [16, 24, 24], "vocab_size": 152064, "tied": False,
        "vision": {"depth": 32, "embed_dim": 1280, "num_heads": 16},
    },
}  # fmt: skip


SMALL_SHAPES = {f"{family}_{size}": (family, size) for family in OTHER_FAMILIES for size in ("tiny", "20m")}
MODELS = (*MODEL_SIZES, *SMALL_SHAPES, *PUBLISHED_SHAPES)


def model_config(name: str, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Return the configuration of a model of `MODELS`, with the tokenizer's ids of the special tokens.

    Raises:
        UserError: if there is no such model.
    """
    if name not in MODELS:
        raise UserError(f"no benchmark model {name!r}.{suggest(name, MODELS)}")
    if name in PUBLISHED_SHAPES:
        config = published_config(PUBLISHED_SHAPES[name])
    else:
        config = _small_config(*SMALL_SHAPES[name]) if name in SMALL_SHAPES else _qwen2_vl_config(name)
    for part in ("image", "video"):
        setattr(config, f"{part}_token_id", tokenizer.convert_tokens_to_ids(f"<|{part}_pad|>"))
    for part in ("start", "end"):
        setattr(config, f"vision_{part}_token_id", tokenizer.convert_tokens_to_ids(f"<|vision_{part}|>"))
    config.text_config.bos_token_id = tokenizer.convert_tokens_to_ids("<|im_start|>")
    config.text_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config.text_config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return config


def _qwen2_vl_config(name: str) -> PretrainedConfig:
    sizes = dict(MODEL_SIZES[name])
    vision, mrope_section, tied = sizes.pop("vision"), sizes.pop("mrope_section"), sizes.pop("tied")
    rope = {"rope_type": "default", "mrope_section": mrope_section, "rope_theta": 1e6}
    shape = {"mlp_ratio": 4, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2}
    return Qwen2VLConfig(
        text_config=sizes | {"rope_parameters": rope, "tie_word_embeddings": tied},
        vision_config=vision | shape | {"hidden_size": sizes["hidden_size"]},
        tie_word_embeddings=tied,
    )


def _small_config(family: str, size: str) -> PretrainedConfig:
    """A config with the language model of a size of `MODEL_SIZES`, and about its vision tower."""
    sizes = dict(MODEL_SIZES[size])
    small, tied, _ = sizes.pop("vision"), sizes.pop("tied"), sizes.pop("mrope_section")
    vision, sections = OTHER_FAMILIES[family]
    rope = {"rope_type": "default", "mrope_section": sections[size], "rope_theta": 1e6}
    head = {"head_dim": sizes["hidden_size"] // sizes["num_attention_heads"]}
    return AutoConfig.for_model(
        family,
        text_config=sizes | head | {"rope_parameters": rope, "tie_word_embeddings": tied},
        vision_config=vision
        | {
            "depth": small["depth"], "hidden_size": small["embed_dim"], "num_heads": small["num_heads"],
            "intermediate_size": 4 * small["embed_dim"], "out_hidden_size": sizes["hidden_size"],
            "temporal_patch_size": 2, "spatial_merge_size": 2,
        },
        tie_word_embeddings=tied,
    )  # fmt: skip


def write_random_model(name: str, folder: Path) -> Path:
    """Save a model with random weights and the embedded tokenizer, unless it exists; returns the folder.

    `from_pretrained` can read the folder. It is there as a whole or not at all: 7B are written for minutes.
    """

    def write(target: Path) -> None:
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
        AutoModelForImageTextToText.from_config(model_config(name, tokenizer)).save_pretrained(target)
        tokenizer.save_pretrained(target)

    write_once(folder, write)
    return folder


def write_weightless_model(name: str, folder: Path) -> Path:
    """Save a model's config, the embedded tokenizer and a single weight; returns the folder.

    `from_pretrained` gives all other weights random values, on the device of a `torch.device` context: much faster for
    billions of them than to write and to read them.
    """
    tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
    tokenizer.save_pretrained(folder)
    config = model_config(name, tokenizer)
    config.architectures = [MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)].__name__]
    config.save_pretrained(folder)
    norm = {"model.language_model.norm.weight": torch.ones(config.text_config.hidden_size)}
    save_file(norm, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def filler_question(length_without: int, length: int) -> str:
    """Return a question that extends a prompt of `length_without` tokens to `length` tokens.

    Raises:
        UserError: if the prompt is longer already.
    """
    if length_without > length:
        raise UserError(
            f"a prompt of {length} tokens has no room for its visual tokens and chat template, {length_without} tokens"
        )
    return FILLER * (length - length_without)
