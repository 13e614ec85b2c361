"""The shapes of the embedded models: a family's architecture in a size.

The families differ in how a video is written and placed and in their vision towers. A size is about how many
parameters a model has, 0.8 M of 2.6 M and 3.9 M of 21.5 M in the vision tower of a Qwen2-VL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from rlvid.errors import UserError
from rlvid.policy.mrope import TRANSFORMERS_POSITIONS

VISION = {"depth": 2, "num_heads": 4, "temporal_patch_size": 2, "spatial_merge_size": 2}
SWIGLU_VISION = {**VISION, "hidden_size": 128, "intermediate_size": 256, "out_hidden_size": 192}
# By model_type: the vision tower, the sections of the rotary embedding for time, height and width, and further keys.
ARCHITECTURES: dict[str, tuple[dict[str, Any], list[int], dict[str, Any]]] = {
    "qwen2_vl": (
        {**VISION, "embed_dim": 128, "hidden_size": 192, "mlp_ratio": 2, "patch_size": 14},
        [4, 6, 6],
        TRANSFORMERS_POSITIONS,
    ),
    "qwen2_5_vl": (
        {
            **SWIGLU_VISION, "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2,
        },
        [4, 6, 6],
        {},
    ),
    "qwen3_vl": (
        {**SWIGLU_VISION, "patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        [6, 5, 5],
        {},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """The shape of an embedded model and how fast it learns.

    Args:
        text: keys of the language model's config.
        vision: keys of the vision tower's config.
        mrope_factor: the head size in units of 32, by which the sections of the rotary embedding are longer.
        initializer_range: of all weights. The usual 0.02 is meant for wider layers: with it, the first word tied to
            pixels takes twice as many steps.
        learning_rate: of pretraining.
    """

    text: dict[str, int]
    vision: dict[str, int]
    mrope_factor: int
    initializer_range: float
    learning_rate: float


SIZES = {
    "2.6m": Size(
        {
            "hidden_size": 192, "intermediate_size": 576, "num_hidden_layers": 4, "num_attention_heads": 6,
            "num_key_value_heads": 3, "head_dim": 32,
        },
        {},
        1,
        0.05,
        1e-3,
    ),
    "20m": Size(  # the shape of `rlvid bench step`
        {
            "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6,
            "num_key_value_heads": 2, "head_dim": 64,
        },
        {"depth": 4, "embed_dim": 256, "hidden_size": 384},
        2,
        0.035,
        5e-4,
    ),
}  # fmt: skip


def build_config(
    tokenizer: PreTrainedTokenizerBase, model_type: str = "qwen2_vl", size: str = "2.6m"
) -> PretrainedConfig:
    """Return the config of a family's architecture, a key of `ARCHITECTURES`, in a size, a key of `SIZES`.

    Raises:
        UserError: there is no such size of the family.
    """
    if size != "2.6m" and model_type != "qwen2_vl":
        raise UserError(f"{model_type} has no shape of size {size}: only qwen2_vl has; leave out --size or --family")

    def token_id(name: str) -> int:
        return tokenizer.convert_tokens_to_ids(f"<|{name}|>")

    vision, mrope_section, options = ARCHITECTURES[model_type]
    shape = SIZES[size]
    mrope_section = [shape.mrope_factor * section for section in mrope_section]
    rope = {"rope_type": "default", "type": "mrope", "mrope_section": mrope_section, "rope_theta": 1e4}
    if model_type == "qwen3_vl":
        rope["mrope_interleaved"] = True  # transformers interleaves without it, vLLM does not
    initializer = {"initializer_range": shape.initializer_range}
    return AutoConfig.for_model(
        model_type,
        text_config={
            **shape.text, "vocab_size": len(tokenizer), "max_position_embeddings": 4096, "rope_parameters": rope,
            "tie_word_embeddings": True, "eos_token_id": token_id("im_end"),
            "pad_token_id": token_id("endoftext"), "bos_token_id": None, **initializer,
        },
        vision_config={**vision, **shape.vision, **initializer},
        **initializer,
        **options,
        tie_word_embeddings=True,
        image_token_id=token_id("image_pad"),
        video_token_id=token_id("video_pad"),
        vision_start_token_id=token_id("vision_start"),
        vision_end_token_id=token_id("vision_end"),
    )  # fmt: skip
