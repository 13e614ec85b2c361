"""Direct preference optimization, on the policy's own groups or on given pairs (2023, arXiv:2305.18290)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from algorithms._unused import refuse_unused
from rlvid.algorithm import Algorithm, Losses, per_completion_weights, with_advantages, zscore
from rlvid.types import Batch, Step
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class DPO(Algorithm):
    """loss = -log sigmoid(beta h), h = log pi/pi_ref of the chosen minus that of the rejected, summed over tokens.

    In each group, the completion with the highest total reward is preferred to the one with the lowest. Ties are broken
    by a hash of sample and step, never by position in the group (TRL's online trainer prefers the first of two equals).
    A group whose completions all earned the same has no pair, but keeps its share 1/P of the loss, so that a step with
    few pairs is a small step. With `pairs = "all"`, each completion is preferred to all that earned less; the pairs of
    a group have equal weight.

    With `preferences`, pairs are read from a file with lines {"id": .., "chosen": .., "rejected": ..}, where `id` is
    that of a training sample, and nothing is sampled. Rewards are then only measured.

    `beta` is the temperature of the preference, not the coefficient of a KL: there is no other KL term.
    """

    beta: float = 0.1
    pairs: str = "best_worst"  # or "all"
    rpo_alpha: float = 0.0  # weight of the chosen's negative log-likelihood per token (iterative RPO, arXiv:2404.19733)
    preferences: str = ""  # a JSONL file of pairs; empty: pairs of the policy's own completions

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self)
        if self.pairs not in ("best_worst", "all"):
            raise ValueError(f'pairs must be "best_worst" or "all", not {self.pairs!r}')
        if self.rpo_alpha < 0:
            raise ValueError(f"rpo_alpha must be 0 or more, not {self.rpo_alpha}: it would make the chosen less likely")
        if self.preferences:
            unused = ("pairs", "multi_objective_aggregation")
            refuse_unused(self, unused, "with preferences no rewards are compared: leave it out")

    @property
    def completion_source(self) -> str:
        """The policy, or the data set with `preferences`."""
        return "data" if self.preferences else "policy"

    @property
    def ignored_by_gdpo(self) -> str:
        """Nothing: completions are compared by their sums of z-scores."""
        return ""

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: with `preferences` nothing is sampled."""
        return "with preferences nothing is sampled" if self.preferences else super().flat_group_credit

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return (P, G), for (P, G) rewards: a completion's total weight as chosen minus that as rejected."""
        return net_preference(self.preference_weights(rewards))

    def credit(self, step: Step) -> Batch:
        """Return the batch with (B, G) pair weights; as advantages, 1 for chosen, -1 for rejected, 0 for the others."""
        if self.preferences:  # completions come in pairs, the chosen one first
            pair_weights = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).expand(len(step.ids), 2, 2)
        else:
            pair_weights = self.preference_weights(comparison_rewards(self, step))
            if self.pairs == "best_worst":
                pair_weights = draw_one_pair(pair_weights, step.ids, step.number)
        batch = with_advantages(step, net_preference(pair_weights))
        return replace(batch, pair_weights=pair_weights.flatten(0, 1).float())

    def preference_weights(self, rewards: Tensor) -> Tensor:
        """Return (P, G, G), for (P, G) rewards: the weight of the pair (chosen, rejected) in its group.

        The weights of a group sum to 1, or to 0 where all completions earned the same.
        """
        gaps = (rewards[:, :, None] - rewards[:, None, :]).nan_to_num()
        least = gaps.amax((1, 2), keepdim=True) if self.pairs == "best_worst" else torch.zeros_like(gaps)
        counts = (gaps > 1e-9) & (gaps >= least - 1e-9)
        return counts.double() / counts.sum((1, 2), keepdim=True).clamp(min=1)

    def weights(self, mask: Tensor) -> Tensor:
        """Return the (B, T) token weights: 1/B per completion, spread evenly over its tokens."""
        return per_completion_weights(mask)

    def scores(self, log_ratios: Tensor, mask: Tensor) -> Tensor:
        """Return the (B,) scores whose differences are the margins h, for (B,) log pi/pi_ref of completions."""
        return log_ratios

    def pair_loss(self, margins: Tensor) -> Tensor:
        """Return (B, G) the loss of preferring a row to each member of its group, for (B, G) margins h."""
        return -logsigmoid(self.beta * margins)

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """Return (B, T) the loss of each row's pairs as the chosen one, at all of its tokens, and quantities to log."""
        pair_weights = batch.pair_weights
        assert pair_weights is not None
        group_size = pair_weights.shape[1]
        chosen_weight = pair_weights.sum(-1, keepdim=True)  # (B, 1)
        rejected_weight = pair_weights.view(-1, group_size, group_size).sum(1).flatten()  # (B,)

        ratios = log_ratios(logps, batch)  # (B,)
        pair_losses = self.pair_loss(pairwise_differences(self.scores(ratios, batch.mask), group_size))  # (B, G)
        loss = (pair_weights * pair_losses).sum(-1, keepdim=True) - self.rpo_alpha * chosen_weight * logps
        loss = group_size * loss  # because a row's tokens weigh 1/B, and a group's pairs together must weigh 1/P
        if self.entropy_coef and batch.entropy is not None:
            loss = loss - self.entropy_coef * batch.entropy

        margins = self.beta * pairwise_differences(ratios, group_size)
        log = outcome_log(logps, batch, self.beta * ratios, chosen_weight[:, 0] > 0, rejected_weight > 0)
        for name, values in (("margins", margins), ("accuracies", margins > 0)):
            means = (pair_weights * values).sum(-1) / chosen_weight[:, 0]  # NaN for a row that is never chosen
            log[f"rewards/{name}"] = at_first_token(means, batch.mask)
        return loss, log


