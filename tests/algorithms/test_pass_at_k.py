"""Pass@k training against every choice of k completions, and against the formula of its paper."""

from itertools import combinations
from math import comb

import pytest
import torch

from rlvid.errors import UserError
from rlvid.registry import build

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(("size", "k"), [(4, 1), (4, 2), (6, 6), (8, 4)])
def test_pass_at_k_equals_the_best_of_every_choice(size, k):
    rewards = torch.rand(3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    credit = build("algorithms", "pass_at_k", k=k).advantages(rewards)
    choices = [*combinations(range(size), k)]
    contains = torch.tensor([[i in choice for choice in choices] for i in range(size)]).double()
    for group, its_credit in zip(rewards, credit, strict=True):
        best = torch.stack([group[[*choice]].max() for choice in choices])
        value = contains @ best / contains.sum(1)
        expected = (value - best.mean()) / (best.std(correction=0) + 1e-4)
        assert torch.allclose(its_credit, expected)


def test_pass_at_k_has_the_papers_analytic_credit_for_verdicts():
    credit = build("algorithms", "pass_at_k", k=4).advantages(torch.eye(8).cumsum(0).flip(0))  # 8, 7, ... 1 successes
    for row, successes in zip(credit, range(8, 0, -1), strict=True):
        failures, passing = 8 - successes, 1 - comb(8 - successes, 4) / comb(8, 4)  # N_neg, and R of the group
        std = (passing * (1 - passing)) ** 0.5 + 1e-4
        assert row.max().item() == pytest.approx((1 - passing) / std, abs=1e-5)
        of_a_failure = 1 - passing - comb(failures - 1, 3) / comb(7, 3) if failures else 0.0
        assert row.min().item() == pytest.approx(of_a_failure / std, abs=1e-5)


def test_pass_at_k_is_refused_for_groups_of_fewer_completions():
    assert build("algorithms", "pass_at_k", k=4).sampling_views(1, 10, 4) == {"": 4}
    with pytest.raises(ValueError, match=r"k = 4 of train.num_generations = 3 completions: lower k"):
        build("algorithms", "pass_at_k", k=4).sampling_views(1, 10, 3)
    with pytest.raises(UserError, match="k must be 1 or more, not 0"):
        build("algorithms", "pass_at_k", k=0)
