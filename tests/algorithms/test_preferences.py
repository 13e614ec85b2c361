"""Preference algorithms: which completions are compared, and losses against hand-computed values."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import logsigmoid

from rlvid.errors import UserError
from rlvid.registry import build
from tests.helpers import toy
from tests.helpers.preference_losses import MASK, P, margins, our_loss, tensors

FAMILY = ("dpo", "ipo", "cdpo", "rdpo", "dr_dpo")

# --- Pairs


def test_the_best_completion_of_a_group_is_preferred_to_the_worst():
    rewards = torch.tensor([[0.2, 1.2, 0.0, 1.0], [0.0, 0.1, 0.3, 0.2]])
    batch = toy.make_batch(build("algorithms", "dpo"), rewards, torch.ones(8, 2))
    assert batch.pair_weights.nonzero().tolist() == [[1, 2], [6, 0]]  # (row of the batch, index in its group)
    assert batch.advantages[:, 0].tolist() == [0, 1, -1, 0, -1, 0, 1, 0]


def test_all_pairs_of_a_group_share_its_weight():
    rewards = torch.tensor([[1.0, 0, 0, 1], [3, 2, 2, 2]])
    batch = toy.make_batch(build("algorithms", "dpo", pairs="all"), rewards, torch.ones(8, 1))
    quarter, third = 1 / 4, 1 / 3
    two_winners = torch.tensor([[0, quarter, quarter, 0], [0.0] * 4, [0.0] * 4, [0, quarter, quarter, 0]])
    one_winner = torch.tensor([[0, third, third, third], *[[0.0] * 4] * 3])
    assert torch.allclose(batch.pair_weights[:4], two_winners)
    assert torch.allclose(batch.pair_weights[4:], one_winner)
    assert batch.advantages[:, 0].tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5, 1, -third, -third, -third])


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("pairs", ["best_worst", "all"])
def test_a_flat_group_has_no_pair_and_no_gradient(name, pairs):
    rewards = torch.tensor([[0.1 + 0.2, 0.3], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    _, gradient, log = our_loss(build("algorithms", name, pairs=pairs, rpo_alpha=1.0), rewards)
    assert gradient[[0, 1, 4, 5]].abs().max() == 0 and gradient[[2, 3, 6, 7]].abs().sum() > 0
    assert all(math.isfinite(value) for value in log.values())


def test_a_step_without_a_pair_has_loss_0():
    for name in (*FAMILY, "kto"):
        loss, gradient, log = our_loss(build("algorithms", name), torch.ones(P, 2))
        assert loss == 0 and gradient.abs().max() == 0 and math.isnan(log["logps/chosen"])


def test_ties_are_broken_by_sample_and_step_alone():
    """Each of 2 x 2 pairs is drawn equally often; other samples of the step and positions in it have no effect."""
    algorithm, rewards = build("algorithms", "dpo"), torch.tensor([[1.0, 0.0, 1.0, 0.0]] * 4000)
    ids = [f"sample {i}" for i in range(4000)]

    def drawn_pairs(rewards, ids, number):
        mask = torch.ones(rewards.numel(), 1)
        weights = toy.make_batch(algorithm, rewards, mask, ids=ids, number=number).pair_weights
        return [(int(row), int(column)) for row, column in (group.nonzero()[0] for group in weights.view(-1, 4, 4))]

    pairs = drawn_pairs(rewards, ids, 1)
    assert all(900 < count < 1100 for count in Counter(pairs).values()) and len(Counter(pairs)) == 4
    assert drawn_pairs(rewards[:7], ids[6::-1], 1) == pairs[6::-1]
    next_step = drawn_pairs(rewards, ids, 2)
    assert 800 < sum(one == other for one, other in zip(pairs, next_step, strict=True)) < 1200


def test_a_truncated_completion_is_neither_chosen_nor_rejected():
    algorithm = build("algorithms", "dpo", mask_truncated_completions=True)
    finished = torch.tensor([[False, True, True, False]])
    batch = toy.make_batch(algorithm, torch.tensor([[1.0, 0.5, 0.2, 0.0]]), torch.ones(4, 1), finished=finished)
    assert batch.advantages[:, 0].tolist() == [0, 1, -1, 0]


def test_normalized_rewards_may_prefer_another_completion():
    weights = {"accuracy": 1.0, "length": 1.0}
    step = toy.make_step(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(4, 1), reward_weights=weights)
    step.columns["length"] = torch.tensor([[8.0, 9.5, 0.0, 0.0]])

    def best(aggregation):
        algorithm = build("algorithms", "dpo", multi_objective_aggregation=aggregation)
        return algorithm.credit(step).advantages[:, 0].argmax().item()

    assert best("sum_then_normalize") == 1 and best("normalize_then_sum") == 0


# --- Losses


def test_dpo_equals_hand_computed_values():
    loss, _, log = our_loss(build("algorithms", "dpo", beta=0.3))
    h = margins()
    assert loss == pytest.approx(-logsigmoid(0.3 * h).mean().item())
    assert log["rewards/margins"] == pytest.approx(0.3 * h.mean().item())
    assert log["rewards/accuracies"] == (h > 0).float().mean().item()
    assert log["logps/chosen"] == pytest.approx((tensors()[0] * MASK).sum(-1)[0::2].mean().item())
    assert log["rewards/chosen"] - log["rewards/rejected"] == pytest.approx(log["rewards/margins"], abs=1e-6)


def test_rpo_adds_the_negative_log_likelihood_of_the_chosen_per_token():
    plain, with_nll = (our_loss(build("algorithms", "dpo", rpo_alpha=alpha)) for alpha in (0.0, 0.5))
    log_likelihood = (tensors()[0] * MASK).sum(-1)[0::2] / MASK.sum(-1)[0::2]
    assert with_nll[0] - plain[0] == pytest.approx(-0.5 * log_likelihood.mean().item(), rel=1e-5)
    assert torch.equal(with_nll[1][1::2], plain[1][1::2])


def test_the_loss_of_cdpo_is_minimal_at_a_finite_margin():
    h = torch.linspace(0, 60, 6001)
    loss = build("algorithms", "cdpo", beta=0.1, label_smoothing=0.2).pair_loss(h)
    assert h[loss.argmin()].item() == pytest.approx(math.log(0.8 / 0.2) / 0.1, abs=0.01)


def test_rdpo_is_unbiased_under_flips():
    h, robust, plain = margins(), build("algorithms", "rdpo", label_smoothing=0.3), build("algorithms", "dpo")
    assert torch.allclose(0.7 * robust.pair_loss(h) + 0.3 * robust.pair_loss(-h), plain.pair_loss(h), atol=1e-6)


@pytest.mark.parametrize("right_share", [0.2, 0.7])
def test_the_share_of_flipped_pairs_follows_from_the_error_rates_of_the_verifier(right_share):
    """Counted over simulated verdicts, on pairs of an accepted and a rejected completion that differ in truth."""
    algorithm = build("algorithms", "cdpo", false_positives=0.3, false_negatives=0.4)
    generator = torch.Generator().manual_seed(1)
    right = torch.rand(2, 400_000, generator=generator) < right_share
    accepted = torch.rand(2, 400_000, generator=generator) < torch.where(right, 0.6, 0.3)
    is_pair = accepted[0] & ~accepted[1] & (right[0] != right[1])
    flipped_share = (~right[0])[is_pair].float().mean().item()
    assert flipped_share == pytest.approx(algorithm.epsilon, abs=0.005)
    other = build("algorithms", "rdpo", false_positives=0.1, false_negatives=0.2)
    assert other.epsilon == pytest.approx(0.027, abs=1e-4)


@pytest.mark.parametrize("beta_prime", [0.05, 1.0])
def test_the_first_gradient_of_dr_dpo_is_that_of_the_published_loss(beta_prime):
    logps, ref = tensors()
    leaf = logps.clone().requires_grad_()
    log_ratios = ((leaf - ref) * MASK).sum(-1)
    losses = -logsigmoid(0.5 * (log_ratios[0::2] - log_ratios[1::2]))
    (-beta_prime * torch.log(torch.mean(torch.exp(-losses / beta_prime)))).backward()
    _, gradient, _ = our_loss(build("algorithms", "dr_dpo", beta=0.5, beta_prime=beta_prime), sampled_logps=logps)
    assert torch.allclose(gradient, leaf.grad, atol=1e-6)
    plain = our_loss(build("algorithms", "dpo", beta=0.5))[1]
    assert not torch.allclose(gradient, plain, atol=1e-3)
    large_beta_prime = our_loss(build("algorithms", "dr_dpo", beta=0.5, beta_prime=1e6), sampled_logps=logps)[1]
    assert torch.allclose(large_beta_prime, plain, atol=1e-5)


def test_the_weights_of_dr_dpo_do_not_underflow():
    """Losses log 2 and log(1 + e^.1) at beta' = .001: exp(-693) is 0 in float32, and the ratio of weights is e^51.2."""
    algorithm, rewards = build("algorithms", "dr_dpo", beta_prime=1e-3), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    zeros = torch.zeros(4, 1)
    step = toy.make_step(rewards, torch.ones(4, 1), sampled_logps=zeros, ref_logps=zeros)
    assert algorithm.credit(step).pair_weights.tolist() == [[0, 1], [0, 0], [0, 1], [0, 0]]
    step.batch.ref_logps = torch.tensor([[1.0], [0.0], [0.0], [0.0]])  # the first margin is -1, its loss log(1 + e^.1)
    assert algorithm.credit(step).pair_weights.tolist() == [[0, pytest.approx(0)], [0, 0], [0, 2], [0, 0]]
    flat = toy.make_step(torch.zeros(2, 2), torch.ones(4, 1))
    assert not algorithm.credit(flat).pair_weights.any()


