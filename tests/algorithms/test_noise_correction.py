"""Algorithms that correct a verifier with known or estimated error rates: hand values, unbiasedness by enumeration."""

import math
from collections import Counter
from itertools import product

import pytest
import torch

from algorithms._robust import verdict_correlation
from algorithms._verdict_counts import estimate_rates
from rlvid.errors import UserError
from rlvid.registry import build
from tests.helpers.steps import RATES, J, advantages_of, answer_step, flip, success_groups, verdict_step

# --- S-GRPO


def test_the_weights_of_s_grpo_equal_the_published_ones():
    """The published table for groups of 8, and the released formula compared with the correlation that it is."""
    verdicts, p = success_groups(), torch.tensor(0.1, dtype=torch.float64)
    weights = verdict_correlation(verdicts, p, p)[:, 0]
    assert weights.tolist() == pytest.approx([0, 0.42, 0.72, 0.79, 0.80, 0.79, 0.72, 0.42, 0], abs=0.006)
    mean = verdicts.mean(-1)
    t = ((mean - p) / (1 - 2 * p)).clamp(0, 1)
    released = (1 - 2 * p) * t * (1 - t) / (((mean * (1 - mean)).sqrt() + 1e-8) * ((t * (1 - t)).sqrt() + 1e-8))
    assert torch.allclose(weights, released, atol=1e-6)
    assert verdict_correlation(verdicts, 2 * p, 2 * p)[[1, 7], 0].tolist() == [0, 0]
    kept = verdict_correlation(verdicts, p, 2 * p, least=1 / 8)[[1, 7], 0]  # clean means of .04 and 1.11: 1/8 and 7/8
    assert kept.tolist() == pytest.approx([0.7, 0.7])
    z = (verdicts - mean[:, None]) / (verdicts.std(-1, keepdim=True) + 1e-8)
    advantages = advantages_of("s_grpo", verdict_step(verdicts))
    assert torch.allclose(advantages, (weights[:, None] * z).float(), atol=1e-6)


def test_the_weight_is_the_correlation_of_clean_and_noisy_verdicts():
    right_share, (fp, fn) = 0.3, RATES.values()
    joint = {  # (clean, noisy): probability
        (1, 1): right_share * (1 - fn),
        (1, 0): right_share * fn,
        (0, 1): (1 - right_share) * fp,
        (0, 0): (1 - right_share) * (1 - fp),
    }
    accepted = sum(prob for (_, verdict), prob in joint.items() if verdict)
    covariance = joint[1, 1] - right_share * accepted
    correlation = covariance / math.sqrt(right_share * (1 - right_share) * accepted * (1 - accepted))
    group = torch.zeros(1, 100, dtype=torch.float64)
    group[:, : round(100 * accepted)] = 1
    assert verdict_correlation(group, torch.tensor(fp), torch.tensor(fn)).item() == pytest.approx(correlation, abs=1e-6)


def test_s_grpo_shrinks_only_the_outcome():
    outcome, form = success_groups()[[8, 4]], torch.tensor([[1.0, 0] * 4, [0, 1] * 4], dtype=torch.float64)
    step = verdict_step(outcome, reward_weights={"accuracy": 1.0, "format": 0.5})
    step.columns["format"] = form
    total = outcome + 0.5 * form
    flat, mixed = advantages_of("s_grpo", step)
    std = total.std(-1) + 1e-8
    assert torch.allclose(flat, (0.5 * (form[0] - 0.5) / std[0]).float())
    expected = (0.8 * (outcome[1] - 0.5) + 0.5 * (form[1] - 0.5)) / std[1]
    assert torch.allclose(mixed, expected.float(), atol=1e-6)
    without = advantages_of("s_grpo", step.without_reward("accuracy"))
    assert torch.equal(without[0], without[1].flip(0))


def test_s_grpo_subtracts_the_kl_from_the_reward_and_does_not_shrink_it():
    verdicts, log_ratios = success_groups()[[4]], torch.linspace(-1, 1, 8)[:, None]
    step = verdict_step(verdicts, sampled_logps=log_ratios, ref_logps=torch.zeros(8, 1))
    rewards = verdicts - 0.3 * log_ratios.T.double()
    expected = (rewards - rewards.mean() - 0.2 * (verdicts - 0.5)) / (rewards.std(-1) + 1e-8)
    assert torch.allclose(advantages_of("s_grpo", step, kl="k1_reward", beta=0.3), expected.float(), atol=1e-6)


# --- Backward and forward correction


