"""Tensors and losses for tests of the preference algorithms: four groups of a chosen and a rejected completion."""

import torch

from tests.helpers import toy

P, T = 4, 6
MASK = (torch.arange(T) < torch.tensor([6, 2, 4, 1, 3, 5, 6, 2])[:, None]).float()  # (8, T), chosen before rejected
CHOSEN_FIRST = torch.tensor([[1.0, 0.0]] * P, dtype=torch.float64)  # rewards


def tensors():
    """Return (8, T) log-probabilities of the policy and of the reference."""
    generator = torch.Generator().manual_seed(0)
    logps = -torch.rand(2 * P, T, generator=generator) * 3
    return logps, logps + torch.randn(2 * P, T, generator=generator)


def our_loss(algorithm, rewards=CHOSEN_FIRST, mask=MASK, **fields):
    """Return our loss, its gradient with respect to the log-probabilities, and the means of what is logged."""
    logps, ref = tensors()
    leaf = logps.requires_grad_()
    batch = toy.make_batch(algorithm, rewards, mask, ref_logps=ref, **fields)
    losses, log = algorithm.loss(leaf, batch.with_outputs(T, torch.zeros(2 * P, T), mask))
    loss = (losses * batch.weights).sum()
    loss.backward()
    return loss.item(), leaf.grad, {name: value[~value.isnan()].mean().item() for name, value in log.items()}


def margins():
    """Return (4,) h: log pi/pi_ref of the chosen minus that of the rejected, summed over tokens."""
    logps, ref = tensors()
    log_ratios = ((logps - ref) * MASK).sum(-1)
    return log_ratios[0::2] - log_ratios[1::2]
