"""Tiny models of every family with random weights, with the embedded tokenizer."""

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from rlvid.registry import NANO_CHECKPOINT

HIDDEN = 64
TEXT = {
    "hidden_size": HIDDEN, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096, "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
}  # fmt: skip
VISION = {"depth": 3, "num_heads": 2, "temporal_patch_size": 2, "spatial_merge_size": 2}
WINDOWS = {"window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2}
DEEPSTACK = {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
SWIGLU = {"hidden_size": 32, "out_hidden_size": HIDDEN, "intermediate_size": 48}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "decoder_sparse_step": 1}
VISION_OF_FAMILY = {
    "qwen2_vl": {"embed_dim": 32, "hidden_size": HIDDEN, "mlp_ratio": 2, "patch_size": 14},
    "qwen2_5_vl": {**SWIGLU, **WINDOWS, "patch_size": 14},
    "qwen3_vl": {**SWIGLU, **DEEPSTACK, "patch_size": 16},
    "qwen3_vl_moe": {**SWIGLU, **DEEPSTACK, "patch_size": 16},
}
TEXT_OF_FAMILY = {"qwen3_vl_moe": EXPERTS}


def tiny_config(model_type, text=(), vision=(), **changes):
    """The config of a tiny model; `text` and `vision` change its parts."""
    tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
    token_id = tokenizer.convert_tokens_to_ids
    ids = {"eos_token_id": token_id("<|im_end|>"), "pad_token_id": token_id("<|endoftext|>"), "bos_token_id": None}
    initializer = {"initializer_range": 0.2}  # large, so that pixels and positions matter
    return AutoConfig.for_model(
        model_type,
        text_config=TEXT
        | ids
        | initializer
        | {"vocab_size": len(tokenizer)}
        | TEXT_OF_FAMILY.get(model_type, {})
        | dict(text),
        vision_config=VISION | initializer | VISION_OF_FAMILY[model_type] | dict(vision),
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        **{"tie_word_embeddings": True, **initializer, **changes},
    )


def write_tiny_model(model_type, folder, **changes):
    """Save a tiny model with random weights and the embedded tokenizer; returns its folder."""
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(tiny_config(model_type, **changes)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(NANO_CHECKPOINT).save_pretrained(folder)
    return folder