def check_temperature(algorithm: Algorithm) -> None:
    """Raise ValueError on settings without a meaning where `beta` is the temperature of a preference."""
    if algorithm.beta <= 0:
        raise ValueError(f"beta is the temperature of the preference and must be above 0, not {algorithm.beta}")
    if algorithm.kl != "k3":
        raise ValueError(f"there is no separate KL here, so kl cannot be {algorithm.kl!r}; leave it out")


def comparison_rewards(algorithm: Algorithm, step: Step) -> Tensor:
    """Return (P, G) the total rewards by which completions are compared; NaN for a completion to leave out."""
    if algorithm.multi_objective_aggregation == "normalize_then_sum":
        step = replace(step, columns={name: zscore(column) for name, column in step.columns.items()})
    rewards = algorithm.rewards(step)
    if algorithm.mask_truncated_completions and step.finished is not None:
        rewards = rewards.where(step.finished, torch.nan)
    return rewards


def draw_one_pair(pair_weights: Tensor, ids: Sequence[str], number: int) -> Tensor:
    """Return (P, G, G) with weight 1 for one pair of each group that has any, drawn by a hash of sample and step."""
    drawn = torch.zeros_like(pair_weights)
    for group, (sample, candidates) in enumerate(zip(ids, pair_weights, strict=True)):
        pairs = candidates.nonzero().tolist()
        if pairs:
            chosen, rejected = pairs[int(uniform_hash("pair", sample, number) * len(pairs))]
            drawn[group, chosen, rejected] = 1
    return drawn


def net_preference(pair_weights: Tensor) -> Tensor:
    """Return (P, G), for (P, G, G) pair weights: a completion's total weight as chosen minus that as rejected."""
    return pair_weights.sum(2) - pair_weights.sum(1)


def log_ratios(logps: Tensor, batch: Batch) -> Tensor:
    """Return (B,) log pi/pi_ref of whole completions, for (B, T) log-probs."""
    assert batch.ref_logps is not None
    return ((logps - batch.ref_logps) * batch.mask).sum(-1)


def pairwise_differences(values: Tensor, group_size: int) -> Tensor:
    """Return (B, G) each row's value minus the value of each member of its group, for (B,) values."""
    groups = values.view(-1, group_size)
    return (groups[:, :, None] - groups[:, None, :]).flatten(0, 1)


def outcome_log(logps: Tensor, batch: Batch, rewards: Tensor, chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    """Return log-probs and implicit rewards of chosen and rejected completions, (B, T), under TRL's names.

    `rewards` are (B,) beta log pi/pi_ref; `chosen` and `rejected` are (B,) bool.
    """
    completion_logps = (logps * batch.mask).sum(-1)
    log = {}
    for name, rows in (("chosen", chosen), ("rejected", rejected)):
        log[f"logps/{name}"] = at_first_token(completion_logps.where(rows, torch.nan), batch.mask)
        log[f"rewards/{name}"] = at_first_token(rewards.where(rows, torch.nan), batch.mask)
    return log


def at_first_token(values: Tensor, mask: Tensor) -> Tensor:
    """Return (B, T) a (B,) value of each row at its first token and NaN elsewhere, so that rows count equally."""
    table = torch.full_like(mask, torch.nan)
    table[:, 0] = values.detach()
    return table
