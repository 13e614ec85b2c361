"""Contracts that every algorithm in the folder keeps, and hand-computed values of some of them."""

import math
from dataclasses import replace

import pytest
import torch

from algorithms._robust import NoiseChannel
from algorithms.grpo import GRPO
from rlvid.algorithm import KL, Algorithm
from rlvid.errors import UserError
from rlvid.registry import available, build
from rlvid.types import Batch
from tests.helpers import toy

pytestmark = pytest.mark.fast
ALL = available("algorithms")
OPTIONS = {
    "soft_label": {"options": 5},  # the toy quiz has five words
    "pass_at_k": {"k": 2},  # groups with more than G - k successes have no credit
}
WITHOUT_LABELS = "ttrl"  # reads no label: a wrong majority may win
EXCEPTIONS = {  # (contract, algorithm that does not keep it): why
    ("flat", "sft"): "every demonstration is imitated",
    ("flat", "reinforce"): "the baseline is the mean of the step, not of the group",
    ("flat", "forward"): "its weights take the place of a baseline",
    ("flat", "ppo"): "the critic takes the place of a baseline",
    ("flat", "noisy_grpo"): "as published, noise levels decide where rewards do not; an option mends it",
    ("shift", "max_rl"): "it divides by the group's mean",
    ("flat loss", "sft"): "every demonstration is imitated",
    ("flat loss", "reinforce"): "the baseline is the mean of the step, not of the group",
    ("flat loss", "forward"): "its weights take the place of a baseline",
    ("flat loss", "ppo"): "the critic takes the place of a baseline",
    ("flat loss", "noisy_grpo"): "as published, noise levels decide where rewards do not; an option mends it",
    ("flat loss", "noisy_rollout"): "its entropy bonus acts everywhere",
    ("flat loss", "papo"): "it pays for tokens that depend on the pixels, whatever the reward",
    ("flat loss", "two_stage_entropy"): "it changes the entropy everywhere",
}
RAGGED_MASK = (torch.arange(6) < torch.tensor([6, 2, 4, 1, 3, 5, 6, 2])[:, None]).float()  # 2 groups of 4 rows


def credit_of(name, order=None, shift=0.0, flat=False):
    """Return (4, 6, 6) the credit of six completions of four prompts: advantages at five tokens, and pair weight.

    Completions are given in `order`, (4, 6). Groups 0 and 1 are mixed; in group 2 all are right and in group 3 all are
    wrong, with equal second rewards. With `flat` all groups are like these two. Verdicts have been counted and a label
    refined, so that every correction has an effect. `shift` is added to the second reward and to the critic's values.
    """
    algorithm, generator = build("algorithms", name), torch.Generator().manual_seed(0)
    algorithm = replace(algorithm, estimate=True) if isinstance(algorithm, NoiseChannel) else algorithm
    answers = ["AAAAAA", "CCCCCC"] if flat else ["AABCAD", "CDBBAC"]
    letters, labels = [list(row) for row in [*answers, "BBBBBB", "DDDDDD"]], list("ABBA")
    right = torch.tensor([[float(c == label) for c in row] for row, label in zip(letters, labels, strict=True)])
    judged = torch.rand(4, 6, generator=generator)
    judged[0 if flat else 2 :] = 0.3
    mask = (torch.arange(5) < torch.randint(1, 6, (24, 1), generator=generator)).float()
    tensors = {name: torch.rand(24, 5, generator=generator) for name in ("sampled_logps", "ref_logps", "old_values")}
    order = torch.arange(6).expand(4, 6) if order is None else order
    rows = (order + 6 * torch.arange(4)[:, None]).flatten()
    tensors["old_values"] += shift
    seen = toy.token_tensors(algorithm.needs, lambda: -torch.rand(24, 5, generator=generator))
    views = toy.views_of(algorithm, (4, 6))
    step = toy.make_step(
        right.double().gather(1, order), mask[rows], algorithm.needs, labels=labels,
        reward_weights={"accuracy": 1.0, "judge": 0.5},
        answers=[[row[i] for i in indices] for row, indices in zip(letters, order.tolist(), strict=True)],
        views=[[row[i] for i in indices] for row, indices in zip(views, order.tolist(), strict=bool(views))],
        memory={
            "verdict_counts": {"A": {"10,8": 20, "10,1": 20}, "B": {"10,9": 20, "10,2": 20}}, "refined": {"q0": "B"}
        },
        **{name: tensor[rows] for name, tensor in (tensors | seen).items() if not isinstance(tensor, dict)},
        **{name: {key: tensor[rows] for key, tensor in seen[name].items()} for name in ("view_logps", "tag_masks")},
    )  # fmt: skip
    step.columns["judge"] = judged.double().gather(1, order) + 2 * shift
    algorithm.observe(step)
    batch = algorithm.credit(step)
    pair_weight = torch.zeros(24) if batch.pair_weights is None else batch.pair_weights.sum(-1)
    return torch.cat([batch.advantages, pair_weight[:, None]], -1).view(4, 6, 6)


