"""Every field of every algorithm: another value changes the credit, the loss or the sampling, or it is refused."""

from dataclasses import fields

import pytest
import torch

from rlvid.errors import UserError
from rlvid.registry import available, build
from rlvid.trainer.credit import assign_credit
from tests.helpers import toy
from tests.helpers.steps import NOISE_CHANNELS

pytestmark = pytest.mark.fast
OF_THE_TRAINER = {"num_iterations", "num_minibatches", "max_num_gen_batches"}  # they change which steps are taken
VALUES = {  # field -> values to try; the default is left out
    "kl": ["k2", "k3", "k3_is", "k1_reward"],
    "multi_objective_aggregation": ["normalize_then_sum"],
    "scale_rewards": ["group", "batch", "none"],
    "epsilon_high": [0.05], "delta": [1.0], "dual_clip": [1.1], "threshold": [0.6], "horizon": [7],
    "outcome": ["second"], "rates": [{"A": [0.1, 0.3]}], "judged": [("second",)], "consistency": [("judge",)],
    "perception": [("judge",)], "tag": ["think"], "options": [6], "share": [0.7], "switch": [0.1], "visits": [3],
    "pairs": ["all"], "preferences": ["pairs.jsonl"], "criteria": [("visual",)], "selection": ["random"],
    "view": ["patches", "noise", "reversed"], "visual_view": ["reversed"], "temporal_view": ["reversed"],
    "loss_pixels": ["clean", "sampled"], "importance_sampling_mode": ["token_truncate", "sequence_truncate"],
    "importance_sampling_cap": [1.05], "extents": [(0.0, 0.5)], "variants": [("", "crop:0.5")],
    "normalize": ["variant"], "critic": ["shared"], "quantile": [0.9], "decay": [0.3], "warmup_steps": [39],
    "critic_warmup_steps": [39], "warmup": [0.95], "max_advantage": [0.5], "noisy_share": [0.25], "ratio_cap": [1.01],
}  # fmt: skip
WITH = {  # field -> other fields that it belongs to
    "kl": {"beta": 0.3},
    "options": {"wrong_labels": 0.3},
    "second_coef": {"switch": 0.1},
    "importance_sampling_cap": {"importance_sampling_mode": "token_truncate"},
}
MIX = {"cora": {"consistency": ("second",)}, "pa_grpo": {"perception": ("second",)}}  # rewards that the step has


def fingerprint(algorithm):
    """Return everything by which a run with this algorithm on one fixed step could differ.

    Group 2 is flat. Labels are wrong, and majorities were so before. Scales of rewards differ.
    """
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    mask = (torch.arange(5) < torch.randint(2, 6, (48, 1), generator=generator)).float()
    right = torch.tensor([[1.0, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 1], [1] * 8, [1] * 7 + [0],
                          [0, 1] * 4, [0, 0, 1, 0, 0, 0, 0, 0]]).double()  # fmt: skip
    if getattr(algorithm, "preferences", ""):
        return algorithm.completion_source  # completions would come in pairs
    seen = toy.token_tensors(algorithm.needs, lambda: -uniform(48, 5))
    counts = algorithm.sampling_views(30, 40, 8)
    row = [view for view, count in counts.items() for _ in range(count)]
    step = toy.make_step(
        right, mask, algorithm.needs, labels=list("BCDABC"), number=30, max_steps=40,
        answers=[["ABCD"[(i + (j > 4)) % 4] for j in range(8)] for i in range(6)],
        reward_weights={"accuracy": 1.0, "second": 0.5, "judge": 1.0}, finished=uniform(6, 8) < 0.7,
        domains=["one", "two"] * 3, views=[row] * 6 if any(row) else [],
        memory={"visits": {f"q{i}": [["ABCDAB"[i], 0.2]] for i in range(6)}, "moments": {"one": [0.5, 0.3]}}
        | ({"verdict_counts": {"A": {"10,8": 20, "10,1": 20}}} if getattr(algorithm, "estimate", False) else {}),
        sampled_logps=-uniform(48, 5), ref_logps=-uniform(48, 5), old_values=uniform(48, 5), **seen,
    )  # fmt: skip
    step.columns["second"] = (uniform(6, 8) < 0.5).double()
    step.columns["judge"] = 0.2 * uniform(6, 8).double()
    for column in (step.columns["second"], step.columns["judge"]):
        column[2] = 0.0
    if any(row) and algorithm.loss_pixels == "clean":
        step.batch.off_view = torch.tensor([float(bool(view)) for view in row]).repeat(6)[:, None] * mask
    batch = assign_credit(algorithm, step)
    logps = (-uniform(48, 5)).requires_grad_()
    batch.old_logps = -uniform(48, 5)
    losses, _ = algorithm.loss(logps, batch.with_outputs(5, entropy=-logps.exp() * logps, values=uniform(48, 5)))
    (gradient,) = torch.autograd.grad((losses * batch.weights).sum(), logps)
    tensors = (batch.advantages, batch.mask, batch.weights, losses.detach(), gradient)
    tensors += tuple(t for t in (batch.targets, batch.pair_weights) if t is not None)
    settings = (counts, algorithm.needs, algorithm.completion_source, algorithm.critic_settings, algorithm.loss_pixels)
    return str(settings), [tensor.double() for tensor in tensors]


