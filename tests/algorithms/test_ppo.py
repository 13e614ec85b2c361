"""PPO: hand-computed credit and losses, a critic that learns, and gradients that do not reach the policy."""

import pytest
import torch

from algorithms.ppo import gae
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.critic import critic_parameter_names
from rlvid.registry import build
from rlvid.types import Batch, Completion, Group
from rlvid.utils.files import read_jsonl
from tests.helpers import toy
from tests.helpers.policies import add_critic, policy_of
from tests.helpers.runs import stop_after, train

MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
VALUES = torch.tensor([[0.5, 0.2, 0.4], [0.1, 0.3, 9.0]])  # values on padding must have no effect
REWARDS = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.5, 0.0]])


def test_gae_equals_hand_computed_values():
    advantages = gae(REWARDS, VALUES, MASK, gamma=0.9, lam=0.8)
    third = 1 - 0.4
    second = 0.9 * 0.4 - 0.2 + 0.9 * 0.8 * third
    first = 0.9 * 0.2 - 0.5 + 0.9 * 0.8 * second
    end = 0.5 - 0.3
    assert advantages[0].tolist() == pytest.approx([first, second, third])
    assert advantages[1].tolist() == pytest.approx([0.9 * 0.3 - 0.1 + 0.9 * 0.8 * end, end, 0])


def test_without_discount_the_advantage_is_the_return_minus_the_value():
    advantages = gae(REWARDS, VALUES, MASK, gamma=1.0, lam=1.0)
    assert torch.allclose(advantages, (REWARDS.sum(-1, keepdim=True) - VALUES) * MASK)


def step_with(**fields):
    """Return a step of one right and one wrong completion with the critic's values."""
    return toy.make_step(torch.tensor([[1.0, 0.0]], dtype=torch.float64), MASK, old_values=VALUES, **fields)


def test_advantages_are_whitened_over_tokens_and_targets_are_the_returns():
    ppo = build("algorithms", "ppo", beta=0.0, lam=1.0)
    batch = ppo.credit(step_with())
    tokens = batch.advantages[MASK > 0]
    assert tokens.mean().item() == pytest.approx(0, abs=1e-6) and tokens.std().item() == pytest.approx(1, abs=1e-4)
    assert torch.allclose(batch.targets, torch.tensor([[1.0, 1, 1], [0, 0, 0]]), atol=1e-6)
    assert (batch.advantages[MASK == 0] == 0).all()


def test_the_kl_to_the_reference_is_subtracted_token_by_token():
    ppo, log_ratios = build("algorithms", "ppo", beta=0.1, lam=1.0), torch.tensor([[0.3, -0.2, 0.5], [0.1, 0.4, 7.0]])
    batch = ppo.credit(step_with(sampled_logps=log_ratios))
    kl = torch.tensor([[0.06, 0.03, 0.05], [0.05, 0.04, 0.0]])  # 0.1 times the sum of the remaining log-ratios
    assert torch.allclose(batch.targets, torch.tensor([[1.0, 1, 1], [0, 0, 0]]) - kl, atol=1e-6)


def test_during_the_warm_up_of_the_critic_the_policy_does_not_learn():
    ppo = build("algorithms", "ppo", beta=0.0, critic_warmup_steps=3)
    early, late = (ppo.credit(step_with(number=number)) for number in (3, 4))
    assert (early.advantages == 0).all() and late.advantages.abs().sum() > 0
    assert torch.equal(early.targets, late.targets)


def test_losses_equal_hand_computed_values():
    ppo = build("algorithms", "ppo", beta=0.0, vf_coef=0.5, dual_clip=3.0)
    zeros = torch.zeros(1, 4)
    batch = Batch(
        torch.ones(1, 4), torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.ones(1, 4), old_logps=zeros,
        old_values=zeros, targets=torch.ones(1, 4), values=torch.tensor([[0.5, 0.1, 2.0, -0.5]]),
    )  # fmt: skip
    loss, log = ppo.loss(torch.log(torch.tensor([[1.5, 0.9, 9.0, 0.5]])), batch)
    critic = [
        0.8**2,
        0.9**2,
        1.0,
        1.5**2,
    ]  # value clipped to 0.2; not clipped; the worse of clipped and not; not clipped
    policy = [-1.2, -0.9, 3.0, 0.8]  # clipped; not clipped; at most 3 times |A|; clipped
    assert log["critic/loss"][0].tolist() == pytest.approx([c / 2 for c in critic])
    assert loss[0].tolist() == pytest.approx([p + 0.25 * c for p, c in zip(policy, critic, strict=True)])


def test_explained_variance_is_1_for_a_perfect_critic_and_0_for_a_constant_one():
    ppo, zeros = build("algorithms", "ppo"), torch.zeros(1, 4)
    returns = torch.tensor([[0.0, 1.0, 0.0, 1.0]])

    def explained_variance(values):
        batch = Batch(torch.ones(1, 4), zeros, zeros, old_values=values, targets=returns)
        return ppo.extra_metrics(batch)["critic/explained_variance"]

    assert explained_variance(returns) == 1.0
    assert explained_variance(zeros + 0.7) == pytest.approx(0)
    assert explained_variance(1 - returns) == pytest.approx(-3)


