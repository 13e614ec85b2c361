"""Proximal policy optimisation with a critic (Schulman et al. 2017, arXiv:1707.06347)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm, Losses, k1, old_logps
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class PPO(Algorithm):
    """A token's credit is what followed it, next to what the critic expected: A = GAE(gamma, lam), whitened.

    r_t = R at the last token, less beta k1_t; d_t = r_t + gamma V_{t+1} - V_t; A_t = d_t + gamma lam A_{t+1}
    (arXiv:1506.02438), V_t being the value of the state before token t, and 0 after the last. The loss is
    -min(rho A, clip(rho) A) + vf_coef / 2 max((V - returns)^2, (V clipped around its old value - returns)^2), a mean
    over all tokens. There is no group: the critic stands in for it. Defaults are TRL's experimental PPOTrainer's, but
    for the critic: theirs is a whole model, ours a head or an adapter (rlvid/policy/critic.py).
    """

    beta: float = 0.05
    kl: str = "k1_reward"
    num_iterations: int = 4
    gamma: float = 1.0
    lam: float = 0.95
    epsilon: float = 0.2
    dual_clip: float | None = None  # the most that a token with A < 0 can cost, in units of |A| (arXiv:1912.09729)
    vf_coef: float = 0.1
    cliprange_value: float = 0.2
    critic: str = "detached"  # or "shared", "adapter"
    critic_learning_rate: float = 1e-3
    critic_warmup_steps: int = (
        0  # at first, only the critic learns (but for train.weight_decay, which is the optimiser's)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl != "k1_reward" or self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                'the critic values one total reward: kl is "k1_reward", and rewards are summed as they are'
            )
        if self.critic_warmup_steps and (self.entropy_coef or self.critic == "shared"):
            raise ValueError(
                'in critic_warmup_steps only the critic learns: no entropy_coef, and a "detached" or "adapter" critic'
            )
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise ValueError(f"gamma and lam must be in [0, 1], not {self.gamma} and {self.lam}")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"dual_clip must be above 1, not {self.dual_clip}")

    @property
    def critic_settings(self) -> tuple[str, float]:
        """The kind of critic, and its learning rate."""
        return self.critic, self.critic_learning_rate

    def credit(self, step: Step) -> Batch:
        """Advantages and returns, (B, T), of the whole step."""
        batch = step.batch
        assert batch.old_values is not None
        rewards = -self.beta * k1(batch) if self.beta else torch.zeros_like(batch.mask)
        ends = batch.mask.sum(-1).long() - 1
        rewards[torch.arange(len(ends)), ends] += self.rewards(step).flatten().float()
        advantages = gae(rewards, batch.old_values, batch.mask, self.gamma, self.lam)
        returns = advantages + batch.old_values * batch.mask
        learning = float(step.number > self.critic_warmup_steps)
        return replace(batch, advantages=learning * whitened(advantages, batch.mask), targets=returns)

    def surrogate(self, logps: Tensor, batch: Batch) -> Losses:
        """The clipped surrogate."""
        ratio = (logps - old_logps(logps, batch)).exp()
        gain = ratio * batch.advantages
        bounded = torch.minimum(gain, ratio.clamp(1 - self.epsilon, 1 + self.epsilon) * batch.advantages)
        if self.dual_clip is not None:
            floor = self.dual_clip * batch.advantages
            bounded = torch.where(batch.advantages < 0, torch.maximum(bounded, floor), bounded)
        return bounded, {"clip_ratio/region_mean": (bounded != gain).float()}

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """The policy's loss and the critic's."""
        loss, log = super().loss(logps, batch)
        assert batch.values is not None and batch.old_values is not None and batch.targets is not None
        near = batch.old_values + (batch.values - batch.old_values).clamp(-self.cliprange_value, self.cliprange_value)
        error = torch.maximum((batch.values - batch.targets).square(), (near - batch.targets).square()) / 2
        return loss + self.vf_coef * error, log | {"critic/loss": error, "critic/value": batch.values}

    def extra_metrics(self, batch: Batch) -> dict[str, float]:
        """How much of the returns' variance the critic foresaw: 1 all, 0 no more than their mean, below 0 less."""
        assert batch.old_values is not None and batch.targets is not None
        seen = batch.mask > 0
        returns, missed = batch.targets[seen], (batch.targets - batch.old_values)[seen]
        spread = returns.var(correction=0).item()
        return {"critic/explained_variance": 1 - missed.var(correction=0).item() / spread if spread > 1e-12 else 0.0}


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """(B, T) rewards, values and mask -> (B, T) advantages; nothing is expected after a completion's last token."""
    advantages, later, after = torch.zeros_like(rewards), torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + gamma * after - values[:, t]
        later = (surprise + gamma * lam * later) * mask[:, t]
        advantages[:, t], after = later, values[:, t] * mask[:, t]
    return advantages


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """(B, T) with mean 0 and variance 1 over the tokens of the mask."""
    seen = values[mask > 0]
    return (values - seen.mean()) * (seen.var() + 1e-8).rsqrt() * mask
