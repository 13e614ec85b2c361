"""What each family reads is what its published processor writes: tokens, times, positions, pixels. Others: refused."""

import ast
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.video_utils import VideoMetadata

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.policy.architecture import check_model
from rlvid.policy.encoding import VIDEO_BLOCK, media_patches
from rlvid.policy.families import FAMILIES, check_config, family_of
from rlvid.video.read import frame_clock, frame_indices
from rlvid.video.resize import resize
from rlvid.video.views import Clip
from tests.helpers.policies import load_policy
from tests.helpers.positions import published_positions
from tests.helpers.sources import parse, tracked_files
from tests.helpers.tiny_models import tiny_config, write_tiny_model

VISION_START, VIDEO_TOKEN, VISION_END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request, kitchen, tmp_path_factory):
    return load_policy(f"model={write_tiny_model(request.param, tmp_path_factory.mktemp('tiny') / request.param)}")


def clip_of(frames, size, native_fps=8.0, total=100):
    """A clip of random frames that were chosen from `total` ones."""
    random = np.random.default_rng(0)
    indices = np.linspace(0, total - 1, frames).round().astype(int).tolist()
    video = random.integers(0, 256, (frames, *size, 3), np.uint8)
    return Clip(video, video[0], frame_clock(indices, total, native_fps, 0.0, float("inf"))), indices


def published_video_text(grid, indices, native_fps, merge=2):
    """What `Qwen3VLProcessor` writes for a video. Its video processor needs torchvision, this function does not."""
    processor = SimpleNamespace(
        video_processor=SimpleNamespace(merge_size=merge, temporal_patch_size=2),
        video_token=VIDEO_TOKEN,
        vision_start_token=VISION_START,
        vision_end_token=VISION_END,
    )
    processor._calculate_timestamps = Qwen3VLProcessor._calculate_timestamps.__get__(processor)
    metadata = VideoMetadata(total_num_frames=100, fps=native_fps, frames_indices=list(indices))
    inputs = {"video_grid_thw": torch.tensor([grid]), "video_metadata": [metadata]}
    return Qwen3VLProcessor.replace_video_token(processor, inputs, 0)


