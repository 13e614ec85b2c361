"""Groups whose loss has no gradient: no backward pass, the same update, the same metrics."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from rlvid.algorithm import Algorithm
from rlvid.policy.model import Policy
from rlvid.policy.types import ForwardOutput
from rlvid.registry import NANO_CHECKPOINT, build
from rlvid.trainer import zero_gradient
from rlvid.trainer.zero_gradient import differentiable, groups_to_learn, has_gradient, weighted_loss
from rlvid.types import Batch
from rlvid.utils.files import read_jsonl
from tests.helpers.processes import Child, finish, several
from tests.helpers.runs import train

GROUPS = ["train.prompts_per_step=8", "train.max_steps=2", "train.learning_rate=1e-5", "eval.splits=[]"]


def batch(**changes):
    """Two groups of two rows and three tokens: the first has equal rewards."""
    sampled, reference = -torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0))
    advantages = torch.tensor([0.0, 0.0, 1.0, -1.0])[:, None].expand(-1, 3)
    rows = Batch(torch.ones(4, 3), advantages, torch.full((4, 3), 1 / 12), sampled, ref_logps=reference)
    return replace(rows, **changes)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("grpo", {"beta": 0.0}, [False, True]),
        ("gspo", {"beta": 0.0}, [False, True]),
        ("grpo", {"beta": 0.04}, [True, True]),
        ("grpo", {"beta": 0.0, "entropy_coef": 0.1}, [True, True]),
    ],
)
def test_a_group_without_credit_is_learnt_from_only_with_a_kl_or_an_entropy_bonus(name, options, expected):
    algorithm = build("algorithms", name, **options)
    assert groups_to_learn(algorithm, batch(), 2) == expected
    later = batch(old_logps=-torch.rand(4, 3))  # on a further optimizer step
    assert groups_to_learn(algorithm, later, 2) == expected


def test_a_group_whose_tokens_are_all_clipped_has_no_gradient():
    """Advantages of +1 and ratios of e: PPO's surrogate is constant there."""
    rows = batch(advantages=torch.ones(4, 3), old_logps=-torch.ones(4, 3))
    logps = rows.old_logps + torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None]
    leaves, outputs = differentiable(ForwardOutput(logps, torch.ones(4, 3), torch.ones(4, 3)))
    loss, *_ = weighted_loss(build("algorithms", "grpo", beta=0.0), outputs, rows)
    assert has_gradient(loss, leaves, 2) == [False, True]


def test_nan_counts_as_a_gradient():
    rows = batch(advantages=torch.tensor([float("nan"), 0.0, 0.0, 0.0])[:, None].expand(-1, 3))
    assert groups_to_learn(build("algorithms", "grpo", beta=0.0), rows, 2) == [True, False]


class InPlace(Algorithm):
    """Changes the log-probs that it is given, as torch allows for those of the model."""

    def surrogate(self, logps, batch):
        return logps.clamp_(min=-0.5) * batch.advantages, {}


def test_a_loss_may_change_its_log_probs_in_place():
    rows = batch()
    before = rows.sampled_logps.clone()
    assert groups_to_learn(InPlace(), rows, 2) == [False, True]
    assert torch.equal(rows.sampled_logps, before)


def run(out, monkeypatch, *settings, backward_for_all=False):
    """Train nano; return its metrics, its weights and how many groups each step's forward passes had with gradients."""
    differentiated = []
    forward = Policy.forward

    def counted(policy, inputs, groups, *arguments):
        differentiated.append(len(groups) * torch.is_grad_enabled())
        return forward(policy, inputs, groups, *arguments)

    with monkeypatch.context() as patches:
        patches.setattr(Policy, "forward", counted)
        if backward_for_all:
            patches.setattr(zero_gradient, "groups_to_learn", lambda algorithm, batch, groups: [True] * groups)
        folder = train(out, *GROUPS, *settings)
    rows = read_jsonl(folder / "metrics.jsonl")
    weights = load_file(folder / f"checkpoints/step-{len(rows):06}/model.safetensors")
    return rows, weights, sum(differentiated)


def assert_close(weights, others):
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [(), ("algorithm.num_iterations=2",), ("train.max_tokens_per_forward=1",)],
    ids=["one pass", "two passes", "a group at a time"],
)
def test_the_update_and_the_metrics_are_those_of_a_backward_pass_for_all(kitchen, tmp_path, monkeypatch, settings):
    rows, weights, learnt = run(tmp_path / "run", monkeypatch, *settings)
    all_rows, all_weights, count = run(tmp_path / "all", monkeypatch, *settings, backward_for_all=True)
    flat = sum(row["frac_reward_zero_std"] for row in rows) * 8 * (2 if "algorithm.num_iterations=2" in settings else 1)
    assert flat > 0 and learnt == count - flat
    for row, other in zip(rows, all_rows, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=5e-6)
    assert_close(weights, all_weights)


def test_a_step_of_equal_rewards_still_decays_and_has_momentum(kitchen, tmp_path, monkeypatch):
    (tmp_path / "same.py").write_text("def same(groups):\n    return [[1.0] * len(group) for group in groups]\n")
    rewards = f"rewards={{'{tmp_path}/same.py:same'=1.0}}", "rewards.accuracy=0", "rewards.format=0"
    settings = (*rewards, "train.weight_decay=0.5", "train.max_steps=1")
    rows, weights, learnt = run(tmp_path / "run", monkeypatch, *settings)
    _, all_weights, count = run(tmp_path / "all", monkeypatch, *settings, backward_for_all=True)
    assert rows[0]["grad_norm"] == 0 and (learnt, count) == (1, 8)
    assert_close(weights, all_weights)
    untrained = load_file(NANO_CHECKPOINT / "model.safetensors")
    name = next(name for name in untrained if name.endswith("q_proj.weight"))
    assert not torch.equal(weights[name], untrained[name])


SEEMS_FLAT = """
from rlvid.algorithm import Algorithm

class Stay(Algorithm):
    def surrogate(self, logps, batch):
        return -(logps - batch.sampled_logps).square(), {}
"""


def test_a_loss_that_only_seems_to_have_no_gradient_is_learnt_from(kitchen, tmp_path, monkeypatch):
    """At the sampler's log-probs its gradient is 0, at the forward pass's, which round otherwise, it is not."""
    (tmp_path / "stay.py").write_text(SEEMS_FLAT)
    rows, _, learnt = run(tmp_path / "run", monkeypatch, f"algorithm={tmp_path}/stay.py", "train.max_steps=1")
    assert rows[0]["grad_norm"] > 0 and learnt == 8


def test_processes_with_completions_of_unequal_length_learn_what_one_learns(kitchen, tmp_path):
    """Old log-probs, of further optimizer steps, are as wide as the step's longest completion in each process."""
    settings = ("algorithm=ppo", "algorithm.num_iterations=2", "train.prompts_per_step=2", "train.max_steps=2")
    one, two = tmp_path / "one", tmp_path / "two"
    finish(Child(one, *settings), *several(two, *settings))
    longest = [max(row["lengths"]) for row in read_jsonl(one / "samples/step-000001.jsonl")]
    assert len(set(longest)) == 2, "or this would show nothing"
    for mine, other in zip(*(read_jsonl(out / "metrics.jsonl") for out in (two, one)), strict=True):
        assert mine == pytest.approx(other, rel=2e-3, abs=2e-4)
