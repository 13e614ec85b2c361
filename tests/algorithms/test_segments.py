"""PA-GRPO: each segment of a reply has its own rewards, advantages and tokens."""

from dataclasses import replace

import pytest
import torch

from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.trainer.credit import assign_credit
from tests.helpers import toy

pytestmark = pytest.mark.fast
ROOT_HALF = 0.5**0.5
MASK = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0]])


def segment_step(observed, perception=(2.0, 1.0), reasoning=(1.0, 2.0), tag="observation"):
    """Two completions of four and three tokens; `observed` is the mask of their perception segments."""
    rewards = torch.tensor([reasoning], dtype=torch.float64)
    step = toy.make_step(rewards, MASK, tag_masks={tag: torch.tensor(observed)})
    step.columns["seen"] = torch.tensor([perception], dtype=torch.float64)
    return replace(step, reward_weights={"accuracy": 1.0, "seen": 1.0})


def credit_of(step, **fields):
    return assign_credit(build("algorithms", "pa_grpo", perception=("seen",), **fields), step)


def test_each_segment_is_credited_by_its_own_rewards_on_its_own_tokens():
    """P [2, 1] and R [1, 2]: +-.707 on the tokens of P, -+.707 on those of R."""
    batch = credit_of(segment_step([[1.0, 1, 0, 0], [1, 0, 0, 0]]))
    signs = torch.tensor([[1.0, 1, -1, -1], [-1, 1, 1, 0]])
    assert torch.allclose(batch.advantages, ROOT_HALF * signs, atol=2e-4)
    assert torch.allclose(batch.weights, MASK / torch.tensor([[8.0], [6.0]])), "one share of the row for each token"
    algorithm = build("algorithms", "pa_grpo", perception=("seen",))
    assert algorithm.extra_metrics(batch)["credit/perception"] == pytest.approx(3 / 7)


def test_a_missing_segment_has_no_credit_and_no_nan():
    batch = credit_of(segment_step([[1.0, 1, 1, 1], [0, 0, 0, 0]]))
    assert torch.allclose(batch.advantages[0], torch.full((4,), ROOT_HALF), atol=2e-4)
    assert torch.allclose(batch.advantages[1], ROOT_HALF * MASK[1], atol=2e-4), "all of it is reasoning"
    nan = credit_of(segment_step([[1.0, 0, 0, 0], [1, 0, 0, 0]], perception=(float("nan"), float("nan"))))
    assert nan.advantages[:, 0].tolist() == [0, 0] and nan.advantages.isfinite().all()


def test_flat_perception_leaves_the_credit_of_reasoning_and_the_sum_would_not():
    flat = credit_of(segment_step([[1.0, 0, 0, 0], [1, 0, 0, 0]], perception=(1.0, 1.0)))
    assert flat.advantages[:, 0].tolist() == [0, 0] and flat.advantages[0, 1] < 0
    opposite = segment_step([[1.0, 0, 0, 0], [1, 0, 0, 0]])
    assert not assign_credit(build("algorithms", "grpo"), opposite).advantages.any(), "GRPO's total is flat: 3 and 3"
    assert credit_of(opposite).advantages.any()
    each = credit_of(opposite, multi_objective_aggregation="normalize_then_sum").advantages
    assert (each[0, :2] * torch.tensor([1.0, -1]) > 0).all()


def test_perception_without_a_reward_and_unknown_rewards_are_refused():
    step = segment_step([[1.0, 0, 0, 0], [1, 0, 0, 0]])
    with pytest.raises(UserError, match="no reward credits them: set algorithm"):
        assign_credit(build("algorithms", "pa_grpo"), step)
    with pytest.raises(UserError, match="names sawn, and the run's rewards are accuracy, seen"):
        assign_credit(build("algorithms", "pa_grpo", perception=("sawn",)), step)


def test_without_the_tag_it_is_grpo():
    step = segment_step([[0.0] * 4] * 2)
    step = replace(step, reward_weights={"accuracy": 1.0, "seen": 0.0})
    expected = assign_credit(build("algorithms", "grpo"), step).advantages
    assert torch.equal(assign_credit(build("algorithms", "pa_grpo"), step).advantages, expected)