def test_kto_equals_hand_computed_values():
    logps, ref = torch.tensor([[0.0], [0.0], [0.0]]), torch.tensor([[-2.0], [1.0], [0.0]])
    sampled = torch.tensor([[0.0], [0.0], [0.4]])  # log-ratios 2, -1 and 0.4: z0 is their mean
    algorithm = build("algorithms", "kto", beta=0.5, undesirable_weight=3.0)
    rewards, mask = torch.tensor([[1.0, 0.0, 0.5]]), torch.ones(3, 1)
    batch = toy.make_batch(algorithm, rewards, mask, ref_logps=ref, sampled_logps=sampled)
    z0 = (2 - 1 + 0.4) / 3
    losses, log = algorithm.loss(logps, batch)
    good, bad = 1 - torch.sigmoid(torch.tensor([0.5 * (2 - z0), 0.5 * (z0 + 1)]))
    assert losses[:, 0].tolist() == pytest.approx([good.item(), 3 * bad.item(), 0.0])
    assert log["kl"][0, 0].item() == pytest.approx(z0) and (batch.weights[:, 0] == 1 / 3).all()
    negative_kl = toy.make_batch(algorithm, rewards, mask, ref_logps=-ref, sampled_logps=logps)
    assert (negative_kl.targets == 0).all()


