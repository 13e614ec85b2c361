"""CORA's split of advantages: by hand, its schedule, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.trainer.credit import assign_credit
from tests.helpers import toy

pytestmark = pytest.mark.fast
MASK = torch.ones(4, 2)
TASK, CONSISTENT = [1.0, 1, 0, 0], [1.0, 0, 0, 0]
TASK_SCORES = torch.tensor([0.5, 0.5, -0.5, -0.5]) / (1 / 3) ** 0.5  # the standard deviation has n - 1
CONSISTENT_SCORES = torch.tensor([0.75, -0.25, -0.25, -0.25]) / 0.5


def advantages(task=TASK, consistent=CONSISTENT, number=10, algorithm="cora", **fields):
    """(4,) advantages of four completions in a run of 10 steps; format pays as accuracy does."""
    step = toy.make_step(torch.tensor([task]).double(), MASK, number=number, max_steps=10)
    step.columns["format"] = step.columns["accuracy"].clone()
    step.columns["consistency_rule"] = torch.tensor([consistent]).double()
    step = replace(step, reward_weights={"accuracy": 1.0, "format": 0.2, "consistency_rule": 0.5})
    batch = assign_credit(build("algorithms", algorithm, beta=0.0, **fields), step)
    assert torch.equal(batch.advantages[:, 0], batch.advantages[:, 1]), "all tokens of a completion are credited alike"
    return batch.advantages[:, 0]


def test_task_and_consistency_are_normalised_apart():
    assert torch.allclose(advantages(), TASK_SCORES + CONSISTENT_SCORES, atol=1e-3)
    assert torch.allclose(advantages(coef=0.5), TASK_SCORES + 0.5 * CONSISTENT_SCORES, atol=1e-3)
    assert not torch.allclose(advantages(), advantages(algorithm="grpo"), atol=0.1)


def test_the_weight_of_a_reward_cancels_and_coef_does_not():
    """In `grpo` a weight of 0.5 says how much consistency counts; here each part has the scale of its z-score."""
    flat = advantages(task=[1.0] * 4)
    assert torch.allclose(flat, CONSISTENT_SCORES, atol=1e-3), "flat accuracy: credit from consistency alone"
    assert not advantages(task=[1.0] * 4, consistent=[0.0] * 4).any()


@pytest.mark.parametrize(
    ("number", "warmup", "decay", "coefficient"),
    [(1, 0.1, 0.0, 1), (1, 0.4, 0.0, 0.25), (4, 0.4, 0.0, 1), (9, 0.0, 0.2, 0.5), (10, 0.0, 0.2, 0), (5, 0.4, 0.4, 1)],
)
def test_the_coefficient_warms_up_and_decays(number, warmup, decay, coefficient):
    scheduled = advantages(number=number, warmup=warmup, decay=decay)
    assert torch.allclose(scheduled, TASK_SCORES + coefficient * CONSISTENT_SCORES, atol=1e-3)


def test_without_rewards_of_one_kind_it_is_grpo():
    for named in ((), ("accuracy", "format", "consistency_rule")):
        assert torch.equal(advantages(consistency=named), advantages(algorithm="grpo"))


@pytest.mark.parametrize(
    "fields",
    [{"warmup": 0.7, "decay": 0.7}, {"multi_objective_aggregation": "normalize_then_sum"}, {"kl": "k1_reward"}],
)
def test_what_has_no_meaning_is_refused(fields):
    with pytest.raises(UserError, match="algorithm 'cora': "):
        build("algorithms", "cora", **fields)