def test_backward_and_forward_corrections_have_the_published_expectations():
    """E[r^ | clean] = clean; E[w | right] = 0, E[w | wrong] = -J."""
    verdicts = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    corrected = build("algorithms", "backward", **RATES).corrected_verdicts(verdict_step(verdicts))[0]
    weight = build("algorithms", "forward", false_negatives=0.2).rewards(verdict_step(verdicts))[0]
    assert weight.tolist() == pytest.approx([RATES["false_negatives"] - 1, RATES["false_negatives"]])
    for clean, accepted in ((0, RATES["false_positives"]), (1, 1 - RATES["false_negatives"])):
        probs = torch.tensor([1 - accepted, accepted], dtype=torch.float64)
        assert (probs * corrected).sum().item() == pytest.approx(clean)
        assert (probs * weight).sum().item() == pytest.approx(0 if clean else -J)


def test_the_expected_gradient_of_a_bandit_is_the_clean_one():
    """Over all actions and verdicts of a group of 3: backward gives the clean gradient, forward J * 3 / 2 of it.

    3 / 2 because Dr. GRPO's baseline contains the completion itself.
    """
    logits, right = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64), 1
    policy, (fp, fn) = logits.softmax(0), RATES.values()
    score = torch.eye(3, dtype=torch.float64) - policy  # gradients of log pi(action) with respect to the logits

    def gradient(name, noise, **options):
        total = torch.zeros(3, dtype=torch.float64)
        for actions, verdicts in product(product(range(3), repeat=3), product((0.0, 1.0), repeat=3)):
            accepted = [(1 - fn if noise else 1.0) if a == right else (fp if noise else 0.0) for a in actions]
            prob = math.prod(p if v else 1 - p for p, v in zip(accepted, verdicts, strict=True))
            prob *= math.prod(policy[a].item() for a in actions)
            step = verdict_step(torch.tensor([verdicts], dtype=torch.float64))
            advantages = advantages_of(name, step, **options)[0].double()
            total += prob * (advantages[:, None] * score[list(actions)]).mean(0)
        return total

    clean = gradient("dr_grpo", noise=False)
    assert torch.allclose(gradient("backward", noise=True, **RATES), clean, atol=1e-6)
    assert torch.allclose(gradient("dr_grpo", noise=True), J * clean, atol=1e-6), "a constant gain, as AdamW cancels it"
    assert torch.allclose(gradient("forward", noise=True, false_negatives=fn), J * 3 / 2 * clean, atol=1e-6)


def test_forward_in_a_mix_equals_hand_computed_values():
    verdicts = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    step = verdict_step(verdicts, reward_weights={"accuracy": 2.0, "format": 1.0})
    step.columns["format"] = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])
    expected = [[2 * 0.2 + 0.5, 2 * -0.8 - 0.5], [2 * -0.8, 2 * -0.8]]
    assert advantages_of("forward", step, false_negatives=0.2).tolist() == [pytest.approx(row) for row in expected]


def test_noise_corrected_grpo_divides_by_what_s_grpo_multiplies_with():
    verdicts = success_groups()[2:7]
    fp, fn = torch.tensor(RATES["false_positives"]), torch.tensor(RATES["false_negatives"])
    z = (verdicts - verdicts.mean(-1, keepdim=True)) / verdicts.std(-1, keepdim=True)
    expected = z / verdict_correlation(verdicts, fp, fn, least=1 / 8)
    advantages = advantages_of("noise_corrected_grpo", verdict_step(verdicts), **RATES)
    assert torch.allclose(advantages, expected.float(), rtol=1e-3)
    t = (2 / 8 - 0.1) / J
    assert advantages[0, 0].item() == pytest.approx((6 / 8 / J) / (math.sqrt(8 / 7 * t * (1 - t)) + 1e-4), rel=1e-6)

    step = verdict_step(success_groups())
    assert torch.allclose(advantages_of("noise_corrected_grpo", step), advantages_of("grpo", step), rtol=1e-5)
    rates = {"false_positives": 0.3, "false_negatives": 0.3}
    assert advantages_of("noise_corrected_grpo", step, **rates).abs().max() < 9


# --- Wrong labels

LABELS = {"wrong_labels": 0.3}  # of four options