@pytest.mark.parametrize(("frames", "native_fps"), [(8, 8.0), (6, 29.97), (2, 1.5), (1, 24.0), (16, 1000 / 33)])
def test_token_ids_are_those_of_the_published_processor(policy, prompts, frames, native_fps):
    """The text of the published processor, in one piece. transformers 5.10 and later keeps two tokens more."""
    factor = policy.family.image_factor
    clip, indices = clip_of(frames, (2 * factor, 3 * factor), native_fps)
    inputs = policy.encode(prompts[0], clip)
    content = [{"type": "video"}, {"type": "image"}, {"type": "text", "text": prompts[0].text}]
    message = [{"role": "user", "content": content}]
    chat = policy.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    grid = [-(-frames // 2), 4, 6]
    video = VISION_START + VIDEO_TOKEN * (grid[0] * 6) + VISION_END
    if policy.model.config.model_type.startswith("qwen3_vl"):
        video = published_video_text(grid, indices, native_fps)
    expected = chat.replace(VIDEO_BLOCK, video).replace("<|image_pad|>", "<|image_pad|>" * 6)
    assert inputs.input_ids.tolist() == policy.tokenizer.encode(expected)
    assert inputs.grid_thw.tolist() == [grid, [1, 4, 6]]


@given(st.integers(2, 5000), st.floats(1, 240))
def test_seconds_are_those_of_the_published_processors(total, native_fps):
    """`sampled_fps` and the timestamps, to the last bit."""
    indices = frame_indices(total, native_fps, VideoConfig())
    clock = frame_clock(indices, total, native_fps, 0.0, float("inf"))
    metadata = VideoMetadata(total_num_frames=total, fps=native_fps, frames_indices=indices)
    assert clock.sampled_fps == metadata.sampled_fps and clock.times.tolist() == metadata.timestamps
    video = family_of(tiny_config("qwen2_5_vl")).video_segments((len(indices) // 2, 2, 2), clock)
    assert [segment.pace for segment in video] == [2 * (2 / metadata.sampled_fps)]
    video = family_of(tiny_config("qwen3_vl")).video_segments((len(indices) // 2, 2, 2), clock)
    seconds = Qwen3VLProcessor._calculate_timestamps(None, list(indices), native_fps)
    assert [segment.text for segment in video] == [f"<{second:.1f} seconds>" for second in seconds]
    assert all(segment.grid == (1, 2, 2) for segment in video)


@pytest.mark.parametrize("total", [100, 37, 80])
@pytest.mark.parametrize("left_out", ["nothing", "video", "image", "video and image"])
def test_positions_are_the_published_ones(policy, prompts, left_out, total):
    """Videos that are longer in time than a frame is wide, with whole and with broken seconds per step."""
    factor, config = policy.family.image_factor, policy.model.config
    clip, _ = clip_of(12, (2 * factor, 3 * factor), total=total)
    clip = replace(clip, **{kind: None for kind in ("video", "image") if kind in left_out})
    inputs = policy.encode(prompts[0], clip)
    positions, next_position = published_positions(
        inputs.input_ids.tolist(), config, inputs.grid_thw.tolist(), 2 / clip.clock.sampled_fps
    )
    assert inputs.position_ids.T.tolist() == [list(position) for position in positions]
    assert inputs.next_position == next_position


@pytest.mark.parametrize("size", [(300, 411), (37, 53), (720, 405)])
def test_pixels_are_those_of_the_published_image_processor(policy, size):
    family = policy.family
    video = VideoConfig(resized_height=None, resized_width=None)
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    patches, grids = media_patches([resize(pixels, video, family.image_factor)], family, torch.device("cpu"))
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": video.min_pixels, "longest_edge": video.max_pixels},
        patch_size=family.vision.patch_size,
        image_mean=list(family.mean),
        image_std=list(family.std),
    )
    expected = processor(images=[pixels[0]], return_tensors="pt")
    assert grids.tolist() == expected["image_grid_thw"].tolist()
    assert (patches.all() - expected["pixel_values"]).abs().max() < 1e-6


def test_pixels_agree_with_qwen3_vls_video_processor():
    """Within one level of 255, as for Qwen2-VL (tests/video/test_pixels.py)."""
    pytest.importorskip("torchvision")
    from transformers import Qwen3VLVideoProcessor

    family = family_of(tiny_config("qwen3_vl"))
    clip, _ = clip_of(6, (120, 90))
    sized = VideoConfig(resized_height=128, resized_width=96)
    patches, grids = media_patches([resize(clip.video, sized, 32)], family, torch.device("cpu"))
    processor = Qwen3VLVideoProcessor(size={"shortest_edge": 6 * 128 * 96, "longest_edge": 6 * 128 * 96})
    channels_first = torch.tensor(clip.video).permute(0, 3, 1, 2)
    expected = processor(videos=[channels_first], do_sample_frames=False, return_tensors="pt")
    assert grids.tolist() == expected["video_grid_thw"].tolist()
    assert (patches.all() - expected["pixel_values_videos"]).abs().max() <= 1.001 / 255 / 0.5


def test_frames_are_resized_to_whole_visual_tokens(policy, prompts):
    """252 pixels, the paper's size, are 256 where a visual token has 32 a side."""
    wide = load_policy(f"model={policy.model.name_or_path}", "video.resized_height=252", "video.resized_width=252")
    side = 256 if policy.family.image_factor == 32 else 252
    assert wide.frames(prompts[0]).video.shape[1:3] == wide.frames(prompts[0]).image.shape[:2] == (side, side)


def test_an_unknown_frame_rate_is_refused_where_times_are_read(policy, prompts):
    clip = replace(policy.frames(prompts[0]), clock=None)
    if policy.model.config.model_type == "qwen2_vl":
        assert torch.equal(policy.encode(prompts[0], clip).input_ids, policy.encode(prompts[0]).input_ids)
        return
    with pytest.raises(UserError, match=f"sample {prompts[0].id}: its frame rate is unknown.*leave this sample out"):
        policy.encode(prompts[0], clip)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "siglip"])
def test_other_families_are_refused_by_config_json_alone(tmp_path, model_type):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UserError, match=rf"is a {model_type}, and rlvid trains .* Qwen3-VL \(qwen3_vl\)") as error:
        check_model(str(tmp_path))
    assert "\n" not in str(error.value)


def test_layers_for_which_packed_rows_are_not_exact_are_refused(tmp_path, kitchen):
    windows = {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 8}
    for model_type in ("qwen2_vl", "qwen2_5_vl"):
        folder = write_tiny_model(model_type, tmp_path / model_type, text=windows)
        for refuse in (lambda name: check_model(str(name)), lambda name: load_policy(f"model={name}")):
            with pytest.raises(UserError, match="layers with sliding_attention: packed rows are exact"):
                refuse(folder)
    flat = {"model_type": "qwen2_5_vl", "num_hidden_layers": 28, "max_window_layers": 28, "use_sliding_window": True}
    check_config("published", flat)  # no layer is beyond the 28th
    with pytest.raises(UserError, match="sliding_attention"):
        check_config("older", flat | {"max_window_layers": 27})
    with pytest.raises(UserError, match="linear_attention"):
        linear = {"layer_types": ["linear_attention", "full_attention"]}
        check_config("hybrid", {"model_type": "qwen3_vl", "text_config": linear})


def test_no_other_module_of_the_loop_names_a_family():
    """The names stand in families.py; where base models are made and where sizes of published ones are listed."""
    names = set(FAMILIES) | {family.__name__ for family in FAMILIES.values()} - {"Family"}
    allowed = {
        "rlvid/policy/families.py",
        "rlvid/nano/architectures.py",
        "rlvid/nano/model.py",
        "rlvid/bench/published_models.py",
    }
    for path in set(tracked_files("rlvid")) - allowed:
        found = set()
        for node in ast.walk(parse(path)):
            found |= {getattr(node, "id", ""), getattr(node, "attr", "")}
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
        assert not found & names, path
