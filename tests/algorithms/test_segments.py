"""PA-GRPO: segments without tokens or rewards, opposite rewards, and what is logged."""

from dataclasses import replace

import pytest
import torch

from rlvid.registry import build
from rlvid.trainer.credit import assign_credit
from tests.helpers import toy

pytestmark = pytest.mark.fast
ROOT_HALF = 0.5**0.5
MASK = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0]])


def credit_of(observed, perception=(2.0, 1.0), algorithm="pa_grpo"):
    """The batch of two completions of four and three tokens; `observed` is the mask of their perception segments."""
    step = toy.make_step(torch.tensor([[1.0, 2.0]]).double(), MASK, tag_masks={"observation": torch.tensor(observed)})
    step.columns["perception_judge"] = torch.tensor([perception]).double()
    step = replace(step, reward_weights={"accuracy": 1.0, "perception_judge": 1.0})
    return assign_credit(build("algorithms", algorithm), step)


def test_padding_has_no_credit_and_each_token_one_share_of_its_row():
    batch = credit_of([[1.0, 1, 0, 0], [1, 0, 0, 0]])
    signs = torch.tensor([[1.0, 1, -1, -1], [-1, 1, 1, 0]])
    assert torch.allclose(batch.advantages, ROOT_HALF * signs, atol=2e-4)
    assert torch.allclose(batch.weights, MASK / torch.tensor([[8.0], [6.0]]))
    assert build("algorithms", "pa_grpo").extra_metrics(batch)["credit/perception"] == pytest.approx(3 / 7)


def test_a_step_whose_completions_are_all_truncated_has_no_share_of_perception():
    step = toy.make_step(torch.tensor([[1.0, 2.0]]).double(), MASK, tag_masks={"observation": MASK})
    step = replace(step, finished=torch.zeros(1, 2, dtype=torch.bool))
    algorithm = build("algorithms", "pa_grpo", mask_truncated_completions=True)
    assert algorithm.extra_metrics(assign_credit(algorithm, step)) == {"credit/perception": 0.0}


def test_perception_that_does_not_apply_is_no_nan():
    batch = credit_of([[1.0, 0, 0, 0], [1, 0, 0, 0]], perception=(float("nan"), float("nan")))
    assert batch.advantages[:, 0].tolist() == [0, 0] and batch.advantages.isfinite().all()


def test_opposite_rewards_cancel_in_grpo_and_not_here():
    observed = [[1.0, 0, 0, 0], [1, 0, 0, 0]]
    assert not credit_of(observed, algorithm="grpo").advantages.any(), "its total is flat: 3 and 3"
    assert credit_of(observed).advantages.any()