def test_the_posterior_of_a_label_equals_hand_computed_values():
    """P = .7 k / (.7 k + .1 (8 - k)) and w = (4 P - 1) / 3 for k of 8 accepted completions."""
    algorithm, step = build("algorithms", "s_grpo", **LABELS), verdict_step(success_groups())
    posterior, slope = algorithm.label_posterior(step)[:, 0], algorithm.label_slope(step)[:, 0]
    assert posterior[[0, 1, 2, 4, 7, 8]].tolist() == pytest.approx([0, 0.7 / 1.4, 1.4 / 2, 2.8 / 3.2, 4.9 / 5, 1])
    assert slope[[1, 2, 4, 7]].tolist() == pytest.approx([1 / 3, 0.6, 2.5 / 3, 2.92 / 3])
    expected = algorithm.corrected_verdicts(step)[2]  # P for two of eight, (1 - P) / 3 for the others
    assert expected.tolist() == pytest.approx([0.7] * 2 + [0.1] * 6)
    by_bayes = build("algorithms", "soft_label", eta=0.3)
    shares = {"A": 2 / 8, "B": 3 / 8, "C": 3 / 8, "D": 0.0}
    assert by_bayes.posterior("A", shares)["A"] == pytest.approx(posterior[2].item()), "the votes of this group alone"


def test_only_completions_that_name_a_letter_vote_against_a_label():
    """A, B and two without a letter: P = .7 / (.7 + .3 / 3) = .875. One A and no other letter: P = 1."""
    algorithm = build("algorithms", "s_grpo", **LABELS)
    step = answer_step(["AB--", "A---", "----", "BBB-"], "AAAA")
    assert algorithm.label_posterior(step)[:, 0].tolist() == pytest.approx([0.875, 1, 0, 0])


def test_corrections_of_wrong_labels_weigh_groups_by_their_labels():
    step = verdict_step(success_groups()[1:8])
    w = torch.tensor([(4 * 0.7 * k / (0.7 * k + 0.1 * (8 - k)) - 1) / 3 for k in range(1, 8)])[:, None]
    z = advantages_of("s_grpo", step, false_positives=0.0, false_negatives=0.0)
    assert torch.allclose(advantages_of("s_grpo", step, **LABELS), w * z, atol=1e-6)
    centred = (step.columns["accuracy"] - step.columns["accuracy"].mean(-1, keepdim=True)).float()
    for name in ("backward", "noise_corrected_dr_grpo"):
        assert torch.allclose(advantages_of(name, step, **LABELS), w * centred, atol=1e-6)
        by_batch = advantages_of(name, step, scale_rewards="batch", **LABELS)
        assert torch.allclose(by_batch / by_batch[3, 0], w * centred / (w * centred)[3, 0], atol=1e-5)
    per_verdict = advantages_of("s_grpo", step, false_positives=0.1, false_negatives=0.3)
    assert not per_verdict[5:].any() and (w[5:] > 0.9).all(), "the groups that the verdict channel silences"


def test_under_wrong_labels_the_posterior_comes_nearer_to_the_clean_credit():
    """2,000 prompts whose right option is drawn from the policy's own shares; 30 % of the labels are wrong."""
    generator = torch.Generator().manual_seed(0)
    shares = -torch.rand(2000, 4, generator=generator).double().log()
    shares = shares / shares.sum(-1, keepdim=True)
    right = torch.multinomial(shares, 1, generator=generator)
    answers = torch.multinomial(shares, 8, replacement=True, generator=generator)
    is_wrong = torch.rand(2000, 1, generator=generator) < 0.3
    labels = torch.where(is_wrong, (right + torch.randint(1, 4, (2000, 1), generator=generator)) % 4, right)
    clean, noisy = verdict_step((answers == right).double()), verdict_step((answers == labels).double())

    def cosine(name, twin, **options):
        """The cosine of the credit from noisy labels and that of the uncorrected twin from clean ones."""
        credit, target = advantages_of(name, noisy, **options), advantages_of(twin, clean)
        return torch.cosine_similarity(credit.flatten(), target.flatten(), dim=0).item()

    rates, plain = {"false_positives": 0.1, "false_negatives": 0.3}, cosine("dr_grpo", "dr_grpo")
    assert cosine("backward", "dr_grpo", **rates) == pytest.approx(plain, abs=1e-5), "one factor for all groups"
    assert cosine("backward", "dr_grpo", **LABELS) > plain + 0.01
    by_verdict, by_label = cosine("s_grpo", "grpo", **rates), cosine("s_grpo", "grpo", **LABELS)
    assert by_verdict < cosine("grpo", "grpo") - 0.05, "error rates per verdict do harm"
    assert by_label > cosine("grpo", "grpo") + 0.01
    assert [by_verdict, cosine("grpo", "grpo"), by_label] == pytest.approx([0.52, 0.59, 0.61], abs=0.006)


