"""Credit of completions that were sampled under altered views: hand-computed values, and what flat groups get."""

import math

import pytest
import torch

from rlvid.errors import UserError
from rlvid.registry import build
from tests.helpers import toy

pytestmark = pytest.mark.fast
EXTENTS = torch.tensor([[0.0, 0.3, 0.6, 0.9]]).double()


def batch_of(algorithm, rewards, length=2, **fields):
    """The credited batch of one group; half of its completions, or more, are off-policy as `algorithm` samples them."""
    rewards = torch.tensor([rewards]).double()
    (views,) = toy.views_of(algorithm, rewards.shape)
    mask = torch.ones(rewards.numel(), length)
    step = toy.make_step(rewards, mask, algorithm.needs, views=[views], **fields)
    if algorithm.loss_pixels == "clean":
        step.batch.off_view = mask * torch.tensor([[view != ""] for view in views]).float()
    return algorithm.credit(step)


def test_the_noise_of_noisy_rollout_is_that_of_the_paper():
    """Geometry3K: 500 (1 - sigmoid(30 (t - 40) / 60)); K12: 450, 60, 40 of 120."""
    geometry, k12 = build("algorithms", "noisy_rollout"), build(
        "algorithms", "noisy_rollout", extent=0.45, steepness=60.0, midpoint=1 / 3
    )  # fmt: skip
    for algorithm, last, levels in (
        (geometry, 60, {1: 499, 30: 496, 35: 462, 40: 250, 45: 37, 50: 3, 60: 0}),
        (k12, 120, {1: 449, 30: 446, 40: 225, 50: 3, 120: 0}),
    ):
        for number, level in levels.items():
            assert algorithm.sampling_views(number, last, 12) == {"": 6, f"noise:{level}": 6}
    switch = build("algorithms", "noisy_rollout", steepness=1e4)
    assert [[*switch.sampling_views(t, 60, 4)][1] for t in (1, 30, 50, 60)] == ["noise:500"] * 2 + ["noise:0"] * 2
    fifth = build("algorithms", "noisy_rollout", noisy_share=0.2, view="patches", midpoint=0.5)
    assert fifth.sampling_views(50, 100, 8) == {"": 7, "patches:0.25": 1}


def test_noisy_rollout_has_one_baseline_for_clean_and_noisy_completions():
    """Rewards 1, 1 clean and 0, 0 noisy: each half alone would be flat."""
    batch = batch_of(build("algorithms", "noisy_rollout"), [1.0, 1.0, 0.0, 0.0])
    z = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    assert batch.advantages[:, 0].tolist() == pytest.approx([z, z, -z, -z])


def test_noisy_grpo_mixes_rewards_and_noise_levels_as_computed_by_hand():
    """R = [1, 0, 0, 0]: P = .01 / .26, K = P / (P + .1) = .2778, mix [1.406, -.253, -.469, -.684], and z of it."""
    noisy = build("algorithms", "noisy_grpo")
    credit = noisy.mix(torch.tensor([[1.0, 0, 0, 0]]).double(), EXTENTS)
    assert credit[0].tolist() == pytest.approx([1.474, -0.266, -0.491, -0.717], abs=1e-3)
    batch = batch_of(noisy, [1.0, 0.0, 0.0, 0.0])
    assert torch.allclose(batch.advantages[:, 0].double(), credit[0], atol=1e-6)
    by_hand = torch.tensor([1.406, -0.253, -0.469, -0.684])
    assert credit[0].tolist() == pytest.approx(((by_hand - by_hand.mean()) / by_hand.std()).tolist(), abs=2e-3)


def test_noisy_grpo_pays_flat_groups_by_noise_alone_unless_told_not_to():
    right, wrong = [1.0] * 4, [0.0] * 4
    for rewards in (right, wrong):
        credit = batch_of(build("algorithms", "noisy_grpo"), rewards).advantages[:, 0]
        assert credit.tolist() == pytest.approx([1.162, 0.387, -0.387, -1.162], abs=1e-3), "a right answer is punished"
        mended = build("algorithms", "noisy_grpo", credit_flat_groups=False)
        assert not batch_of(mended, rewards).advantages.any()
    mixed = [1.0, 0.0, 0.0, 0.0]
    assert batch_of(mended, mixed).advantages.equal(batch_of(build("algorithms", "noisy_grpo"), mixed).advantages)