@pytest.mark.parametrize("name", [name for name in ALL if name != WITHOUT_LABELS])
def test_it_learns_the_toy_quiz(name):
    policy = toy.ToyPolicy()
    assert policy.accuracy() == pytest.approx(0.2)
    assert toy.train_toy(policy, build("algorithms", name, **OPTIONS.get(name, {}))) > 0.9


@pytest.mark.parametrize("name", ALL)
def test_a_flat_group_gets_no_credit(name):
    credit = credit_of(name)
    assert credit.isfinite().all() and credit[:2].abs().sum() > 0
    assert (credit[2:].abs().max() < 1e-6) == (("flat", name) not in EXCEPTIONS)
    assert credit_of(name, flat=True).isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_a_flat_group_has_no_gradient_but_that_of_the_kl(name):
    """The credit of a flat group may be 0 and its loss not. With pairs, `beta` is no KL, and is left as it is."""
    algorithm = build("algorithms", name)
    algorithm = replace(algorithm, beta=0.0) if isinstance(algorithm, GRPO) else algorithm
    logps, mask = (-torch.rand(8, 3)).requires_grad_(), torch.ones(8, 3)
    batch = toy.make_batch(algorithm, torch.tensor([[0.0] * 4, [1.0] * 4], dtype=torch.float64), mask)
    batch = batch.with_outputs(3, entropy=-logps.exp() * logps, values=torch.rand(8, 3))
    losses, _ = algorithm.loss(logps, batch)
    gradient = torch.autograd.grad((losses * batch.weights).sum(), logps, allow_unused=True)[0]
    assert (gradient is None or not gradient.any()) == (("flat loss", name) not in EXCEPTIONS)


@pytest.mark.parametrize("name", ALL)
def test_credit_follows_a_permutation_of_the_completions(name):
    order = torch.stack([torch.randperm(6) for _ in range(4)])
    expected = credit_of(name).gather(1, order[..., None].expand(-1, -1, 6))
    assert torch.allclose(credit_of(name, order), expected, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_credit_ignores_a_constant_shift_of_rewards(name):
    """The second reward is shifted, because verdicts must be 0 or 1; the critic's values include the shift."""
    same = torch.allclose(credit_of(name, shift=3.0), credit_of(name), atol=1e-5)
    assert same == (("shift", name) not in EXCEPTIONS)


@pytest.mark.parametrize("name", ["gspo", "cispo", "sapo"])
def test_on_policy_the_gradient_has_the_direction_of_grpo(name):
    """With equal lengths, these three differ from GRPO only in the use of the ratio, which is 1 before any update.

    All others have another credit or another loss, or are GRPO with other defaults.
    """
    rewards, logps = torch.rand(2, 4, dtype=torch.float64), -torch.rand(8, 6)
    mask = torch.ones(8, 6)

    def gradient(name):
        algorithm, leaf = build("algorithms", name, beta=0.0), logps.clone().requires_grad_()
        batch = toy.make_batch(algorithm, rewards, mask)
        (algorithm.loss(leaf, batch)[0] * batch.weights).sum().backward()
        return leaf.grad.flatten()

    assert torch.cosine_similarity(gradient(name), gradient("grpo"), dim=0).item() == pytest.approx(1, abs=1e-5)


def test_the_credit_of_rloo_is_that_of_dr_grpo_scaled():
    rewards = torch.rand(3, 8, dtype=torch.float64)
    credit = [build("algorithms", name).advantages(rewards) for name in ("rloo", "dr_grpo")]
    assert torch.allclose(credit[0], credit[1] * 8 / 7)
    assert credit[0][0, 0].item() == pytest.approx((rewards[0, 0] - rewards[0, 1:].mean()).item())


def test_max_rl_equals_hand_computed_values():
    credit = build("algorithms", "max_rl").advantages(torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]))
    assert credit.tolist() == [[3, -1, -1, -1], [0, 0, 0, 0], [0, 0, 0, 0]]
    cancelled = torch.tensor([[0.1 + 0.2, -0.3, 0, 0]], dtype=torch.float64)  # mean 1e-17, by rounding
    assert not build("algorithms", "max_rl").advantages(cancelled).any()


