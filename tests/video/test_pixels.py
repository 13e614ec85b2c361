"""Resized frames and patches agree with Qwen2-VL's own processors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as qwen_smart_resize

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.video.pixels import OPENAI_CLIP_STD, patchify
from rlvid.video.resize import resize, smart_resize, target_size

NO_FIXED_SIZE = VideoConfig(resized_height=None, resized_width=None)


def hard_frames(height, width, count=1):
    """(count, height, width, 3) uint8 that is hard to resize: a gradient, full-contrast noise and stripes."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 256, (count, height, width))
    gradient = np.broadcast_to(255 * y / height, noise.shape)
    stripes = np.broadcast_to(x % 7 * 40, noise.shape)
    return np.stack([gradient, noise, stripes], -1).astype(np.uint8)


@given(st.integers(28, 3000), st.integers(28, 3000))
def test_smart_resize_is_qwens(height, width):
    assert smart_resize(height, width, 3136, 200704) == qwen_smart_resize(height, width, 28, 3136, 200704)


def test_target_sizes():
    paper = VideoConfig(resized_height=256, resized_width=256)
    assert target_size(1080, 1920, paper) == (252, 252)
    assert target_size(1080, 1920, VideoConfig(resized_height=56, resized_width=56)) == (56, 56)
    assert target_size(1080, 1920, NO_FIXED_SIZE) == (336, 588)
    assert target_size(10, 20, NO_FIXED_SIZE) == (56, 84)  # never below one token a side
    with pytest.raises(UserError, match="more than 200 times as long as wide"):
        target_size(10, 3000, NO_FIXED_SIZE)


@pytest.mark.parametrize(("height", "width"), [(300, 411), (37, 53), (720, 405), (252, 252)])
def test_resize_and_patchify_are_the_image_processors(height, width):
    image = hard_frames(height, width)
    patches, grid = patchify(torch.tensor(resize(image, NO_FIXED_SIZE)))
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": NO_FIXED_SIZE.min_pixels, "longest_edge": NO_FIXED_SIZE.max_pixels}
    )
    expected = processor(images=[image[0]], return_tensors="pt")
    assert grid == tuple(expected["image_grid_thw"][0].tolist())
    assert torch.allclose(patches, expected["pixel_values"], atol=1e-5)


def test_resize_and_patchify_agree_with_the_video_processor():
    """Within one level of 255: torchvision's uint8 kernel has 16-bit weights, Pillow's 22-bit ones."""
    pytest.importorskip("torchvision")
    from transformers import Qwen2VLVideoProcessor

    frames = hard_frames(120, 90, count=6)
    patches, grid = patchify(torch.tensor(resize(frames, NO_FIXED_SIZE)))
    processor = Qwen2VLVideoProcessor(
        size={"shortest_edge": NO_FIXED_SIZE.min_pixels, "longest_edge": NO_FIXED_SIZE.max_pixels}
    )
    channels_first = torch.tensor(frames).permute(0, 3, 1, 2)
    expected = processor(videos=[channels_first], do_sample_frames=False, return_tensors="pt")
    assert grid == tuple(expected["video_grid_thw"][0].tolist())
    assert (patches - expected["pixel_values_videos"]).abs().max() <= 1.001 / 255 / min(OPENAI_CLIP_STD)


def test_frames_are_resized_independently_and_a_flat_colour_stays():
    frames = hard_frames(100, 70, count=4)
    together = resize(frames, VideoConfig())
    assert together.shape == (4, 252, 252, 3) and together.dtype == np.uint8
    for i in range(4):
        np.testing.assert_array_equal(together[i : i + 1], resize(frames[i : i + 1], VideoConfig()))
    flat = np.full((2, 31, 47, 3), 201, np.uint8)
    assert (resize(flat, VideoConfig()) == 201).all()
    assert resize(together, VideoConfig()) is together


def test_patches_lie_where_the_model_expects_them():
    """One patch is lit: frame pair 1, row 2, column 1. By the picture of `patchify` it is row 24 + 13 of the output."""
    frames = torch.zeros(4, 56, 84, 3, dtype=torch.uint8)
    frames[2, 28:42, 14:28, 0] = 255  # the first frame of the pair, red channel
    patches, grid = patchify(frames)
    assert grid == (2, 4, 6) and patches.shape == (48, 3 * 2 * 14 * 14)
    lit = (patches.view(48, 3, 2, 14 * 14) > 1.5).all(-1).nonzero().tolist()
    assert lit == [[24 + 13, 0, 0]]


def test_an_odd_last_frame_is_repeated():
    frames = torch.tensor(hard_frames(28, 56, count=3))
    assert torch.equal(patchify(frames)[0], patchify(torch.cat([frames, frames[-1:]]))[0])