def test_strive_pays_an_easy_variant_unless_each_is_normalized_apart():
    """Rewards [[1, 1], [0, 0]] of two variants: joint +-.866, apart 0; [[1, 0], [1, 0]] is the same either way."""
    for normalize, easy in (("joint", 0.866), ("variant", 0.0)):
        strive = build("algorithms", "strive", variants=["", "crop:0.8"], normalize=normalize)
        assert strive.sampling_views(1, 9, 4) == {"": 2, "crop:0.8": 2} and strive.loss_pixels == "sampled"
        credit = batch_of(strive, [1.0, 1.0, 0.0, 0.0]).advantages[:, 0]
        assert credit.tolist() == pytest.approx([easy, easy, -easy, -easy], abs=1e-3)
        better = batch_of(strive, [1.0, 0.0, 1.0, 0.0]).advantages[:, 0]
        assert (better > 0).tolist() == [True, False, True, False]


def test_strive_divides_by_the_standard_deviation_of_the_whole_batch():
    """Both variants have the deviations +-.5; the standard deviation of the first one's rewards alone is .5."""
    strive = build("algorithms", "strive", variants=["", "crop:0.8"], normalize="variant", scale_rewards="batch")
    rewards = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]).double()
    deviations = torch.tensor([[0.5, -0.5, 0.5, -0.5], [0.0, 0.0, 0.0, 0.0]]).double()
    assert torch.allclose(strive.advantages(rewards), deviations / (rewards.std() + 1e-4))


def test_noisy_grpo_deals_completions_to_extents():
    noisy = build("algorithms", "noisy_grpo")
    assert noisy.sampling_views(1, 9, 4) == {"": 1, "noise:300": 1, "noise:600": 1, "noise:900": 1}
    assert list(noisy.sampling_views(1, 9, 6).values()) == [2, 2, 1, 1]
    black = build("algorithms", "noisy_grpo", view="patches", extents=[0.5, 0.25])
    assert black.sampling_views(1, 9, 4) == {"patches:0.5": 2, "patches:0.25": 2}


@pytest.mark.parametrize(
    ("mode", "cap", "weights"),
    [
        ("none", 2.0, [[1, 1], [1, 1]]),
        ("token_truncate", 2.0, [[0.5, 2.0], [2.0, 0.25]]),
        ("token_truncate", 5.0, [[0.5, 4.0], [2.0, 0.25]]),
        ("token_truncate", 0.8, [[0.5, 0.8], [0.8, 0.25]]),  # a cap below 1 leaves completions under the clip alone
        ("sequence_truncate", 2.0, [[2.0, 2.0], [0.5, 0.5]]),
        ("sequence_truncate", 1.5, [[1.5, 1.5], [0.5, 0.5]]),
    ],
)
def test_importance_weights_multiply_the_credit_of_noisy_completions_only(mode, cap, weights):
    """pi(clip) / pi(noise) is (.5, 4) at the tokens of the first noisy completion and (2, .25) at the second's."""
    ratios = torch.tensor([[3.0, 3.0], [3.0, 3.0], [0.5, 4.0], [2.0, 0.25]])
    settings = {"importance_sampling_mode": mode, "importance_sampling_cap": cap}
    noisy = build("algorithms", "noisy_rollout", **settings)
    assert ("old_logps" in noisy.needs) == (mode != "none")
    sampled_logps = torch.full((4, 2), -2.0)
    fields = {"sampled_logps": sampled_logps}
    if mode != "none":
        fields["old_logps"] = sampled_logps + ratios.log()
    rewards = [1.0, 0.0, 1.0, 0.0]
    plain = batch_of(build("algorithms", "noisy_rollout"), rewards).advantages
    batch = batch_of(noisy, rewards, **fields)
    assert torch.allclose(batch.advantages, plain * torch.tensor([[1.0, 1], [1, 1], *map(list, weights)]))
    metrics = noisy.extra_metrics(batch)
    values = torch.tensor(weights, dtype=torch.float32)
    expected = {"min": values.min(), "mean": values.mean(), "max": values.max()} if mode != "none" else {}
    assert metrics == {f"sampling/importance_sampling_ratio/{key}": pytest.approx(v) for key, v in expected.items()}


