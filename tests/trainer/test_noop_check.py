"""Noise corrections that correct nothing on the configured mix are found before the first step."""

import pytest
import torch

from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise.apply import build_noise
from rlvid.registry import build
from rlvid.trainer.noop_check import channel_warning, check_rewards, enumerate_verdicts, noise_warning, noop_warning
from tests.helpers import toy
from tests.helpers.steps import RATES, J, advantages_of


@pytest.mark.parametrize("scale", ["group", "batch"])
@pytest.mark.parametrize("rates", [{**RATES}, {"false_positives": 0.35, "false_negatives": 0.05}])
def test_z_scores_cancel_a_correction_bit_for_bit(scale, rates):
    step = enumerate_verdicts("accuracy", {"accuracy": 0.7}, 8)
    corrected = advantages_of("backward", step, scale_rewards=scale, **rates)
    assert torch.equal(corrected, advantages_of("dr_grpo", step, scale_rewards=scale))
    assert corrected.dtype == torch.float32


def test_no_ops_are_named():
    def warning(name, mix=None, generations=8, **options):
        return noop_warning(build("algorithms", name, **options), mix or {"accuracy": 1.0}, generations)

    same = "algorithm 'backward' is a no-op here: whatever the verdicts, its credit is that of 'dr_grpo'"
    gain = f"{same} times 1.43: AdamW cancels a constant gain of the gradient unless it is clipped"
    assert warning("backward", scale_rewards="group", **RATES) == same
    assert warning("backward", scale_rewards="group", generations=16, **RATES) == same
    assert warning("backward", **RATES) == gain
    regularized = f"{gain}; it only lowers the relative weight of beta and entropy_coef"
    assert warning("backward", beta=0.1, entropy_coef=0.1, **RATES) == regularized
    assert warning("backward", estimate=True).startswith(f"{same} times the counted 1 / J")
    assert warning("backward", {"accuracy": 1.0, "format": 0.0}, scale_rewards="batch", **RATES) == same
    assert "that of 'grpo'" in warning("s_grpo", false_positives=0.0, false_negatives=0.0)
    assert "that of 'grpo'" in warning("trust_grpo", {"accuracy": 1.0, "format": 0.2}), "nothing is judged"


@pytest.mark.parametrize(
    ("name", "mix", "message"),
    [
        ("cora", {"accuracy": 1.0, "format": 0.2}, r"none of consistency \(.*add one.*rewards.consistency_rule=0.5"),
        ("cora", {"accuracy": 1.0, "consistency_rule": 0.0}, "none of consistency"),
        ("cora", {"consistency_rule": 1.0}, r"all rewards of the mix \(consistency_rule\) are in consistency"),
        (
            "pa_grpo",
            {"accuracy": 1.0},
            r"none of perception \(.*rewards.grounding_narrations=0.5.*algorithm.perception",
        ),
    ],
)
def test_an_algorithm_that_would_be_grpo_under_another_name_is_refused(name, mix, message):
    with pytest.raises(UserError, match=f"algorithm '{name}': .*{message}"):
        check_rewards(build("algorithms", name), mix)


def test_a_mix_with_both_kinds_of_rewards_is_accepted():
    check_rewards(build("algorithms", "cora"), {"accuracy": 1.0, "consistency_rule": 0.5})
    check_rewards(build("algorithms", "cora", consistency=("mine",)), {"accuracy": 1.0, "mine": 0.5})
    check_rewards(build("algorithms", "pa_grpo"), {"accuracy": 1.0, "grounding_narrations": 3.0})
    check_rewards(build("algorithms", "grpo"), {"accuracy": 1.0})


def test_adamw_cancels_a_constant_gain_but_a_learning_rate_over_j_is_another_run():
    """`backward` at J = 0.7 ends where `dr_grpo` does; without the division by J, a learning rate over J does not."""

    def train(name, learning_rate=0.01, beta=0.0, **options):
        policy = toy.ToyPolicy()
        algorithm = build("algorithms", name, beta=beta, **options)
        toy.train_toy(policy, algorithm, steps=20, learning_rate=learning_rate)
        return policy.logits.detach()

    plain = train("dr_grpo")
    assert (train("backward", **RATES) - plain).abs().max() < 1e-3 * plain.abs().max()
    assert (train("dr_grpo", learning_rate=0.01 / J) - plain).abs().max() > 0.2 * plain.abs().max()
    pulled, corrected = train("dr_grpo", beta=1.0), train("backward", beta=1.0, **RATES)
    assert (corrected - pulled).abs().max() > 0.01 * plain.abs().max(), "the relative weight of beta is smaller"


