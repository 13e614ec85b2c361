"""Tiny models for the general path with random weights, with processors and tokenizers as they are published."""

import json

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from rlvid.registry import NANO_CHECKPOINT

TEXT = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 7,
}  # fmt: skip
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}{{ MARKS[part.type] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]
PIXELS = {"size": {"height": 28, "width": 28}, "image_mean": MEAN, "image_std": STD}

# named special tokens of the tokenizer, in the order of their ids after the embedded tokenizer's
TOKENS = {
    "smolvlm": {
        "image_token": "<image>", "fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>", "video_token": "<video>",
    },
    "internvl": {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "llava_onevision": {"image_token": "<image>", "video_token": "<video>"},
    "gemma3": {
        "image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
    },
    "qwen3_5": {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
}  # fmt: skip
GENERAL = tuple(TOKENS)

PROCESSORS = {  # class, its own settings, and those of its image and video processors
    "smolvlm": (
        "SmolVLMProcessor",
        {"image_seq_len": 4},
        {
            "image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 56},
            "max_image_size": {"longest_edge": 28},
        },
        {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}},
    ),
    "internvl": (
        "InternVLProcessor",
        {"image_seq_length": 4},
        {"image_processor_type": "GotOcr2ImageProcessor", "max_patches": 2, **PIXELS},
        PIXELS,
    ),
    "llava_onevision": (
        "LlavaOnevisionProcessor",
        {"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
        {
            "image_processor_type": "LlavaOnevisionImageProcessor", **PIXELS,
            "image_grid_pinpoints": [[28, 28], [28, 56], [56, 28]],
        },
        PIXELS,
    ),
    "gemma3": (
        "Gemma3Processor",
        {"image_seq_length": 4},
        {
            "image_processor_type": "Gemma3ImageProcessor", "size": {"height": 28, "width": 28},
            "image_mean": HALF, "image_std": HALF,
        },
        None,
    ),
    "qwen3_5": (
        "Qwen3VLProcessor",
        {},
        {
            "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 16, "image_mean": HALF, "image_std": HALF,
            "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64},
        },
        {"patch_size": 16, "image_mean": HALF, "image_std": HALF},
    ),
}  # fmt: skip


def general_tokenizer(model_type):
    """The embedded tokenizer with a family's special tokens and the form of its chat template."""
    tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT, extra_special_tokens=TOKENS[model_type])
    marks = {"image": TOKENS[model_type].get("boi_token") or TOKENS[model_type].get("image_token")}
    marks["video"] = TOKENS[model_type].get("video_token", "")
    if model_type == "internvl":
        marks["image"] = TOKENS[model_type]["context_image_token"]
    if model_type == "qwen3_5":
        marks = {kind: f"<|vision_start|>{mark}<|vision_end|>" for kind, mark in marks.items()}
    template = f"{{% set MARKS = {json.dumps(marks)} %}}{CHATML}"
    if model_type == "smolvlm":
        template = template.replace("<|im_end|>", "<end_of_utterance>")
    if model_type == "gemma3":  # the tokenizer's own end token is not the one that ends a reply
        tokenizer.add_special_tokens({"bos_token": "<bos>", "extra_special_tokens": ["<end_of_turn>"]})
        template = "{{ bos_token }}" + template.replace("<|im_end|>", "<end_of_turn>")
    tokenizer.chat_template = template
    return tokenizer


def general_config(model_type, tokenizer):
    """The config of a tiny model."""
    token_id, names = tokenizer.convert_tokens_to_ids, TOKENS[model_type]
    wide = {"initializer_range": 0.2}  # so that pixels and positions matter
    text = TEXT | wide | {"vocab_size": len(tokenizer), "tie_word_embeddings": True, "pad_token_id": 0}
    vision = SIGLIP | wide
    image_id = token_id(names.get("context_image_token") or names["image_token"])
    changes = {"image_token_id": image_id, "tie_word_embeddings": True, **wide}
    if model_type == "smolvlm":
        changes |= {"scale_factor": 2, "pad_token_id": 0}
        text["model_type"], vision["model_type"] = "llama", "smolvlm_vision"
    if model_type == "internvl":
        vision |= {"model_type": "internvl_vision", "image_size": [28, 28], "patch_size": [7, 7]}
        changes |= {"downsample_ratio": 0.5}
    if model_type == "llava_onevision":
        pinpoints = PROCESSORS[model_type][2]["image_grid_pinpoints"]
        vision |= {"vision_use_head": False}
        changes |= {"video_token_id": token_id(names["video_token"]), "image_grid_pinpoints": pinpoints}
        changes |= {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    if model_type == "gemma3":
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        text |= {"model_type": "gemma3_text", "layer_types": kinds, "sliding_window": 16, "query_pre_attn_scalar": 16}
        text |= {"final_logit_softcapping": 5.0, "tie_word_embeddings": False}
        vision |= {"vision_use_head": False}
        changes |= {
            "tie_word_embeddings": False,
            "mm_tokens_per_image": 4,
            "boi_token_index": token_id(names["boi_token"]),
        }
        changes |= {"eoi_token_index": token_id(names["eoi_token"])}
    if model_type == "qwen3_5":
        text |= {
            "model_type": "qwen3_5_text", "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "partial_rotary_factor": 0.5,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4,
                                "partial_rotary_factor": 0.5, "mrope_interleaved": True},
        }  # fmt: skip
        vision = wide | {
            "model_type": "qwen3_5_vision", "depth": 2, "num_heads": 2, "hidden_size": 32, "out_hidden_size": 64,
            "intermediate_size": 48, "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2,
            "num_position_embeddings": 64,
        }  # fmt: skip
        changes |= {"video_token_id": token_id("<|video_pad|>")}
        changes |= {f"vision_{part}_token_id": token_id(f"<|vision_{part}|>") for part in ("start", "end")}
    return AutoConfig.for_model(model_type, text_config=text, vision_config=vision, **changes)


def write_general_model(model_type, folder):
    """Save a tiny model with random weights, its tokenizer and the files of its processor; returns its folder."""
    torch.manual_seed(0)
    tokenizer = general_tokenizer(model_type)
    model = AutoModelForImageTextToText.from_config(general_config(model_type, tokenizer))
    for name, parameter in model.named_parameters():
        if not (parameter.any() or "norm" in name or name.endswith("bias")):
            torch.nn.init.normal_(parameter, std=0.2)  # Gemma 3 starts with a projection of 0: pixels would not matter
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    name, settings, images, videos = PROCESSORS[model_type]
    files = {"processor_config.json": {"processor_class": name, **settings}, "preprocessor_config.json": images}
    if videos is not None:
        files["video_preprocessor_config.json"] = videos
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content))
    return folder
