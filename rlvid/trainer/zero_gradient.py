"""Groups that the policy learns nothing from: a forward pass is enough for them.

Algorithms that compare the completions of a prompt give no credit to a group whose rewards are all equal: its
advantages are 0, and without a KL or an entropy bonus in the loss it adds 0 to the gradient of every weight. Its
forward pass is needed, because entropies and differences to the sampler are logged over all completions. Its backward
pass, twice as much work, and what the forward pass would have kept for it are left out. The gradient stays the same,
but for the order in which numbers are added. Where sampling kept the prompts (`policy.prompt_pass`), this holds for the
completions; prompts are differentiated together, or no longer kept if too few groups are left to learn from.

No algorithm has to say so. A loss depends on the weights only through the outputs of the forward pass: (B, T)
log-probs, entropies and values. Where its gradient by all three of them is 0, it is 0 by every weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm, old_logps
from rlvid.policy.types import ForwardOutput
from rlvid.trainer.algorithm_errors import checked_loss
from rlvid.trainer.metrics import MetricAccumulator
from rlvid.trainer.rollout import Rollout
from rlvid.types import Batch


def forward_without_gradient(
    learner: Any, algorithm: Algorithm, minibatch: Rollout, temperature: float, budget: int
) -> tuple[Rollout, MetricAccumulator]:
    """Run the forward pass of groups whose loss has no gradient, in micro-batches of at most `budget` tokens.

    Processes do not communicate here. If credit already needed a forward pass with gradients, there is nothing to do.

    Args:
        learner: returns (B, T) outputs (see `Rollout.forward`).
        algorithm: gives the loss.
        minibatch: this process's credited groups of one optimizer step.
        temperature: of the log-probs.
        budget: in tokens.

    Returns:
        The groups that still need a backward pass, and the metrics of those that do not. At least one group is left,
        so that every weight has a gradient, if only 0: AdamW does not move a weight that has none, not even by its
        momentum.
    """
    metrics = MetricAccumulator()
    if not minibatch.groups or minibatch.kept_forward:
        return minibatch, metrics
    to_learn = groups_to_learn(algorithm, minibatch.batch, len(minibatch.groups))
    to_learn[0] |= not any(to_learn)
    indices = {index for index, learns in zip(minibatch.indices, to_learn, strict=True) if learns}
    others = minibatch.select([position for position, learns in enumerate(to_learn) if not learns])
    for micro in others.micro_batches(budget):
        with torch.no_grad():
            outputs = micro.forward(learner, temperature)
        leaves, variables = differentiable(outputs)
        loss, batch, quantities = weighted_loss(algorithm, variables, micro.batch)
        if any(has_gradient(loss, leaves, len(micro.groups))):  # there is one after all
            indices.update(micro.indices)
        else:
            metrics.add_micro_batch(algorithm, loss, outputs.logps, batch, quantities)
    return minibatch.select([i for i, index in enumerate(minibatch.indices) if index in indices]), metrics


def groups_to_learn(algorithm: Algorithm, batch: Batch, groups: int) -> list[bool]:
    """Predict before the forward pass, for each group, whether its loss has a gradient.

    The loss is computed from outputs that are known at this point: the log-probs before the first optimizer step, or
    the sampler's; entropies and values of 1. Those of the forward pass differ, so a group that seems to have no
    gradient must be checked again with `has_gradient`.

    Args:
        algorithm: gives the loss.
        batch: B rows, in groups of equal size, as the loss of the update gets them.
        groups: how many.

    Returns:
        Whether each of the groups is to be learnt from.
    """
    assert batch.sampled_logps is not None
    ones = torch.ones_like(batch.mask)
    leaves, variables = differentiable(ForwardOutput(old_logps(batch.sampled_logps, batch), ones, ones))
    return has_gradient(weighted_loss(algorithm, variables, batch)[0], leaves, groups)


def has_gradient(loss: Tensor, outputs: Sequence[Tensor], groups: int) -> list[bool]:
    """Return for each group whether the loss, a number, has a gradient other than 0 by one of its outputs, (B, T).

    NaN counts as one: the update has to meet it, so that the run ends with a message.
    """
    if not loss.requires_grad:
        return [False] * groups
    gradients = torch.autograd.grad(loss, outputs, allow_unused=True)
    found = torch.stack([gradient.ne(0).any(1) for gradient in gradients if gradient is not None])  # (outputs, B)
    return found.any(0).view(groups, -1).any(1).tolist()


def differentiable(outputs: Sequence[Tensor]) -> tuple[list[Tensor], ForwardOutput]:
    """Return variables by which a loss can be differentiated, and the outputs made from them, for the loss.

    The outputs are copies, which a loss may change in place, as it may those of the model.
    """
    leaves = [output.detach().requires_grad_() for output in outputs]
    return leaves, ForwardOutput(*(leaf.clone() for leaf in leaves))


def weighted_loss(
    algorithm: Algorithm, outputs: ForwardOutput, batch: Batch
) -> tuple[Tensor, Batch, dict[str, Tensor]]:
    """Return the loss of a micro-batch as one number, its batch with the outputs, and the (B, T) quantities to log."""
    batch = batch.with_outputs(outputs.logps.shape[1], outputs.entropy, outputs.values)
    losses, quantities = checked_loss(algorithm, outputs.logps, batch)  # (B, T) each
    return (losses * batch.weights).sum(), batch, quantities