def test_settings_that_wrong_labels_contradict_are_refused():
    for name in ("s_grpo", "backward", "noise_corrected_dr_grpo"):
        with pytest.raises(UserError, match=r"wrong_labels must be from 0 to below 1 - 1 / options, not 0\.75 with 4"):
            build("algorithms", name, wrong_labels=0.75)
        with pytest.raises(UserError, match="set either it or wrong_labels"):
            build("algorithms", name, wrong_labels=0.2, estimate=True)
    for name in ("forward", "noise_corrected_grpo"):
        with pytest.raises(UserError, match="wrong_labels"):
            build("algorithms", name, wrong_labels=0.2)


# --- Error rates


def test_error_rates_may_depend_on_the_label():
    step = verdict_step(torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64), labels=["A", "B", "C"])
    rates = {"A": [0.1, 0.2], "B": [0.0, 0.5]}
    advantages = advantages_of("noise_corrected_dr_grpo", step, rates=rates, false_negatives=0.2)
    assert advantages[:, 0].tolist() == pytest.approx([0.5 / 0.7, 0.5 / 0.5, 0.5 / 0.8])
    with pytest.raises(UserError, match="sum to less than 1"):
        build("algorithms", "noise_corrected_grpo", rates={"A": [0.6, 0.4]})
    with pytest.raises(UserError, match=r"rates.A must be \[false positives, false negatives\]"):
        build("algorithms", "noise_corrected_grpo", rates={"A": 0.6})


def test_one_standard_deviation_for_all_groups_keeps_the_correction_of_each_prompt():
    """J is 0.8 for label A and 0.32 for label B: the same verdicts count 2.5 times as much where the label is B."""
    step = verdict_step(torch.tensor([[1.0, 0.0, 0.0, 1.0]] * 3, dtype=torch.float64), labels=["A", "B", "B"])
    for scale, ratio in (("none", 2.5), ("batch", 2.5), ("group", 1.0)):
        options = {"rates": {"A": [0.1, 0.1], "B": [0.34, 0.34]}, "scale_rewards": scale}
        advantages = advantages_of("noise_corrected_dr_grpo", step, **options)
        assert (advantages[1, 0] / advantages[0, 0]).item() == pytest.approx(ratio), scale


def test_error_rates_are_estimated_from_disagreeing_verdicts():
    """Completions that share a letter get verdicts that disagree; three of them are enough."""
    generator, memory = torch.Generator().manual_seed(1), {}
    options = {"estimate": True, "rates": {"B": [0.3, 0.3]}, "false_positives": 0.4}
    algorithm = build("algorithms", "noise_corrected_dr_grpo", **options)

    def noisy_step(prompts, size):
        answers = [["A"] * size + ["B"] * size for _ in range(prompts)]
        labels = ["AB"[i % 2] for i in range(prompts)]
        clean = torch.tensor([[float(c == label) for c in row] for row, label in zip(answers, labels, strict=True)])
        rates = torch.tensor([[0.05, 0.2] if label == "A" else [0.15, 0.1] for label in labels]).double()
        verdicts = flip(clean.double(), rates[:, :1], rates[:, 1:], generator)
        return verdict_step(verdicts, answers=answers, labels=labels, memory=memory)

    first = noisy_step(2, 16)
    algorithm.observe(first)
    given = torch.cat(algorithm.error_rates(first), 1).tolist()
    assert given == [[0.4, 0.0], [0.3, 0.3]], "not yet 100 verdicts of a letter"
    for _ in range(20):
        algorithm.observe(noisy_step(24, 16))
    estimated = torch.cat(algorithm.error_rates(first), 1)
    assert torch.allclose(estimated, torch.tensor([[0.05, 0.2], [0.15, 0.1]]).double(), atol=0.02)
    same_for_all = build("algorithms", "backward", estimate=True)
    assert torch.cat(same_for_all.error_rates(first), 1).tolist() == [pytest.approx([0.1, 0.15], abs=0.02)] * 2

    memory.clear()
    for _ in range(100):
        algorithm.observe(noisy_step(24, 3))
    estimated = torch.cat(algorithm.error_rates(first), 1)
    assert torch.allclose(estimated, torch.tensor([[0.05, 0.2], [0.15, 0.1]]).double(), atol=0.02)


def majority_rates(counts):
    """Rates as if the majority of each letter's verdicts were true, which they were counted by before."""
    right = {(n, k): number for (n, k), number in counts.items() if 2 * k > n}
    wrong = {(n, k): number for (n, k), number in counts.items() if 2 * k < n}
    accepted_wrong = sum(k * number for (_, k), number in wrong.items())
    rejected_right = sum((n - k) * number for (n, k), number in right.items())
    return (
        accepted_wrong / sum(n * number for (n, _), number in wrong.items()),
        rejected_right / sum(n * number for (n, _), number in right.items()),
    )