def is_same(one, other):
    """Whether two fingerprints are equal but for rounding."""
    if isinstance(one, str) or one[0] != other[0] or len(one[1]) != len(other[1]):
        return one == other
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(one[1], other[1], strict=True))


def other_values(field):
    """Return values of a field that differ from its default."""
    if field.name in VALUES:
        return [value for value in VALUES[field.name] if value != field.default]
    if isinstance(field.default, bool):
        return [not field.default]
    return [field.default / 2 if field.default else 0.2]


CASES = [
    pytest.param(name, field.name, value, id=f"{name}-{field.name}-{value}")
    for name in available("algorithms")
    for field in fields(type(build("algorithms", name)))
    if field.name not in OF_THE_TRAINER
    for value in other_values(field)
]


@pytest.mark.parametrize(("name", "field", "value"), CASES)
def test_another_value_acts_or_is_refused(name, field, value):
    related = MIX.get(name, {}) | WITH.get(field, {})
    if field == "outcome" and name in NOISE_CHANNELS:
        related["false_negatives"] = 0.2
    try:
        before, changed = build("algorithms", name, **related), build("algorithms", name, **related | {field: value})
    except UserError:
        return
    assert not is_same(fingerprint(before), fingerprint(changed))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "cispo",
            {"epsilon_high": 5.0},
            r"epsilon_high has no effect: only ratio_cap clips .* epsilon_high\): set that",
        ),
        ("cispo", {"epsilon": 0.1}, "epsilon has no effect: only ratio_cap"),
        ("sapo", {"delta": 1.0}, "delta has no effect: a smooth gate takes the place of the clip"),
        ("reinforce_pp", {"scale_rewards": "batch"}, "scale_rewards has no effect: all groups share the standard dev"),
        ("forward", {"false_positives": 0.1}, "false_positives has no effect: both weights follow"),
        ("max_rl", {"scale_rewards": "none"}, "scale_rewards has no effect: credit is divided by the group's mean"),
        ("pass_at_k", {"scale_rewards": "none"}, "scale_rewards has no effect: credit is divided by the standard dev"),
        ("s_grpo", {"wrong_labels": 0.3, "false_positives": 0.2}, "false_positives has no effect: wrong_labels"),
        ("noise_corrected_dr_grpo", {"wrong_labels": 0.3, "rates": {"A": [0.1, 0.2]}}, "rates has no effect"),
        ("backward", {"options": 5}, "options has no effect: without wrong_labels"),
        ("rdpo", {"false_negatives": 0.2, "label_smoothing": 0.2}, "label_smoothing has no effect"),
        ("strive", {"importance_sampling_cap": 3.0}, "importance_sampling_cap has no effect"),
        ("sft", {"kl": "k1_reward", "beta": 0.1}, 'kl must be a loss, such as "k3"'),
    ],
)
def test_a_field_without_effect_is_refused_in_one_line(name, settings, message):
    with pytest.raises(UserError, match=message) as error:
        build("algorithms", name, **settings)
    assert "\n" not in str(error.value)
