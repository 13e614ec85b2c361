"""M-RoPE: the published positions by hand, transformers' where both agree, and nano's as it was trained."""

from dataclasses import replace

import pytest
import torch

from rlvid.config import load
from rlvid.policy.model import Policy
from rlvid.policy.mrope import mrope_position_ids, uses_transformers_positions
from tests.helpers.positions import published

TEXT, VIDEO = 0, 2


def test_the_published_example():
    """A film of 3 x 2 x 2 visual tokens, then five of text: from transformers' first Qwen2-VL."""
    kinds, grids = torch.tensor([VIDEO] * 12 + [TEXT] * 5), torch.tensor([[3, 2, 2]])
    placed, after = mrope_position_ids(kinds, grids)
    assert placed.tolist() == [
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7],
        [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 3, 4, 5, 6, 7],
        [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 3, 4, 5, 6, 7],
    ]
    assert after == 8
    placed, after = mrope_position_ids(kinds, grids, side=True)
    assert placed[:, :12].max() == 2 and placed[:, 12:].tolist() == [[2, 3, 4, 5, 6]] * 3 and after == 7


def test_without_text_after_it_what_comes_next_is_past_the_film():
    assert mrope_position_ids(torch.tensor([VIDEO] * 5), torch.tensor([[5, 1, 1]]), side=True)[1] == 5
    assert mrope_position_ids(torch.tensor([TEXT] * 3), torch.zeros(0, 3, dtype=torch.long))[1] == 3


@pytest.mark.parametrize("left_out", [{}, {"video": None}, {"image": None}, {"video": None, "image": None}])
@pytest.mark.parametrize("side", [56, 252])
def test_nanos_are_transformers(prompts, side, left_out):
    policy = Policy.load(load("nano", [f"video.resized_{way}={side}" for way in ("height", "width")]))
    assert uses_transformers_positions(policy.model.config)
    encoded = policy.encode(replace(prompts[0], id="some", **left_out))
    config, grids = policy.model.config, {}
    kinds = (encoded.input_ids == config.image_token_id) + 2 * (encoded.input_ids == config.video_token_id)
    for kind, grid in zip(dict.fromkeys(kinds[kinds > 0].tolist()), encoded.grid_thw, strict=True):
        grids[("image_grid_thw", "video_grid_thw")[kind - 1]] = grid[None]
    placed, delta = policy.model.model.get_rope_index(encoded.input_ids[None], kinds[None].int(), **grids)
    assert torch.equal(placed[:, 0], encoded.position_ids) and encoded.next_position == len(encoded.input_ids) + int(
        delta
    )


def test_other_models_take_the_published_ones(prompts, tmp_path):
    policy = Policy.load(load("nano", [f"model={published(tmp_path)}"]))
    encoded, nanos = policy.encode(prompts[0]), Policy.load(load("nano")).encode(prompts[0])
    time, side = int(encoded.grid_thw[0, 0]), int(encoded.grid_thw[0, 1]) // 2
    assert (
        not uses_transformers_positions(policy.model.config)
        and time > side
        and encoded.next_position == nanos.next_position + time - side
    )
    policy.save(tmp_path / "saved")
    assert not uses_transformers_positions(Policy.load(load("nano", [f"model={tmp_path / 'saved'}"])).model.config)
