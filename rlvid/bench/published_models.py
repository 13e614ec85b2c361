"""The architectures of published models, by hub id, so that a plan needs no network; tests check their sizes.

And what the small models of benchmarks take from other families than Qwen2-VL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig

QWEN2_5_VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
}  # fmt: skip
QWEN3_VISION = {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
    "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17],
}  # fmt: skip
QWEN3_VISION_LARGE = QWEN3_VISION | {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip
QWEN2_5 = {"vocab_size": 151936, "max_position_embeddings": 128000}
QWEN3 = {"vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 262144}

# Hub id -> model_type, whether the head is tied to the embeddings, the language model, the vision tower.
PUBLISHED_MODELS: Mapping[str, tuple[str, bool, Mapping[str, Any], Mapping[str, Any]]] = {
    "Qwen/Qwen2-VL-2B-Instruct": (
        "qwen2_vl", True,
        {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
         "num_key_value_heads": 2, "vocab_size": 151936},
        {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14},
    ),
    "Qwen/Qwen2-VL-7B-Instruct": (
        "qwen2_vl", False,
        {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
         "num_key_value_heads": 4, "vocab_size": 152064},
        {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14},
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": (
        "qwen2_5_vl", True,
        {**QWEN2_5, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
         "num_attention_heads": 16, "num_key_value_heads": 2},
        {**QWEN2_5_VISION, "out_hidden_size": 2048},
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        "qwen2_5_vl", False,
        {**QWEN2_5, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
         "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
        {**QWEN2_5_VISION, "out_hidden_size": 3584},
    ),
    "Qwen/Qwen3-VL-2B-Instruct": (
        "qwen3_vl", True,
        {**QWEN3, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
        {**QWEN3_VISION, "out_hidden_size": 2048},
    ),
    "Qwen/Qwen3-VL-4B-Instruct": (
        "qwen3_vl", True,
        {**QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
        {**QWEN3_VISION, "out_hidden_size": 2560},
    ),
    "Qwen/Qwen3-VL-8B-Instruct": (
        "qwen3_vl", False,
        {**QWEN3, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
        {**QWEN3_VISION_LARGE, "out_hidden_size": 4096},
    ),
}  # fmt: skip


# Of other families, in the sizes "tiny" and "20m": the vision tower, and the sections of the rotary embedding by size.
OTHER_FAMILIES: dict[str, tuple[dict[str, Any], dict[str, list[int]]]] = {
    "qwen2_5_vl": (
        {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2},
        {"tiny": [4, 6, 6], "20m": [8, 12, 12]},
    ),
    "qwen3_vl": (
        {"patch_size": 16, "num_position_embeddings": 256, "deepstack_visual_indexes": [0]},
        {"tiny": [6, 5, 5], "20m": [12, 10, 10]},
    ),
}
PUBLISHED_SHAPES = {
    "qwen2_5_vl_3b": "Qwen/Qwen2.5-VL-3B-Instruct",
    "qwen2_5_vl_7b": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen3_vl_2b": "Qwen/Qwen3-VL-2B-Instruct",
    "qwen3_vl_4b": "Qwen/Qwen3-VL-4B-Instruct",
    "qwen3_vl_8b": "Qwen/Qwen3-VL-8B-Instruct",
}


def published_config(model_name: str) -> PretrainedConfig:
    """Return the config of a model of `PUBLISHED_MODELS`."""
    model_type, tied, text, vision = PUBLISHED_MODELS[model_name]
    tie = {"tie_word_embeddings": tied}
    return AutoConfig.for_model(
        model_type,
        text_config={**text, **tie},
        vision_config={**vision, "temporal_patch_size": 2, "spatial_merge_size": 2},
        **tie,
    )
