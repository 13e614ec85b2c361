"""What a benchmark carries through which model. Weights are random: speed and memory do not depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rlvid.errors import UserError
from rlvid.registry import NANO_CHECKPOINT, suggest

WORD = " carrot"  # one token
BETA, RATE = 0.04, 1e-6  # everyone's pull towards the reference, and learning rate


@dataclass(frozen=True)
class Shape:
    """One optimiser step: so many groups of so many completions, each of exactly so many tokens.

    The prompt's tokens are text and 81 visual ones for each image of 252x252, or for each two frames of a video: nine
    images, or sixteen frames and an image, are 729 of them, and so is one image of 756x756.
    """

    model: str = "20m"
    groups: int = 1
    generations: int = 8
    prompt: int = 930
    completion: int = 150
    frames: int = 16
    side: int = 252
    lora_r: int = 0


SEEN: dict[str, dict[str, int]] = {"video": {"frames": 16, "side": 252}, "image": {"frames": 0, "side": 756}}
MODELS: dict[str, dict[str, Any]] = {
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


def architecture(name: str, tokenizer: PreTrainedTokenizerBase) -> Qwen2VLConfig:
    """The configuration of a benchmark's model; special tokens are where the embedded tokenizer has them."""
    if name not in MODELS:
        raise UserError(f"no benchmark model {name!r}.{suggest(name, MODELS)}")
    sizes = dict(MODELS[name])
    vision, section, tied = sizes.pop("vision"), sizes.pop("mrope_section"), sizes.pop("tied")
    token = tokenizer.convert_tokens_to_ids
    return Qwen2VLConfig(
        text_config=sizes
        | {
            "rope_parameters": {"rope_type": "default", "mrope_section": section, "rope_theta": 1e6},
            "tie_word_embeddings": tied,
            "bos_token_id": token("<|im_start|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config=vision
        | {
            "hidden_size": sizes["hidden_size"], "mlp_ratio": 4, "patch_size": 14, "temporal_patch_size": 2,
            "spatial_merge_size": 2,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=tied,
    )  # fmt: skip


def write_model(name: str, folder: Path) -> Path:
    """A model of random weights and the embedded tokenizer, as a folder that `from_pretrained` reads."""
    if not (folder / "model.safetensors").exists() and not (folder / "model.safetensors.index.json").exists():
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
        Qwen2VLForConditionalGeneration(architecture(name, tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def question(length: int, total: int) -> str:
    """Words that bring a prompt of `length` tokens to `total`."""
    if length > total:
        raise UserError(f"a prompt of {total} tokens has no room for its {length} visual tokens and its form")
    return WORD * (total - length)
