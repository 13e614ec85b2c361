"""Proximal policy optimization with a critic (Schulman et al. 2017, arXiv:1707.06347)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm, Losses, k1, old_logps
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class PPO(Algorithm):
    """A = GAE(gamma, lam) against a critic, whitened over the tokens of the step (arXiv:1506.02438).

    r_t = -beta k1_t, plus R at the last token; d_t = r_t + gamma V_{t+1} - V_t; A_t = d_t + gamma lam A_{t+1}, where
    V_t is the value of the state before token t, and 0 after the last token. The loss is
    -min(rho A, clip(rho) A) + vf_coef / 2 max((V - returns)^2, (V clipped around its old value - returns)^2), averaged
    over all tokens. There is no group baseline; the critic takes its place.

    Defaults are those of TRL's PPOTrainer (trl/experimental/ppo at huggingface/trl 2d3eb40; TRL 1.16 no longer has
    it), except for the critic: theirs is a whole model, ours is a head or an adapter (rlvid/policy/critic.py).
    """

    beta: float = 0.05
    kl: str = "k1_reward"
    num_iterations: int = 4
    gamma: float = 1.0
    lam: float = 0.95
    epsilon: float = 0.2
    dual_clip: float | None = None  # the maximum loss of a token with A < 0, in units of |A| (arXiv:1912.09729)
    vf_coef: float = 0.1
    cliprange_value: float = 0.2
    critic: str = "detached"  # or "shared", "adapter"
    critic_learning_rate: float = 1e-3
    # Steps at the start in which only the critic learns (train.weight_decay still acts on the policy).
    critic_warmup_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl != "k1_reward" or self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                'the critic predicts one total reward: kl must be "k1_reward", '
                'and multi_objective_aggregation "sum_then_normalize"'
            )
        if self.critic_warmup_steps and (self.entropy_coef or self.critic == "shared"):
            raise ValueError(
                'in critic_warmup_steps only the critic learns: no entropy_coef, and a "detached" or "adapter" critic'
            )
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise ValueError(f"gamma and lam must be in [0, 1], not {self.gamma} and {self.lam}")
        if self.epsilon <= 0 or min(self.cliprange_value, self.vf_coef) < 0:
            raise ValueError(
                "epsilon must be above 0, cliprange_value and vf_coef 0 or more, "
                f"not {self.epsilon}, {self.cliprange_value} and {self.vf_coef}"
            )
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"dual_clip must be above 1, not {self.dual_clip}")

    @property
    def critic_settings(self) -> tuple[str, float]:
        """The kind of critic and its learning rate."""
        return self.critic, self.critic_learning_rate

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: a critic is the baseline, not the group."""
        return "the critic takes the place of a group's mean"

    def credit(self, step: Step) -> Batch:
        """Return the batch with advantages and, as targets, returns, (B, T) each."""
        batch = step.batch
        assert batch.old_values is not None
        rewards = -self.beta * k1(batch) if self.beta else torch.zeros_like(batch.mask)
        last = batch.mask.sum(-1).long() - 1  # (B,) index of each completion's last token
        rewards[torch.arange(len(last)), last] += self.rewards(step).flatten().float()
        advantages = gae(rewards, batch.old_values, batch.mask, self.gamma, self.lam)
        returns = advantages + batch.old_values * batch.mask
        policy_learns = float(step.number > self.critic_warmup_steps)
        return replace(batch, advantages=policy_learns * whiten_tokens(advantages, batch.mask), targets=returns)

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """Return the clipped surrogate, (B, T)."""
        ratio = (logps - old_logps(logps, batch)).exp()
        unclipped = ratio * batch.advantages
        clipped = torch.minimum(unclipped, ratio.clamp(1 - self.epsilon, 1 + self.epsilon) * batch.advantages)
        if self.dual_clip is not None:
            floor = self.dual_clip * batch.advantages
            clipped = torch.where(batch.advantages < 0, torch.maximum(clipped, floor), clipped)
        return clipped, {"clip_ratio/region_mean": (clipped != unclipped).float()}

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """Return the (B, T) loss of the policy plus that of the critic, and quantities to log."""
        loss, log = super().loss(logps, batch)
        values, old_values, returns = batch.values, batch.old_values, batch.targets
        assert values is not None and old_values is not None and returns is not None
        clipped_values = old_values + (values - old_values).clamp(-self.cliprange_value, self.cliprange_value)
        error = torch.maximum((values - returns).square(), (clipped_values - returns).square()) / 2
        return loss + self.vf_coef * error, log | {"critic/loss": error, "critic/value": values}

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """Return `critic/explained_variance`: the share of the returns' variance that the critic explains.

        1 is all of it, 0 is no better than their mean, below 0 is worse.
        """
        assert batch.old_values is not None and batch.targets is not None
        is_token = batch.mask > 0
        returns, errors = batch.targets[is_token], (batch.targets - batch.old_values)[is_token]
        variance = returns.var(correction=0).item()
        explained = 1 - errors.var(correction=0).item() / variance if variance > 1e-12 else 0.0
        return {"critic/explained_variance": explained}


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Return (B, T) generalized advantage estimates, for (B, T) rewards, values and mask.

    The value after a completion's last token is 0.
    """
    advantages = torch.zeros_like(rewards)
    next_advantage, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))  # (B,)
    for t in reversed(range(rewards.shape[1])):
        td_error = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = (td_error + gamma * lam * next_advantage) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = next_advantage
    return advantages


def whiten_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Return (B, T) values shifted and scaled to mean 0 and variance 1 over the tokens of the mask, 0 elsewhere."""
    tokens = values[mask > 0]
    return (values - tokens.mean()) * (tokens.var() + 1e-8).rsqrt() * mask
