"""Metrics of a step against values computed by hand."""

import pytest
import torch

from rlvid.algorithm import Algorithm
from rlvid.trainer.counters import Counters
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


def test_counters_of_old_checkpoints_continue():
    """Checkpoints until 2026-11-29 call the number of verdicts "said", and have none without verdict noise."""
    counters = Counters(tokens=7)
    counters.verdicts |= {"total": 4.0, "changed": 1.0}
    state = counters.state_dict()
    four = {name: state["verdicts"][name] for name in ("right", "right_paid", "wrong", "wrong_paid")}
    old, without = Counters(), Counters()
    old.load_state_dict(state | {"verdicts": {**four, "said": 4.0, "changed": 1.0}})
    assert old == counters
    without.load_state_dict(state | {"verdicts": four})
    assert without.verdicts == Counters().verdicts and without.tokens == 7
