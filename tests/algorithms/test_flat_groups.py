"""Dynamic sampling replaces groups of equal total rewards: it is refused where such a group can have credit."""

import pytest
import torch

from rlvid.errors import UserError
from rlvid.registry import available, build
from tests.helpers import toy

pytestmark = pytest.mark.fast
MIX = {"accuracy": 1.0, "second": 1.0}
OWN = {"cora": {"consistency": ("second",), "coef": 0.5}, "pa_grpo": {"perception": ("second",)}}
RATES = {"false_positives": 0.1, "false_negatives": 0.2}
OWN |= dict.fromkeys(("s_grpo", "noise_corrected_grpo", "noise_corrected_dr_grpo", "backward"), RATES)
REPLACING = (
    *("cispo", "dapo", "dr_grpo", "dr_dpo", "dpo", "ema_grpo", "grpo", "gspo", "kto", "max_rl", "mc_grpo", "papo"),
    *(
        "noisy_rollout",
        "pass_at_k",
        "pgpo",
        "qae",
        "reinforce_pp",
        "rloo",
        "sapo",
        "strive",
        "two_stage_entropy",
        "video_ktr",
        "vppo",
    ),
    *("cdpo", "ipo", "rdpo"),
)


def credit_of_a_flat_group(algorithm):
    """Return (4, 1) the credit of a group whose completions earn (1, 0), (0, 1), (1, 0), (0, 1): 1 each in all."""
    rewards = torch.tensor([[1.0, 0, 1, 0], [1, 1, 0, 0]], dtype=torch.float64)
    views = toy.views_of(algorithm, (2, 4))
    tensors = toy.token_tensors(algorithm.needs, lambda: torch.rand(8, 1))
    step = toy.make_step(
        rewards, torch.ones(8, 1), algorithm.needs, reward_weights=MIX, views=views, number=30, max_steps=40,
        memory={"refined": {"q0": "B"}}, **tensors,
    )  # fmt: skip
    step.columns["second"] = torch.tensor([[0.0, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.float64)
    algorithm.observe(step)
    return algorithm.credit(step).advantages[:4]


@pytest.mark.parametrize("name", available("algorithms"))
def test_flat_groups_are_replaced_only_where_they_have_no_credit(name):
    try:
        algorithm = build("algorithms", name, max_num_gen_batches=2, **OWN.get(name, {}))
    except UserError as error:
        assert name not in REPLACING and "max_num_gen_batches must be 1: flat groups are" in str(error)
        assert credit_of_a_flat_group(build("algorithms", name, **OWN.get(name, {}))).abs().max() > 0.01
        return
    assert name in REPLACING and credit_of_a_flat_group(algorithm).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("kto", {"threshold": 0.5}, "with the threshold"),
        ("dpo", {"preferences": "pairs.jsonl"}, "with preferences nothing is sampled"),
        ("dapo", {"multi_objective_aggregation": "normalize_then_sum"}, "unequal sums of z-scores"),
        ("rloo", {"beta": 0.1}, "the KL in the reward differs"),
        ("noisy_grpo", {}, "unless credit_flat_groups is false"),
    ],
)
def test_settings_by_which_a_flat_group_has_credit_are_refused(name, settings, reason):
    with pytest.raises(UserError, match=f"max_num_gen_batches must be 1: .*{reason}") as error:
        build("algorithms", name, max_num_gen_batches=2, **settings)
    assert "\n" not in str(error.value)
    assert build("algorithms", "noisy_grpo", credit_flat_groups=False, max_num_gen_batches=2).max_num_gen_batches == 2


@pytest.mark.parametrize("field", [{"pairs": "all"}, {"multi_objective_aggregation": "normalize_then_sum"}])
def test_given_preferences_refuse_what_compares_rewards(field):
    with pytest.raises(UserError, match="has no effect: with preferences no rewards are compared"):
        build("algorithms", "dpo", preferences="pairs.jsonl", **field)