def test_reinforce_pp_has_one_standard_deviation_for_all_groups():
    rewards = torch.tensor([[1.0, 0.0], [0.1, 0.0]])
    credit = build("algorithms", "reinforce_pp").advantages(rewards)
    assert (credit[0, 0] / credit[1, 0]).item() == pytest.approx(10) and credit.std().item() == pytest.approx(1)
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    by_length = toy.make_batch(build("algorithms", "reinforce_pp"), rewards.double(), mask).advantages[:, 0]
    assert torch.allclose(by_length, credit.flatten()), "over completions, whatever their lengths"


def test_an_unknown_word_in_the_settings_is_refused():
    with pytest.raises(UserError, match="scale_rewards must be"):
        build("algorithms", "grpo", scale_rewards="bath")
    with pytest.raises(UserError, match="kl must be one of k2, k3, k3_is"):
        build("algorithms", "sft", kl="k4")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("grpo", {"epsilon": 0.0}, "epsilon must be above 0, not 0.0"),
        ("grpo", {"epsilon_high": -0.1}, "epsilon_high must be 0 or more, not -0.1"),
        ("dapo", {"delta": 0.0}, "delta must be above 0, not 0.0"),
        ("dr_grpo", {"horizon": 0}, "horizon must be 1 or more, not 0"),
        ("sapo", {"temperature_neg": 0.0}, r"temperatures must be above 0, not 1.0 \(pos\) and 0.0 \(neg\)"),
        ("dpo", {"rpo_alpha": -1.0}, "rpo_alpha must be 0 or more"),
        ("kto", {"undesirable_weight": -1.0}, "undesirable_weight must be 0 or more, not 1.0 and -1.0"),
        ("soft_label", {"tau": -1.0}, "tau must be 0 or more, not -1.0"),
        ("ppo", {"epsilon": 0.0}, "epsilon must be above 0, cliprange_value and vf_coef 0 or more, not 0.0, 0.2 and"),
        ("ppo", {"vf_coef": -0.1}, "vf_coef 0 or more, not 0.2, 0.2 and -0.1"),
        ("olr", {"share": 1.5}, r"share must be in \(0, 1\], not 1.5"),
        ("cispo", {"ratio_cap": 0.0}, "ratio_cap must be above 0"),
        ("trust_grpo", {"horizon": 0.0}, "horizon must be above 0"),
        ("ppo", {"lam": 1.5}, r"gamma and lam must be in \[0, 1\]"),
        ("ppo", {"dual_clip": 1.0}, "dual_clip must be above 1"),
        ("ppo", {"critic_warmup_steps": 3, "entropy_coef": 0.1}, "only the critic learns: no entropy_coef"),
        ("ppo", {"critic_warmup_steps": 3, "critic": "shared"}, "only the critic learns"),
    ],
)
def test_a_number_outside_its_range_is_refused(name, fields, message):
    with pytest.raises(UserError, match=message):
        build("algorithms", name, **fields)


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_does_not_depend_on_the_split_into_micro_batches(name):
    algorithm = build("algorithms", name)
    rewards = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 1]], dtype=torch.float64)
    logps = -torch.rand(8, 6)
    batch = toy.make_batch(algorithm, rewards, RAGGED_MASK)
    batch.ref_logps, batch.old_logps = logps - 0.1, logps + 0.05
    batch = batch.with_outputs(6, entropy=torch.rand(8, 6), values=torch.rand(8, 6))

    def gradient(parts):
        leaf = logps.clone().requires_grad_()
        for chosen in parts:
            rows = slice(chosen[0] * 4, chosen[-1] * 4 + 4)
            part = batch.select_groups(chosen, 2)
            losses, _ = algorithm.loss(leaf[rows], part)
            (losses * part.weights).sum().backward()
        return leaf.grad

    assert torch.allclose(gradient([[0, 1]]), gradient([[0], [1]]), atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_padding_has_weight_0(name):
    weights = build("algorithms", name).weights(RAGGED_MASK)
    assert (weights[RAGGED_MASK == 0] == 0).all() and (weights[RAGGED_MASK == 1] > 0).all()


def test_grpo_equals_hand_computed_values():
    grpo = build("algorithms", "grpo", beta=0.0, epsilon=0.2)
    credit = grpo.advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    assert credit[0, 0].item() == pytest.approx(0.5 / (math.sqrt(1 / 3) + 1e-4))  # Bessel's standard deviation
    old = torch.zeros(2, 2)
    logps = torch.log(torch.tensor([[1.5, 1.1], [0.5, 0.9]]))
    batch = Batch(torch.ones(2, 2), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.ones(2, 2), old_logps=old)
    surrogate, log = grpo.surrogate(logps, batch)
    assert torch.allclose(surrogate, torch.tensor([[1.2, 1.1], [-0.8, -0.9]]))
    assert log["clip_ratio/region_mean"].tolist() == [[1, 0], [1, 0]]


def test_grpo_weighs_completions_equally_and_then_their_tokens():
    weights = build("algorithms", "grpo").weights(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert weights.tolist() == [[0.25, 0.25, 0.0], [0.5, 0.0, 0.0]]


def test_sft_is_the_negative_log_likelihood_per_token():
    sft, logps = build("algorithms", "sft"), -torch.rand(8, 6)
    batch = toy.make_batch(sft, torch.rand(8, 1), RAGGED_MASK)
    losses, _ = sft.loss(logps, batch)
    assert (losses * batch.weights).sum().item() == pytest.approx(-logps[RAGGED_MASK == 1].mean().item())


def test_kl_estimators_in_expectation():
    """Over a whole vocabulary, k3 has the value of the KL; k2 and k3_is have its gradient (on-policy), k3 has not."""
    logits, reference = torch.randn(5, requires_grad=True), torch.randn(5).log_softmax(0)
    policy = logits.log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    (expected,) = torch.autograd.grad(exact, logits, retain_graph=True)
    batch = Batch(*torch.ones(3, 5), old_logps=policy.detach(), ref_logps=reference)
    probs, gradients = policy.detach().exp(), {}
    for name, estimate in KL.items():
        value = (probs * estimate(policy, batch)).sum()
        gradients[name] = torch.autograd.grad(value, logits, retain_graph=True)[0]
        if name != "k2":
            assert value.item() == pytest.approx(exact.item(), abs=1e-6)
    assert torch.allclose(gradients["k2"], expected, atol=1e-6)
    assert torch.allclose(gradients["k3_is"], expected, atol=1e-6)
    assert not torch.allclose(gradients["k3"], expected, atol=1e-3)


def test_k3_has_a_gradient_however_far_the_policy_is_from_the_reference():
    """d = reference - policy log-prob; the gradient of exp(d) - d - 1 with respect to the policy's is 1 - exp(d)."""
    d = torch.tensor([[-90.0, -25.0, -19.0, 0.0, 3.0, 19.0, 25.0, 90.0]])
    logps = torch.zeros_like(d).requires_grad_()
    value = KL["k3"](logps, Batch(*torch.ones(3, 1, 8), ref_logps=d))
    (gradient,) = torch.autograd.grad(value.sum(), logps)
    assert torch.equal(value[0, 1:6], (d.exp() - d - 1)[0, 1:6]) and value.isfinite().all()
    assert torch.allclose(gradient, 1 - d.clamp(max=20).exp())
    inside, old = torch.linspace(-20, 20, 1001), torch.linspace(-20, 20, 1001).clamp(-20, 20)
    assert torch.equal(KL["k3"](torch.zeros(1001), Batch(*torch.ones(3, 1001), ref_logps=inside)), old.exp() - old - 1)


def test_the_ratio_of_a_long_completion_does_not_overflow():
    """300 tokens, each .3 nats likelier than before: e^90 is infinite in float32. A clipped one has no gradient."""
    rloo, mask = build("algorithms", "rloo"), torch.ones(4, 300)
    logps = torch.full((4, 300), -1.0)
    logps[:3] += 0.3
    logps.requires_grad_()
    advantages = torch.tensor([[1.0], [0.0], [-1.0], [0.5]]) * mask
    batch = Batch(mask, advantages, rloo.weights(mask), old_logps=torch.full((4, 300), -1.0))
    loss = (rloo.loss(logps, batch)[0] * batch.weights).sum()
    (gradient,) = torch.autograd.grad(loss, logps)
    assert loss.isfinite() and gradient.isfinite().all()
    assert not gradient[:2].any() and (gradient[2] > 0).all() and torch.allclose(gradient[3], torch.tensor(-0.125))


def test_k1_is_subtracted_from_the_reward():
    """As in TRL's RLOOTrainer: R - beta sum_t (log pi_sampled - log pi_ref), before the baseline."""
    rloo, rewards = build("algorithms", "rloo", beta=0.5), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    log_ratios = torch.tensor([[0.2, 0.4, 9.0], [0.1, 0.0, -0.3]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    batch = rloo.credit(toy.make_step(rewards, mask, sampled_logps=log_ratios))
    totals = [1 - 0.5 * 0.6, 0 - 0.5 * -0.2]
    assert batch.advantages[0, 0].item() == pytest.approx(totals[0] - totals[1])
    assert batch.advantages[1, 2].item() == pytest.approx(totals[1] - totals[0]) and batch.advantages[0, 2] == 0
    loss, log = rloo.loss(torch.zeros(2, 3, requires_grad=True), batch)
    assert torch.allclose(log["kl"], log_ratios * mask) and not log["kl"].requires_grad
    assert torch.equal(loss, -batch.advantages)  # the loss has no KL term


def test_k1_is_subtracted_from_the_sum_of_z_scores():
    """GDPO with a KL in the reward: without the KL, the flat group of the second prompt has no credit."""
    settings = {"multi_objective_aggregation": "normalize_then_sum", "kl": "k1_reward"}
    rewards, log_ratios = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0], [0.0], [2.0], [0.0]])
    step = toy.make_step(rewards.double(), torch.ones(4, 1), sampled_logps=log_ratios)
    z = 0.5 / (math.sqrt(0.5) + 1e-4)  # of 1 and 0, 0.707 off their mean; penalties 0.5 * (2, 0), 0.5 off their mean
    std = math.sqrt((2 * z**2 + 2 * 0.5**2) / 3) + 1e-4
    for name in ("gspo", "grpo"):
        pulled = build("algorithms", name, beta=0.5, **settings)
        credit = pulled.credit(step).advantages.flatten()
        assert credit.tolist() == pytest.approx([z / std, -z / std, -0.5 / std, 0.5 / std])
        without = replace(pulled, beta=0.0).credit(step).advantages.flatten()
        assert without.tolist() == pytest.approx([math.sqrt(1.5), -math.sqrt(1.5), 0, 0], rel=1e-3)
        in_the_loss = replace(pulled, kl="k3").credit(step).advantages.flatten()
        assert torch.equal(in_the_loss, without), "a KL in the loss leaves the credit alone"


def test_the_entropy_bonus_raises_entropy():
    plain, with_bonus = toy.ToyPolicy(), toy.ToyPolicy()
    accuracy = toy.train_toy(plain, build("algorithms", "grpo", beta=0.0))
    assert toy.train_toy(with_bonus, build("algorithms", "grpo", beta=0.0, entropy_coef=0.5)) < accuracy
    assert with_bonus.entropy(1).mean() > plain.entropy(1).mean() + 0.5


def test_the_base_class_is_reinforce_with_a_mean_baseline():
    credit = Algorithm().advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert credit.tolist() == [[0.75, -0.25, -0.25, -0.25]]
