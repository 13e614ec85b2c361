"""Contracts that every file in `algorithms/` keeps, and the values of those that are here."""

import math

import pytest
import torch

from rlvid.algorithm import Algorithm, k3
from rlvid.resolve import available, build
from rlvid.types import Batch
from tests import toy

ALL = available("algorithms")
SAMPLING = [name for name in ALL if build("algorithms", name).completions == "policy"]
RAGGED = (torch.arange(6) < torch.tensor([6, 2, 4, 1, 3, 5, 6, 2])[:, None]).float()  # 2 groups of 4 rows


@pytest.mark.parametrize("name", ALL)
def test_learns_the_toy_quiz(name):
    student = toy.Toy()
    assert student.accuracy() == pytest.approx(0.2)
    assert toy.learn(student, build("algorithms", name)) > 0.9


@pytest.mark.parametrize("name", SAMPLING)
def test_flat_group_gets_no_credit(name):
    advantages = build("algorithms", name).advantages(torch.full((3, 8), 0.2, dtype=torch.float64))
    assert torch.allclose(advantages, torch.zeros(3, 8, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("name", SAMPLING)
def test_credit_ignores_shift_and_follows_permutation(name):
    algorithm, rewards = build("algorithms", name), torch.rand(4, 6, dtype=torch.float64)
    order = torch.randperm(6)
    credit = algorithm.advantages(rewards)
    assert torch.allclose(algorithm.advantages(rewards + 3), credit)
    assert torch.allclose(algorithm.advantages(rewards[:, order]), credit[:, order])


@pytest.mark.parametrize("name", ALL)
def test_gradient_does_not_depend_on_the_cut(name):
    algorithm = build("algorithms", name)
    rewards = torch.rand(2, 4, dtype=torch.float64)
    logps = -torch.rand(8, 6)
    batch = toy.batch_of(algorithm, rewards, RAGGED)
    batch.ref_logps, batch.old_logps = logps - 0.1, logps + 0.05

    def gradient(parts):
        leaf = logps.clone().requires_grad_()
        for chosen in parts:
            rows = slice(chosen[0] * 4, chosen[-1] * 4 + 4)
            part = batch.of_groups(chosen, 2)
            losses, _ = algorithm.loss(leaf[rows], part)
            (losses * part.weights).sum().backward()
        return leaf.grad

    assert torch.allclose(gradient([[0, 1]]), gradient([[0], [1]]), atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_padding_has_no_share(name):
    weights = build("algorithms", name).weights(RAGGED)
    assert (weights[RAGGED == 0] == 0).all() and (weights[RAGGED == 1] > 0).all()


def test_grpo_by_hand():
    grpo = build("algorithms", "grpo", beta=0.0, epsilon=0.2)
    credit = grpo.advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    assert credit[0, 0].item() == pytest.approx(0.5 / (math.sqrt(1 / 3) + 1e-4))  # Bessel's standard deviation
    old = torch.zeros(2, 2)
    logps = torch.log(torch.tensor([[1.5, 1.1], [0.5, 0.9]]))
    batch = Batch(torch.ones(2, 2), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.ones(2, 2), old_logps=old)
    gain, log = grpo.gain(logps, batch)
    assert torch.allclose(gain, torch.tensor([[1.2, 1.1], [-0.8, -0.9]]))
    assert log["clip_ratio/region_mean"].tolist() == [[1, 0], [1, 0]]


def test_grpo_shares_rows_then_tokens():
    weights = build("algorithms", "grpo").weights(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert weights.tolist() == [[0.25, 0.25, 0.0], [0.5, 0.0, 0.0]]


def test_sft_is_the_negative_log_likelihood_per_token():
    sft, logps = build("algorithms", "sft"), -torch.rand(8, 6)
    batch = toy.batch_of(sft, torch.rand(8, 1), RAGGED)
    losses, _ = sft.loss(logps, batch)
    assert (losses * batch.weights).sum().item() == pytest.approx(-logps[RAGGED == 1].mean().item())


def test_k3_is_an_unbiased_estimate_of_the_kl():
    policy, reference = torch.randn(5).log_softmax(0), torch.randn(5).log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    estimate = (policy.exp() * k3(policy, reference)).sum()
    assert estimate.item() == pytest.approx(exact.item(), abs=1e-6)
    assert (k3(policy, reference) >= 0).all()


def test_the_base_class_is_reinforce_with_a_mean_baseline():
    credit = Algorithm().advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert credit.tolist() == [[0.75, -0.25, -0.25, -0.25]]
