"""M-RoPE positions: the published ones by hand, those of transformers, and nano's as it was trained."""

from dataclasses import replace

import pytest
import torch

from rlvid.policy.families import Segment
from rlvid.policy.mrope import mrope_position_ids, uses_transformers_positions
from tests.helpers.policies import load_policy
from tests.helpers.positions import model_with_published_positions

TEXT, VIDEO = 0, 2


def test_the_published_example():
    """A video of 3 x 2 x 2 visual tokens, then five text tokens: from the first Qwen2-VL in transformers."""
    kinds, segments = torch.tensor([VIDEO] * 12 + [TEXT] * 5), [Segment((3, 2, 2))]
    positions, next_position = mrope_position_ids(kinds, segments)
    assert positions.tolist() == [
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7],
        [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 3, 4, 5, 6, 7],
        [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 3, 4, 5, 6, 7],
    ]
    assert next_position == 8
    positions, next_position = mrope_position_ids(kinds, segments, like_transformers=True)
    assert positions[:, :12].max() == 2 and positions[:, 12:].tolist() == [[2, 3, 4, 5, 6]] * 3 and next_position == 7


def test_the_example_of_the_docstring():
    kinds, segments = torch.tensor([TEXT] * 2 + [VIDEO] * 6 + [TEXT]), [Segment((3, 1, 2))]
    positions, _ = mrope_position_ids(kinds, segments)
    assert positions.tolist() == [[0, 1, 2, 2, 3, 3, 4, 4, 5], [0, 1, 2, 2, 2, 2, 2, 2, 5], [0, 1, 2, 3, 2, 3, 2, 3, 5]]
    positions, _ = mrope_position_ids(kinds, segments, like_transformers=True)
    assert positions[:, -1].tolist() == [4, 4, 4]


def test_without_text_after_a_video_the_next_position_is_after_its_last_frame():
    assert mrope_position_ids(torch.tensor([VIDEO] * 5), [Segment((5, 1, 1))], like_transformers=True)[1] == 5
    assert mrope_position_ids(torch.tensor([TEXT] * 3), [])[1] == 3


@pytest.fixture(scope="module", params=[56, 252])
def policy_with_frame_side(request, kitchen):
    """nano, shown frames of 56 or 252 pixels on each side."""
    return load_policy(f"video.resized_height={request.param}", f"video.resized_width={request.param}")


@pytest.mark.parametrize("left_out", [{}, {"video": None}, {"image": None}, {"video": None, "image": None}])
def test_nano_has_the_positions_of_transformers(policy_with_frame_side, prompts, left_out):
    policy = policy_with_frame_side
    config = policy.model.config
    assert uses_transformers_positions(config)
    inputs = policy.encode(replace(prompts[0], id="other", **left_out))
    kinds = (inputs.input_ids == config.image_token_id) + 2 * (inputs.input_ids == config.video_token_id)
    grids = {}
    for kind, grid in zip(dict.fromkeys(kinds[kinds > 0].tolist()), inputs.grid_thw, strict=True):
        grids["image_grid_thw" if kind == 1 else "video_grid_thw"] = grid[None]
    expected, delta = policy.model.model.get_rope_index(inputs.input_ids[None], kinds[None].int(), **grids)
    assert torch.equal(expected[:, 0], inputs.position_ids)
    assert inputs.next_position == len(inputs.input_ids) + int(delta)


def test_other_models_have_the_published_positions(policy, prompts, tmp_path):
    other = load_policy(f"model={model_with_published_positions(tmp_path)}")
    assert not uses_transformers_positions(other.model.config)
    inputs, nano_inputs = other.encode(prompts[0]), policy.encode(prompts[0])
    time, side = int(inputs.grid_thw[0, 0]), int(inputs.grid_thw[0, 1]) // 2
    assert time > side and inputs.next_position == nano_inputs.next_position + time - side
    other.save(tmp_path / "saved")
    assert not uses_transformers_positions(load_policy(f"model={tmp_path / 'saved'}").model.config)