@pytest.mark.parametrize(
    ("policy", "published"),
    [
        ([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]], 0.1 * math.log(0.7 / 0.25) + 0.9 * math.log(0.1 / 0.25)),
        ([[0.7, 0.1, 0.1, 0.1]] * 2, 0.7 * math.log(0.7 / 0.25) + 0.3 * math.log(0.1 / 0.25)),
    ],
    ids=["different policies", "equal policies"],
)
def test_kto_estimates_the_kl_on_its_own_completions_and_the_paper_on_mismatched_pairs(policy, published):
    """Two prompts, each with ten one-word completions in the proportions of the policy; the reference is uniform.

    The step's own completions give KL(pi || pi_ref) = 0.446. Mismatched pairs (x_i, y_j) give that minus
    KL(pi_j || pi_i), because prompts have the same reference: -0.722, so 0, with different policies, and the same with
    equal policies. The sign of the gradient is the same for both estimates.
    """
    probs, ref = torch.tensor(policy), torch.full((20, 1), 0.25).log()
    words = torch.stack([torch.arange(4).repeat_interleave((10 * row).round().long()) for row in probs])
    own, mismatched = (probs.gather(1, w).log().view(20, 1) for w in (words, words.flip(0)))
    algorithm, rewards = build("algorithms", "kto", beta=0.5), (words == 0).double()
    batch = toy.make_batch(algorithm, rewards, torch.ones(20, 1), sampled_logps=own, ref_logps=ref)
    divergence = (probs * (probs / 0.25).log()).sum(-1).mean().item()
    assert (mismatched - ref).mean().item() == pytest.approx(published, abs=1e-6)
    assert batch.targets[0, 0].item() == pytest.approx(divergence, abs=1e-6)
    assert divergence == pytest.approx(0.446, abs=1e-3)

    def gradient(z0):
        leaf = own.clone().requires_grad_()
        return torch.autograd.grad(algorithm.loss(leaf, replace(batch, targets=z0))[0].sum(), leaf)[0]

    ours, theirs = gradient(batch.targets), gradient(torch.full((20, 1), max(published, 0.0)))
    assert torch.equal(ours.sign(), theirs.sign()) and ours.any()
    assert torch.allclose(ours, theirs) == (published > 0)


def test_kto_with_a_threshold_learns_from_a_flat_group():
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert build("algorithms", "kto", threshold=0.5).advantages(rewards).tolist() == [[1, 1], [-1, -1]]
    assert build("algorithms", "kto").advantages(rewards).tolist() == [[0, 0], [0, 0]]


def test_settings_without_a_meaning_are_refused():
    with pytest.raises(UserError, match="beta is the temperature of the preference and must be above 0, not 0"):
        build("algorithms", "kto", beta=0.0)
    with pytest.raises(UserError, match="kl cannot be 'k2'"):
        build("algorithms", "dpo", kl="k2")
    with pytest.raises(UserError, match='pairs must be "best_worst" or "all"'):
        build("algorithms", "ipo", pairs="some")
    with pytest.raises(UserError, match=r"below 0\.5, not 0\.5"):
        build("algorithms", "rdpo", label_smoothing=0.5)
    for name in ("cdpo", "rdpo"):
        for rate in ("false_positives", "false_negatives"):
            with pytest.raises(UserError, match="at 0 no pair is flipped: set both"):
                build("algorithms", name, **{rate: 0.3})
        assert build("algorithms", name).epsilon == 0.1
    with pytest.raises(UserError, match="leave preferences out"):
        build("algorithms", "dr_dpo", preferences="pairs.jsonl")