def test_settings_that_a_critic_cannot_work_with_are_refused(kitchen, tmp_path):
    with pytest.raises(UserError, match="k1_reward"):
        build("algorithms", "ppo", kl="k3")
    with pytest.raises(UserError, match=r"critic must be one of detached, shared, adapter, not 'own'"):
        train(tmp_path / "a", "algorithm=ppo", "algorithm.critic=own", "train.max_steps=1")
    with pytest.raises(UserError, match="lora_r"):
        train(tmp_path / "b", "algorithm=ppo", "algorithm.critic=adapter", "train.max_steps=1")


@pytest.fixture(params=["detached", "shared", "adapter"])
def policy_with_critic(request, kitchen, prompts):
    """A policy whose critic has random weights, the inputs of a prompt, and completions."""
    from rlvid.config import load

    lora = ["train.lora_r=4"] if request.param == "adapter" else []
    config = load("nano", lora)
    policy = policy_of(config)
    add_critic(policy, request.param, config)
    torch.manual_seed(0)
    torch.nn.init.normal_(policy.critic.head.weight)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    groups = [Group(prompts[0], [Completion("", (11, 12, 13)), Completion("", (14, 15))])]
    return policy, [policy.encode(prompts[0])], groups


def test_a_value_depends_on_the_state_before_its_token_only(policy_with_critic):
    policy, encoded, (group,) = policy_with_critic
    with torch.no_grad():
        before = policy(encoded, [group]).values
        last = Group(group.prompt, [Completion("", (11, 12, 99)), Completion("", (14, 77))])
        after = policy(encoded, [last]).values
        blank = policy([policy.encode(group.prompt, _blank(policy, group.prompt))], [group]).values
    assert torch.allclose(before, after, atol=1e-6)  # the value of a token does not depend on that token
    assert (before[:, 0] == before[0, 0]).all()  # the first value does not depend on the completion
    assert not torch.allclose(before, blank, atol=1e-3)  # it depends on the video


def _blank(policy, prompt):
    from rlvid.video.views import apply_view

    return apply_view("blank", policy.frames(prompt), prompt.id)


def test_the_error_of_the_critic_reaches_only_the_parameters_of_its_kind(policy_with_critic):
    policy, encoded, groups = policy_with_critic
    policy.zero_grad()
    policy(encoded, groups).values.sum().backward()
    critic_names = set(critic_parameter_names(policy))
    reached = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    if policy.critic.kind == "shared":
        assert any("visual" in name for name in reached)
    else:
        assert reached <= critic_names and "critic.head.weight" in reached
        assert policy.critic.kind != "adapter" or any(".critic." in name for name in reached)


def test_a_critic_learns_the_returns(policy_with_critic):
    policy, encoded, groups = policy_with_critic
    critic_names = set(critic_parameter_names(policy))
    optimizer = torch.optim.Adam([p for name, p in policy.named_parameters() if name in critic_names], 1e-2)
    returns, errors = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), []
    for _ in range(40):
        error = (policy(encoded, groups).values - returns).square().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[-1] < 0.2 * errors[0]


def test_the_adapter_of_the_critic_does_not_change_the_policy(kitchen, prompts):
    from rlvid.config import load

    config = load("nano", ["train.lora_r=4"])
    policy = policy_of(config)
    encoded, groups = [policy.encode(prompts[0])], [Group(prompts[0], [Completion("", (11, 12, 13))])]
    before = policy(encoded, groups).logps
    add_critic(policy, "adapter", config)
    for name, parameter in policy.named_parameters():
        if ".critic." in name:
            torch.nn.init.normal_(parameter)
    assert torch.equal(policy(encoded, groups).logps, before)
    trainable = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert trainable == {n for n, _ in policy.named_parameters() if ".lora_" in n or n.startswith("critic.")}
    assert len(lora.adapter_parameters(policy.model)) == 2 * 56


@pytest.mark.parametrize("critic", ["detached", "shared", "adapter"])
def test_a_run_with_a_critic_resumes_exactly(kitchen, tmp_path, critic):
    changes = ["algorithm=ppo", f"algorithm.critic={critic}", "algorithm.num_iterations=2", "eval.splits=['L1']"]
    changes += ["algorithm.critic_learning_rate=1e-2", "train.learning_rate=1e-4", "train.save_steps=2"]
    changes += ["train.lora_r=4"] if critic == "adapter" else []
    uninterrupted = read_jsonl(train(tmp_path, *changes, "train.max_steps=3") / "metrics.jsonl")
    assert (tmp_path / "checkpoints/step-000002/critic.safetensors").exists()
    assert {"critic/explained_variance", "critic/value", "kl", "clip_ratio/region_mean"} <= uninterrupted[0].keys()
    stop_after(tmp_path, 2)
    train(tmp_path, *changes, "train.max_steps=3", resume=True)
    assert read_jsonl(tmp_path / "metrics.jsonl") == uninterrupted
