"""Metrics of a step against values computed by hand."""

import pytest
import torch

from rlvid.algorithm import Algorithm
from rlvid.trainer.credit import assign_credit
from rlvid.trainer.metrics import advantage_shares
from rlvid.types import Batch, Step


def test_advantage_shares_are_of_the_completions_that_are_learnt_from():
    """One group of three completions, of 1, 2 and 3 tokens, whose last one is cut off and not learnt from.

    Totals are (1, 0, 1), so advantages are (1, -2, 1) / 3, without `form` (2, -1, -1) / 3, and without `right`
    (-1, -1, 2) / 3. Over the first two completions |A|^2 is 5/9, the change by `form` 2/9 and that by `right` 5/9.
    """
    mask = (torch.arange(3) < torch.tensor([1, 2, 3])[:, None]).float()
    zeros = torch.zeros_like(mask)
    columns = {"right": torch.tensor([[1.0, 0.0, 0.0]]), "form": torch.tensor([[0.0, 0.0, 1.0]])}
    step = Step(
        columns=columns,
        reward_weights={"right": 1.0, "form": 1.0},
        batch=Batch(mask, zeros, zeros),
        ids=["q"],
        finished=torch.tensor([[True, True, False]]),
    )
    algorithm = Algorithm(mask_truncated_completions=True)
    shares = advantage_shares(algorithm, step, assign_credit(algorithm, step))
    assert shares == pytest.approx({"advantage_share/right": 1.0, "advantage_share/form": 0.4})
    everything = advantage_shares(Algorithm(), step, assign_credit(Algorithm(), step))  # |A|^2 is 6/9, both changes too
    assert everything == pytest.approx({"advantage_share/right": 1.0, "advantage_share/form": 1.0})
