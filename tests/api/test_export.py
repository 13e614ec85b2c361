"""What `rlvid export` writes: other tools must answer with it as the run does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.video_utils import VideoMetadata

from rlvid import api
from rlvid.config import VideoConfig, load
from rlvid.data.benchmark import load_level
from rlvid.errors import UserError
from rlvid.policy.families import VideoInput
from rlvid.policy.model_card import model_card
from rlvid.policy.processor import FrameProcessor
from rlvid.policy.processor_files import generation_config, processor_settings
from rlvid.utils.files import read_jsonl
from tests.helpers.policies import load_policy

pytestmark = pytest.mark.usefixtures("quick_runs")

QUESTIONS = 12
ASKED = [f"eval.limit={QUESTIONS}", "eval.splits=['L1']", "eval.transfer=[]"]


def export_evaluated(model, home):
    """Evaluate and export a model; returns the folder, and its replies to a dozen questions as rlvid gives them."""
    api.train("nano", [*ASKED, "train.max_steps=0", f'model="{model}"'], home / "run")
    api.export(home / "run", home / "model")
    return home / "model", [row["completion"] for row in read_jsonl(home / "run/eval/L1.jsonl")]


@pytest.fixture(scope="module")
def exported(kitchen, tmp_path_factory):
    """The folder of the exported model "nano", and its replies."""
    return export_evaluated("nano", tmp_path_factory.mktemp("export"))


def replies_of_transformers(folder, processor, model):
    """Greedy replies of transformers' `generate`, by the folder's own files; the frames are rlvid's."""
    prompts = load_level("kitchen", "L1")[:QUESTIONS]
    frames = load_policy(f'model="{model}"').frames
    generator = AutoModelForImageTextToText.from_pretrained(folder).eval()
    replies = []
    for prompt in prompts:
        clip = frames(prompt)
        media = {}
        if clip.video is not None:
            times = clip.clock.times.tolist()
            metadata = VideoMetadata(total_num_frames=len(times), fps=1.0, frames_indices=times)
            media = {"videos": [np.array(clip.video)], "video_metadata": [metadata], "do_sample_frames": False}
        if clip.image is not None:
            media["images"] = [np.array(clip.image)]
        kinds = [kind for kind in ("video", "image") if getattr(clip, kind) is not None]
        content = [{"type": kind} for kind in kinds] + [{"type": "text", "text": prompt.text}]
        messages = [{"role": "user", "content": content}]
        chat = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        if "Qwen3" in type(processor).__name__:  # see `policy.parity`: transformers keeps two tokens too many
            chat = chat.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
        inputs = processor(text=[chat], return_tensors="pt", **media)
        with torch.no_grad():
            tokens = generator.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
        replies.append(processor.tokenizer.decode(tokens).removesuffix("<|im_end|>"))
    return replies


def test_transformers_processor_and_generate_give_the_runs_replies(exported):
    """With the video processor of rlvid in the place of the one that needs torchvision, by the folder's settings."""
    folder, replies = exported
    config = AutoConfig.from_pretrained(folder)
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    settings = json.loads((folder / "video_preprocessor_config.json").read_text())
    videos = FrameProcessor(VideoInput("pixel_values_videos", patches=True), images, settings)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    unchecked = {"check_argument_for_proper_class": lambda *arguments: None}
    base = PROCESSOR_MAPPING[type(config)]
    processor = type(base.__name__, (base,), unchecked)(images, tokenizer, videos, tokenizer.chat_template)
    assert replies_of_transformers(folder, processor, "nano") == replies


@pytest.mark.parametrize("model", ["nano", "nano/qwen2_5_vl", "nano/qwen3_vl"])
def test_the_whole_processor_of_transformers_gives_the_runs_replies(kitchen, model, tmp_path):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    folder, replies = export_evaluated(model, tmp_path)
    assert replies_of_transformers(folder, AutoProcessor.from_pretrained(folder), model) == replies


def test_rlvid_gives_the_runs_replies_and_the_card_says_how_to_ask(exported, tmp_path):
    folder, replies = exported
    api.evaluate(folder, out=tmp_path / "again")
    assert [row["completion"] for row in read_jsonl(tmp_path / "again/eval/L1.jsonl")] == replies
    card = (folder / "README.md").read_text()
    assert "each resized to 56 x 56" in card and "at most 64 tokens" in card and "Output the thinking process" in card


def test_an_existing_folder_is_not_taken_for_the_new_export(exported):
    folder, _ = exported
    with pytest.raises(UserError, match="exists, and its weights would stay as they are"):
        api.export(folder.parent / "run", folder)


def test_sampling_and_limits_of_pixels_are_those_of_the_run(kitchen, tmp_path):
    api.export("nano", tmp_path / "model")  # an embedded model: settings of the preset nano
    saved = json.loads((tmp_path / "model/generation_config.json").read_text())
    assert saved["max_new_tokens"] == load("nano", ()).train.max_completion_length and not saved.get("do_sample")
    assert saved["eos_token_id"] == 2 and len(saved["suppress_tokens"]) == 5
    config = AutoConfig.from_pretrained(Path(tmp_path / "model"))
    image, video = processor_settings(config, VideoConfig(resized_height=None, resized_width=None))
    assert image["size"] == {"shortest_edge": 56 * 56, "longest_edge": 256 * 28 * 28} == video["size"]
    paper = processor_settings(config, VideoConfig())[1]
    assert paper["size"] == {"shortest_edge": 252 * 252, "longest_edge": 252 * 252} and paper["max_frames"] == 16


def test_the_card_names_the_decoding_and_the_protocol_of_evaluations():
    changes = ["eval.max_completion_length=33", "eval.temperature=0.5", "eval.top_p=0.9", "eval.protocol=video_auto"]
    policy = load_policy()
    card = model_card("model", load("nano", changes), policy.family)
    assert "Sampled at temperature 0.5 and top_p 0.9, at most 33 tokens" in card
    assert "SamplingParams(temperature=0.5, top_p=0.9, max_tokens=33)" in card
    assert "evaluated under `video_auto`" in card
    assert "**Protocol.**" not in model_card("model", load("nano", ()), policy.family)
    assert generation_config(policy, load("nano", changes)).max_new_tokens == 33