def test_corrected_noisy_completions_estimate_what_clean_ones_do():
    """Over a vocabulary of three: E under the noise of w A grad log pi is E under the clip of A grad log pi."""
    logits = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    noise = torch.tensor([0.1, 0.6, 0.3])
    policy, advantages = logits.log_softmax(0), torch.tensor([1.0, -0.5, 0.2])
    exact = torch.autograd.grad((policy.exp().detach() * advantages * policy).sum(), logits, retain_graph=True)[0]
    corrected = build("algorithms", "noisy_rollout", importance_sampling_mode="token_truncate",
                      importance_sampling_cap=100.0)  # fmt: skip
    batch = batch_of(corrected, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1)  # rows 3 to 5 are the three words under noise
    batch.old_logps, batch.sampled_logps = (torch.zeros(6, 1) for _ in range(2))
    batch.old_logps[3:, 0], batch.sampled_logps[3:, 0] = policy.detach(), noise.log()
    weights = corrected.importance_weights(batch)[3:, 0]
    found = torch.autograd.grad((noise * weights * advantages * policy).sum(), logits)[0]
    assert torch.allclose(found, exact, atol=1e-6)


def test_a_kl_in_the_reward_is_refused_where_completions_saw_another_clip_than_the_reference():
    """Also of an algorithm from outside, whose `sampling_views` are known from its steps only."""
    step = toy.make_step(torch.tensor([[1.0, 0.0]]), torch.ones(2, 1), views=[["", "noise:300"]])
    step.batch.off_view = torch.tensor([[0.0], [1.0]])
    with pytest.raises(ValueError, match="take another kl"):
        build("algorithms", "grpo", kl="k1_reward", beta=0.1).credit(step)
    assert build("algorithms", "strive", kl="k1_reward", beta=0.1).loss_pixels == "sampled"
    assert build("algorithms", "noisy_rollout", kl="k1_reward").beta == 0


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("noisy_rollout", {"loss_pixels": "noisy"}, 'loss_pixels must be "clean" or "sampled"'),
        (
            "noisy_rollout",
            {"importance_sampling_mode": "token"},
            "importance_sampling_mode must be one of none, token_",
        ),
        ("noisy_rollout", {"importance_sampling_cap": 0.0}, "importance_sampling_cap must be above 0"),
        (
            "noisy_rollout",
            {"loss_pixels": "sampled", "importance_sampling_mode": "token_truncate"},
            "has nothing to correct",
        ),
        ("noisy_rollout", {"noisy_share": 1.5}, r"noisy_share must be in \[0, 1\]"),
        ("noisy_rollout", {"extent": 1.0}, r"extent must be in \(0, 1\)"),
        ("strive", {"variants": ["", ""]}, "two or more different views"),
        ("strive", {"normalize": "both"}, 'normalize must be "joint" or "variant"'),
        ("noisy_grpo", {"extents": [0.3]}, "two or more different ones"),
        ("noisy_grpo", {"extents": [0.3, 0.3]}, "two or more different ones"),
        ("noisy_grpo", {"extents": [0.3, 0.3004]}, "extents must be different views, not .*: noise:300"),
        ("noisy_grpo", {"kl": "k1_reward"}, "under a view with the reference's under the clip: set kl"),
        ("noisy_rollout", {"kl": "k1_reward", "beta": 0.1}, "under a view with the reference's under the clip: set kl"),
        ("noisy_grpo", {"extents": [0.0, 1.0]}, r"extents must be in \[0, 1\)"),
        ("noisy_grpo", {"alpha": 0.0}, "alpha and noise_variance must be above 0"),
        ("noisy_grpo", {"view": "crop"}, 'view must be "noise" or "patches", whose strength is what is lost'),
        ("noisy_rollout", {"view": "crop"}, 'view must be "noise" or "patches", whose strength is what is lost'),
        ("noisy_grpo", {"scale_rewards": "none"}, 'scale_rewards must be "group"'),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(name, fields, message):
    with pytest.raises(UserError, match=message):
        build("algorithms", name, **fields)