def expected_counts(right_share, false_positives, false_negatives):
    """How many of a million letters have k of n verdicts accepted; right_share: n -> share of right letters."""

    def binomial(n, k, p):
        return math.comb(n, k) * p**k * (1 - p) ** (n - k)

    return {
        (n, k): 1e6 * (share * binomial(n, k, 1 - false_negatives) + (1 - share) * binomial(n, k, false_positives))
        for n, share in right_share.items()
        for k in range(n + 1)
    }


@pytest.mark.parametrize("true, by_majority", [((0.133, 0.4), (0.19, 0.26)), ((0.0, 0.2), (0.03, 0.16))])
def test_estimated_rates_are_right_where_majorities_err(true, by_majority):
    """A majority counts the smaller rate too high and the larger too low; letters of five are more often right.

    By hand for 3 verdicts, fn = 0.2 and fp = 0: a right letter has 3, 2, 1, 0 accepted with .512, .384, .096, .008.
    Majorities count .384 / (3 (.512 + .384)) = .143 as fn, and with a share s of right letters
    .096 s / (3 (.104 s + 1 - s)) as fp.
    """
    three = expected_counts({3: 0.6}, 0.0, 0.2)
    assert majority_rates(three) == pytest.approx((0.0576 / (3 * 0.4624), 0.384 / 2.688))

    counts = expected_counts({3: 0.5, 5: 0.7}, *true)
    assert majority_rates(counts) == pytest.approx(by_majority, abs=0.01)
    table = {f"{n},{k}": round(number) for (n, k), number in counts.items()}
    assert estimate_rates([table], 0.5, 0.4) == pytest.approx(true, abs=0.002)


@pytest.mark.parametrize("true", [(0.133, 0.4), (0.0, 0.2)])
def test_estimated_rates_of_samples_are_nearer_than_majorities(true):
    """Twenty samples of 500 letters that 3 to 5 completions name, over half of them right."""
    generator, errors = torch.Generator().manual_seed(0), torch.zeros(2)
    for _ in range(20):
        size = torch.randint(3, 6, (500,), generator=generator)
        is_right = torch.rand(500, generator=generator) < 0.6
        acceptance = torch.where(is_right, 1 - true[1], true[0])[:, None]
        draws = torch.rand(500, 5, generator=generator) < acceptance
        accepted = (draws & (torch.arange(5) < size[:, None])).sum(-1)
        counts = Counter(zip(size.tolist(), accepted.tolist(), strict=True))
        table = {f"{n},{k}": number for (n, k), number in counts.items()}
        for i, rates in enumerate((estimate_rates([table], 0.5, 0.4), majority_rates(counts))):
            errors[i] += sum(abs(a - b) for a, b in zip(rates, true, strict=True)) / 20
    assert errors[0] < errors[1] / 2, errors


def test_an_estimate_without_information_stays_usable():
    assert estimate_rates([{"3,3": 10}], 0.3, 0.2) == (0.3, 0.2), "30 verdicts are too few"
    assert estimate_rates([{"3,3": 100}], 0.3, 0.2) == (0.3, pytest.approx(0, abs=1e-5)), "no letter is wrong"
    fp, fn = estimate_rates([{"4,2": 100, "4,3": 10, "4,1": 10}], 0.0, 0.0)
    assert 1 - fp - fn >= 0.1 - 1e-9, "verdicts that say next to nothing"


def test_a_wrong_label_is_invisible_to_the_estimate():
    memory = {}
    algorithm = build("algorithms", "backward", estimate=True, **RATES)
    for _ in range(20):
        algorithm.observe(answer_step(["AAAABBBB"] * 4, "AABB", memory=memory))
    assert torch.cat(algorithm.error_rates(answer_step(["AB"], "A", memory=memory)), 1).tolist() == [
        pytest.approx([0, 0], abs=1e-5)
    ]


def test_the_outcome_must_be_in_the_mix_and_binary():
    for name in ("ttrl", "olr", "soft_label"):
        with pytest.raises(ValueError, match="there is no reward 'right' in the mix"):
            advantages_of(name, verdict_step(success_groups()[[2]]), outcome="right")
    with pytest.raises(ValueError, match="'accuracy' must be 0 or 1"):
        advantages_of("s_grpo", verdict_step(torch.tensor([[0.5, 1.0]])))
    with pytest.raises(UserError, match="not on its z-scores"):
        build("algorithms", "backward", multi_objective_aggregation="normalize_then_sum")
    with pytest.raises(UserError, match='scale_rewards must be "group"'):
        build("algorithms", "s_grpo", scale_rewards="none")