@pytest.mark.parametrize(
    "name, mix, options",
    [
        ("backward", {"accuracy": 1.0, "format": 0.2}, RATES),
        ("backward", {"accuracy": 1.0, "format": 0.2}, {**RATES, "scale_rewards": "group"}),
        ("forward", {"accuracy": 1.0}, {"false_negatives": 0.2}),
        ("noise_corrected_dr_grpo", {"accuracy": 1.0}, {"rates": {"A": [0.1, 0.2]}}),
        ("noise_corrected_dr_grpo", {"accuracy": 1.0}, {"estimate": True}),
        ("noise_corrected_grpo", {"accuracy": 1.0}, RATES),
        ("s_grpo", {"accuracy": 1.0}, {}),
        ("trust_grpo", {"accuracy": 1.0, "judge": 0.3}, {}),
        ("olr", {"accuracy": 1.0}, {}),
        ("grpo", {"accuracy": 1.0}, {}),
    ],
)
def test_a_correction_with_an_effect_gives_no_warning(name, mix, options):
    assert noop_warning(build("algorithms", name, **options), mix, 8) is None


@pytest.mark.parametrize(
    "name, options, noise, words",
    [
        (
            "s_grpo",
            {},
            {"kind": "symmetric", "rate": 0.3},
            "'symmetric' errs for whole groups: set algorithm.wrong_lab",
        ),
        ("forward", {}, {"kind": "confusable", "rate": 0.3}, "errs for whole groups: use s_grpo with wrong_labels"),
        ("noise_corrected_grpo", {"estimate": True}, {"kind": "group_flip", "rate": 0.3}, "errs for whole groups"),
        ("backward", {"wrong_labels": 0.3}, {"kind": "verifier", "false_negatives": 0.3}, "errs for each completion"),
        ("s_grpo", {"wrong_labels": 0.3}, {"kind": "symmetric", "rate": 0.3}, ""),
        ("backward", RATES, {"kind": "verifier", "false_negatives": 0.3}, ""),
        ("s_grpo", {}, {"kind": "symmetric", "rate": 0.3, "drop": True}, ""),
        ("s_grpo", {}, {"kind": "verifier", "false_negatives": 0.3, "column": "format"}, ""),
        ("s_grpo", {}, {"kind": ""}, ""),
        ("grpo", {}, {"kind": "symmetric", "rate": 0.3}, ""),
        ("soft_label", {}, {"kind": "symmetric", "rate": 0.3}, ""),
    ],
)
def test_a_correction_of_other_errors_than_those_of_the_noise_is_named(name, options, noise, words):
    fields = dict(noise)
    config = NoiseConfig(kind=fields.pop("kind"), fields=fields)
    warning = channel_warning(build("algorithms", name, **options), build_noise(config), config.kind)
    assert (warning is None) if not words else (words in warning and "\n" not in warning)


def test_the_check_leaves_the_global_random_generator_alone():
    before = torch.random.get_rng_state()
    noop_warning(build("algorithms", "backward", estimate=True), {"accuracy": 1.0, "format": 0.2}, 12)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_mix_without_the_outcome_is_refused():
    with pytest.raises(UserError, match="algorithm 'backward': there is no reward 'accuracy' in the mix, only format"):
        noop_warning(build("algorithms", "backward"), {"format": 1.0}, 4)


def test_noise_without_effect_is_named():
    def warning(kind, changed, evidence=(), split="train", **fields):
        noise = build_noise(NoiseConfig(kind, 0, fields))
        return noise_warning(noise, kind, changed, split, evidence) or ""

    assert "changes none of the training samples" in warning("class_dependent", 0, rate=1.0, of="E")
    assert "are those of the split train_cot" in warning("reasoning", 0)
    assert "no reward of this run reads narrations" in warning("narrations", 3, rate=1.0)
    assert not warning("narrations", 3, ["narrations"], rate=1.0)
    assert not warning("symmetric", 3, rate=0.5) and not warning("verifier", 0, false_positives=0.5)
    assert not warning("", 0)
