"""Pixels agree with Qwen2-VL's own processors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as qwens

from rlvid.config import VideoConfig
from rlvid.errors import UserError
from rlvid.video.pixels import STD, patchify
from rlvid.video.resize import resize, size, smart_resize

FREE = VideoConfig(resized_height=None, resized_width=None)


def picture(height, width, count=1):
    """(count, height, width, 3) uint8: a smooth gradient, full-contrast noise and stripes: much to get wrong."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 256, (count, height, width))
    planes = np.stack([np.broadcast_to(255 * y / height, noise.shape), noise, noise * 0 + x % 7 * 40], -1)
    return planes.astype(np.uint8)


@given(st.integers(28, 3000), st.integers(28, 3000))
def test_smart_resize_is_qwens(height, width):
    assert smart_resize(height, width, 3136, 200704) == qwens(height, width, 28, 3136, 200704)


def test_sizes():
    assert size(1080, 1920, VideoConfig(resized_height=256, resized_width=256)) == (252, 252)  # the paper's
    assert size(1080, 1920, VideoConfig(resized_height=56, resized_width=56)) == (56, 56)
    assert size(1080, 1920, FREE) == (336, 588)
    assert size(10, 20, FREE) == (56, 84)  # never below one token a side
    with pytest.raises(UserError, match="more than 200 times as long as wide"):
        size(10, 3000, FREE)


@pytest.mark.parametrize(("height", "width"), [(300, 411), (37, 53), (720, 405), (252, 252)])
def test_resize_and_patchify_are_the_image_processors(height, width):
    image = picture(height, width)
    mine, grid = patchify(torch.tensor(resize(image, FREE)))
    theirs = Qwen2VLImageProcessorPil(size={"shortest_edge": FREE.min_pixels, "longest_edge": FREE.max_pixels})(
        images=[image[0]], return_tensors="pt"
    )
    assert grid == tuple(theirs["image_grid_thw"][0].tolist())
    assert torch.allclose(mine, theirs["pixel_values"], atol=1e-5)


def test_resize_and_patchify_agree_with_the_video_processor():
    """Within one level of 255: torchvision's uint8 kernel has 16-bit weights, Pillow's 22-bit ones."""
    pytest.importorskip("torchvision")
    from transformers import Qwen2VLVideoProcessor

    frames = picture(120, 90, count=6)
    mine, grid = patchify(torch.tensor(resize(frames, FREE)))
    theirs = Qwen2VLVideoProcessor(size={"shortest_edge": FREE.min_pixels, "longest_edge": FREE.max_pixels})(
        videos=[torch.tensor(frames).permute(0, 3, 1, 2)], do_sample_frames=False, return_tensors="pt"
    )
    assert grid == tuple(theirs["video_grid_thw"][0].tolist())
    assert (mine - theirs["pixel_values_videos"]).abs().max() <= 1.001 / 255 / min(STD)


def test_frames_are_resized_independently_and_flat_colour_stays():
    frames = picture(100, 70, count=4)
    whole = resize(frames, VideoConfig())
    assert whole.shape == (4, 252, 252, 3) and whole.dtype == np.uint8
    for i in range(4):
        np.testing.assert_array_equal(whole[i : i + 1], resize(frames[i : i + 1], VideoConfig()))
    flat = np.full((2, 31, 47, 3), 201, np.uint8)
    assert (resize(flat, VideoConfig()) == 201).all()
    assert resize(whole, VideoConfig()) is whole


def test_patches_lie_where_the_model_expects_them():
    """Each pixel says where it is; the patch of frame pair 1, row 2, column 1 is found by hand."""
    frames = torch.zeros(4, 56, 84, 3, dtype=torch.uint8)
    frames[2, 28:42, 14:28, 0] = 255
    rows, grid = patchify(frames)
    assert grid == (2, 4, 6) and rows.shape == (48, 3 * 2 * 14 * 14)
    lit = (rows.view(48, 3, 2, 14 * 14) > 1.5).all(-1).nonzero().tolist()
    # pair 1 starts at row 24; of its blocks of 2x2 patches, three abreast, the fourth is (1, 0); its second is (0, 1)
    assert lit == [[24 + 3 * 4 + 1, 0, 0]]


def test_an_odd_last_frame_is_repeated():
    frames = torch.tensor(picture(28, 56, count=3))
    assert torch.equal(patchify(frames)[0], patchify(torch.cat([frames, frames[-1:]]))[0])
