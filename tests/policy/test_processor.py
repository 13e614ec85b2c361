"""On the general path, a model reads what its own processor writes; what it lacks is said before anything is loaded."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata

from rlvid.api import estimate_memory, train
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.policy.architecture import check_model
from rlvid.policy.attention import record_attention
from rlvid.policy.families import FAMILIES, VIDEO_INPUTS, check_config
from rlvid.policy.processor import without_outer_marks
from rlvid.policy.vllm import VLLMSampler
from rlvid.video.read import frame_clock
from rlvid.video.views import Clip
from tests.helpers.general_models import GENERAL, TOKENS, write_general_model
from tests.helpers.policies import load_policy

NATIVE_FPS, TOTAL = 12.5, 100


@pytest.fixture(scope="module", params=GENERAL)
def policy(request, kitchen, tmp_path_factory):
    if request.param == "smolvlm":
        pytest.importorskip("num2words")
    folder = write_general_model(request.param, tmp_path_factory.mktemp("general") / request.param)
    return load_policy(f"model={folder}")


@pytest.fixture(scope="module")
def clip(prompts, policy):
    """Real frames, of sides that every model takes."""
    sized = load_policy(f"model={policy.model.name_or_path}", "video.resized_height=64", "video.resized_width=96")
    shown = sized.frames(prompts[0])
    indices = np.linspace(0, TOTAL - 1, len(shown.video)).round().astype(int).tolist()
    return replace(shown, clock=frame_clock(indices, TOTAL, NATIVE_FPS, 0.0, float("inf"))), indices


@pytest.mark.parametrize("left_out", ["image", "video", "neither"])
def test_what_a_model_reads_is_what_its_published_processor_writes(policy, prompts, clip, left_out):
    """Token ids and all else equal; pixels to a level of 255 or two, since torchvision resizes with other sums."""
    pytest.importorskip("torchvision")
    shown, indices = clip
    kinds = [kind for kind in ("video", "image") if kind != left_out]
    model_type = policy.model.config.model_type
    shown = replace(shown, **({} if left_out == "neither" else {left_out: None}))
    if (model_type == "gemma3" and left_out != "video") or (model_type == "smolvlm" and left_out == "neither"):
        return  # their published processors take no video, or no video beside an image
    processor = AutoProcessor.from_pretrained(policy.model.name_or_path)
    content = [{"type": kind} for kind in kinds] + [{"type": "text", "text": prompts[0].text}]
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    if model_type == "qwen3_5":
        chat = without_outer_marks(chat, processor)
    media = {}
    if "video" in kinds:
        metadata = VideoMetadata(
            total_num_frames=TOTAL, fps=NATIVE_FPS, duration=TOTAL / NATIVE_FPS, frames_indices=list(indices)
        )
        channels_first = torch.tensor(np.ascontiguousarray(shown.video)).permute(0, 3, 1, 2)
        media |= {"videos": [channels_first], "video_metadata": [metadata], "do_sample_frames": False}
        if model_type == "qwen3_5":  # frames are resized by `[video]`, as for Qwen3-VL
            media["videos_kwargs"] = {"do_resize": False}
    if "image" in kinds:
        media["images"] = [shown.image]
        if model_type == "qwen3_5":
            assert shown.image.shape[:2] == (64, 96)
    starts = {"add_special_tokens": False} if model_type == "gemma3" else {}
    expected = processor(text=chat, return_tensors="pt", text_kwargs=starts, **media)
    found = policy.encode(prompts[0], shown)
    assert found.input_ids.tolist() == expected.pop("input_ids")[0].tolist()
    expected.pop("attention_mask")
    assert found.arguments.keys() == expected.keys()
    for name, value in expected.items():
        if value.is_floating_point():
            difference = (found.arguments[name] - value).abs()
            # A level of 255 is 0.0150 by CLIP's deviation, and two levels are 0.0157 by a deviation of 0.5.
            assert difference.max() < 0.0158, name
        else:
            assert torch.equal(found.arguments[name], value), name


def test_a_video_beside_an_image_keeps_its_frames_and_the_image(policy, prompts):
    """Also where both go into one argument, and the published processor would keep the video alone."""
    shown = policy.frames(prompts[0])
    both, video, image = (
        policy.encode(prompts[0], view)
        for view in (shown, replace(shown, image=None), Clip(image=shown.image, clock=shown.clock))
    )
    name = next(key for key in ("pixel_values_videos", "pixel_values") if key in both.arguments)
    pixels = [inputs.arguments[name] for inputs in (video, image) if name in inputs.arguments]
    axis = 1 if policy.model.config.model_type == "smolvlm" else 0
    assert torch.equal(both.arguments[name], torch.cat(pixels, axis))
    frames = 1 if policy.model.config.model_type in ("llava_onevision", "qwen3_5") else len(shown.video)
    assert pixels[0].shape[axis] >= frames


def test_a_reply_ends_where_the_chat_template_ends_it_and_no_token_of_media_is_sampled(policy):
    model_type, tokenizer = policy.model.config.model_type, policy.tokenizer
    ends = {"smolvlm": "<end_of_utterance>", "gemma3": "<end_of_turn>"}
    assert tokenizer.eos_token == ends.get(model_type, "<|im_end|>")
    banned = set(tokenizer.convert_ids_to_tokens(policy.banned_token_ids))
    assert banned == set(TOKENS[model_type].values()) - {tokenizer.eos_token} | (
        {"<|vision_start|>", "<|vision_end|>"} if model_type == "qwen3_5" else set()
    )


def test_a_text_with_a_token_of_media_is_refused(policy, prompts):
    token = TOKENS[policy.model.config.model_type].get("boi_token") or policy.processor.processor.image_token
    prompt = replace(prompts[0], question=f"What is {token}?")
    with pytest.raises(UserError, match=f"sample {prompt.id}: the model's processor refuses it"):
        policy.encode(prompt)


def test_an_unknown_frame_rate_is_refused_where_times_are_read(policy, prompts):
    clip = replace(policy.frames(prompts[0]), clock=None)
    if policy.model.config.model_type not in ("smolvlm", "qwen3_5"):
        assert torch.equal(policy.encode(prompts[0], clip).input_ids, policy.encode(prompts[0]).input_ids)
        return
    with pytest.raises(UserError, match=f"sample {prompts[0].id}: its frame rate is unknown"):
        policy.encode(prompts[0], clip)


def test_the_processor_is_saved_as_it_was_published(policy, prompts, tmp_path):
    policy.save(tmp_path)
    again = load_policy(f"model={tmp_path}")
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_text() == (Path(policy.model.name_or_path) / name).read_text()
    ours, theirs = (p.encode(prompts[0]) for p in (policy, again))
    assert torch.equal(ours.input_ids, theirs.input_ids) and ours.arguments.keys() == theirs.arguments.keys()
    assert all(torch.equal(value, theirs.arguments[name]) for name, value in ours.arguments.items())


def test_what_needs_packed_rows_is_refused_in_one_line(policy, prompts):
    name = policy.model.name_or_path
    with pytest.raises(UserError, match=r"attention maps: model .* runs on the general path"):
        record_attention(policy, policy.encode(prompts[0]), (1, 2))
    with pytest.raises(UserError, match="has not been tried with vLLM"):
        VLLMSampler(policy, load("nano", [f"model={name}"]).train, lambda phase: None)


def test_a_run_is_refused_by_config_json_alone(tmp_path):
    """There are no weights in the folder."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    words = f"model {str(tmp_path)!r} is a gemma3, which runs on the general path, and this needs Qwen2-VL, Qwen2.5-VL"
    settings = [f"model={tmp_path}", "train.use_vllm=true"]
    command = [sys.executable, "-m", "rlvid", "train", "nano", *settings, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and f"train.use_vllm: {words}" in done.stderr and done.stderr.count("\n") == 1
    with pytest.raises(UserError) as error:
        train("nano", [f"model={tmp_path}", "rewards.grounding_attention=1.0"], tmp_path / "run")
    assert str(error.value).startswith(f"reward 'grounding_attention' needs 'visual_attention': {words}")
    with pytest.raises(UserError) as error:
        estimate_memory("nano", [f"model={tmp_path}"])
    assert str(error.value).startswith(f"an estimate of memory: {words}")
    assert not (tmp_path / "run").exists()


def test_models_are_refused_before_anything_is_imported(tmp_path):
    """In a process of its own, so that the modules that it imports can be seen."""
    for model_type, words in (
        ("llama", "others that AutoModelForImageTextToText of the installed transformers loads; it does not load this"),
        ("glm4v", r"its processor needs torchvision: pip install -e '\.\[processors\]'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        with pytest.raises(UserError, match=words):
            check_model(str(tmp_path))
    code = (
        f"import sys\nfrom rlvid.errors import UserError\nfrom rlvid.policy.architecture import check_model\n"
        f"try:\n    check_model({str(tmp_path)!r})\nexcept UserError:\n"
        "    print(not {'torch', 'transformers'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"
    with pytest.raises(UserError, match="is an encoder-decoder"):
        check_config("florence", {"model_type": "florence2", "is_encoder_decoder": True})


def test_every_named_model_is_one_that_transformers_loads():
    for model_type in (*FAMILIES, *GENERAL):
        if model_type != "smolvlm":
            check_config(model_type, {"model_type": model_type})
    assert VIDEO_INPUTS.keys() <= {*GENERAL}
