"""Direct preference optimisation, on the policy's own groups or on given pairs (2023, arXiv:2305.18290)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlvid.algorithm import Algorithm, Losses, zscore
from rlvid.types import Batch, Step
from rlvid.utils.hashing import uniform_hash


@dataclass(frozen=True)
class DPO(Algorithm):
    """loss = -log sigmoid(beta h), h = log pi/pi_ref of the chosen less that of the rejected, summed over tokens.

    In each group the best completion by total reward is preferred to the worst. Among equals a hash of sample and step
    decides, never the place in the group (TRL's online trainer prefers the first of two equals), and a group whose
    completions all earned the same is passed over. It keeps its share, 1/P, so that a step with few pairs is a small
    one. With `pairs = "all"`, whoever earned more is preferred to whoever earned less, a group's pairs sharing alike.

    With `preferences`, the pairs are read from a file of lines {"id": .., "chosen": .., "rejected": ..}, `id` being a
    training sample's, and nothing is sampled; rewards then only say how good the chosen and the rejected are.

    `beta` is the temperature of the preference, not the weight of a KL: no other pull is added.
    """

    beta: float = 0.1
    pairs: str = "best_worst"  # or "all"
    rpo_alpha: float = 0.0  # weight of the chosen's negative log-likelihood per token (iterative RPO, arXiv:2404.19733)
    preferences: str = ""  # a JSONL file of pairs to learn from; none: the policy's own completions

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self)
        if self.pairs not in ("best_worst", "all"):
            raise ValueError(f'pairs must be "best_worst" or "all", not {self.pairs!r}')

    @property
    def completion_source(self) -> str:
        """The policy samples, unless a file says what is preferred."""
        return "data" if self.preferences else "policy"

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G): how much more often a completion is the chosen one than the rejected."""
        return net(self.comparable(rewards))

    def credit(self, step: Step) -> Batch:
        """The batch with its pairs, (B, G); as advantages, 1 for the chosen, -1 for the rejected, 0 for the others."""
        if self.preferences:
            pairs = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).expand(len(step.ids), 2, 2)
        else:
            pairs = self.comparable(totals(self, step))
            pairs = draw(pairs, step.ids, step.number) if self.pairs == "best_worst" else pairs
        advantages = net(pairs).reshape(-1, 1).float() * step.batch.mask
        return replace(step.batch, advantages=advantages, pair_weights=pairs.flatten(0, 1).float())

    def comparable(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards -> (P, G, G): the share of each pair, chosen first; a group's add up to 1, or to 0 if flat."""
        gaps = (rewards[:, :, None] - rewards[:, None, :]).nan_to_num()
        least = gaps.amax((1, 2), keepdim=True) if self.pairs == "best_worst" else torch.zeros_like(gaps)
        counted = (gaps > 1e-9) & (gaps >= least - 1e-9)
        return counted.double() / counted.sum((1, 2), keepdim=True).clamp(min=1)

    def weights(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T): 1/B for each row, shared by its tokens."""
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / len(mask)

    def scores(self, ratios: Tensor, mask: Tensor) -> Tensor:
        """(B,) log pi/pi_ref of whole completions -> (B,) what is compared."""
        return ratios

    def pair_loss(self, h: Tensor) -> Tensor:
        """(B, G) by how much a row's score exceeds another's -> (B, G) the loss, if it was preferred to that one."""
        return -logsigmoid(self.beta * h)

    def loss(self, logps: Tensor, batch: Batch) -> Losses:
        """Each row's losses against those that it was preferred to, at each of its tokens."""
        assert batch.pair_weights is not None
        size, won = batch.pair_weights.shape[1], batch.pair_weights.sum(-1, keepdim=True)
        ratios = log_ratios(logps, batch)
        losses = self.pair_loss(differences(self.scores(ratios, batch.mask), size))
        loss = (batch.pair_weights * losses).sum(-1, keepdim=True) - self.rpo_alpha * won * logps
        bonus = self.entropy_coef * batch.entropy if self.entropy_coef and batch.entropy is not None else 0.0
        lost = batch.pair_weights.view(-1, size, size).sum(1).flatten()
        margins = self.beta * differences(ratios, size)
        log = outcomes(logps, batch, self.beta * ratios, won[:, 0] > 0, lost > 0) | {
            "rewards/margins": at_first((batch.pair_weights * margins).sum(-1) / won[:, 0], batch.mask),
            "rewards/accuracies": at_first((batch.pair_weights * (margins > 0)).sum(-1) / won[:, 0], batch.mask),
        }
        return size * loss - bonus, log  # a group's share is that of its `size` rows


def check_temperature(algorithm: Algorithm) -> None:
    """Refuse what has no meaning where `beta` is a preference's temperature."""
    if algorithm.beta <= 0:
        raise ValueError(f"beta is the temperature of the preference and must be above 0, not {algorithm.beta}")
    if algorithm.kl != "k3":
        raise ValueError(f"there is no separate KL here, so kl cannot be {algorithm.kl!r}; leave it out")


def totals(algorithm: Algorithm, step: Step) -> Tensor:
    """(P, G) what completions are compared by; not a number for one that is to be passed over."""
    if algorithm.multi_objective_aggregation == "normalize_then_sum":
        step = replace(step, columns={name: zscore(column) for name, column in step.columns.items()})
    rewards = algorithm.rewards(step)
    if algorithm.mask_truncated_completions and step.finished is not None:
        rewards = rewards.where(step.finished, torch.nan)
    return rewards


def draw(pairs: Tensor, ids: Sequence[str], number: int) -> Tensor:
    """(P, G, G) -> (P, G, G): one of the pairs of each group that has any, by a hash of the sample and the step."""
    drawn = torch.zeros_like(pairs)
    for group, (sample, candidates) in enumerate(zip(ids, pairs, strict=True)):
        places = candidates.nonzero().tolist()
        if places:
            chosen, rejected = places[int(uniform_hash("pair", sample, number) * len(places))]
            drawn[group, chosen, rejected] = 1
    return drawn


def net(pairs: Tensor) -> Tensor:
    """(P, G, G) -> (P, G): how much a completion was preferred, less how much others were preferred to it."""
    return pairs.sum(2) - pairs.sum(1)


def log_ratios(logps: Tensor, batch: Batch) -> Tensor:
    """(B, T) log-probs -> (B,) log pi/pi_ref of whole completions."""
    assert batch.ref_logps is not None
    return ((logps - batch.ref_logps) * batch.mask).sum(-1)


def differences(values: Tensor, size: int) -> Tensor:
    """(B,) -> (B, G): each row's value, less that of every member of its group."""
    groups = values.view(-1, size)
    return (groups[:, :, None] - groups[:, None, :]).flatten(0, 1)


def outcomes(logps: Tensor, batch: Batch, rewards: Tensor, won: Tensor, lost: Tensor) -> dict[str, Tensor]:
    """Log-probabilities and implicit rewards, beta log pi/pi_ref, of chosen and rejected, under TRL's names."""
    whole, log = (logps * batch.mask).sum(-1), {}
    for name, rows in (("chosen", won), ("rejected", lost)):
        log[f"logps/{name}"] = at_first(whole.where(rows, torch.nan), batch.mask)
        log[f"rewards/{name}"] = at_first(rewards.where(rows, torch.nan), batch.mask)
    return log


def at_first(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) -> (B, T): a row's quantity at its first token, and not a number at the others, so that rows count alike."""
    table = torch.full_like(mask, torch.nan)
    table[:, 0] = values.detach()
    return table
