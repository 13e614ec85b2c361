"""Credit: the advantage and the weight of each token of a step, from its rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rlvid.algorithm import Algorithm
from rlvid.trainer.algorithm_errors import algorithm_errors, check_memory, check_shape
from rlvid.trainer.rollout import Rollout, minibatches
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class CreditedStep:
    """A step whose tokens have their advantages and weights, and this process's part of it."""

    step: Step  # what the algorithm was given: rewards, labels and token tensors of all processes
    batch: Batch  # what it returned: advantages and token weights of all processes, (B, T)
    rollout: Rollout  # this process's groups, with their rows of the batch


def assign_credit(algorithm: Algorithm, step: Step) -> Batch:
    """Return the step's batch with (B, T) advantages and token weights.

    Every process computes them for the whole step, and weights are fixed on each whole minibatch. So the gradient
    depends neither on micro-batches nor on the number of processes.

    Raises:
        UserError: if one of the algorithm's methods raises, or returns something else than finite tensors
            of these shapes, or keeps in `step.memory` what a checkpoint cannot hold.
    """
    groups = len(step.ids)
    with algorithm_errors(algorithm, f"at step {step.number}"):
        kept = step.memory
        algorithm.observe(step)  # may keep something in step.memory
        if step.memory is not kept:
            raise ValueError("observe replaced step.memory, and nothing would be kept: change its entries")
        check_memory(step.memory)
        batch = algorithm.credit(step)
        if not isinstance(batch, Batch):
            raise TypeError(f"credit must return a Batch, not {type(batch).__name__}")
        check_shape("advantages", batch.advantages, step.batch.mask.shape)
        if not batch.advantages.isfinite().all():
            raise ValueError("advantages are not finite, though the rewards are")
        if algorithm.mask_truncated_completions and step.finished is not None:
            batch = replace(batch, mask=batch.mask * step.finished.reshape(-1, 1))
        chosen = minibatches(range(groups), groups, algorithm.num_minibatches)
        masks = [batch.select_groups(part, groups).mask for part in chosen]
        weights = [algorithm.weights(mask) for mask in masks]
        for weight, mask in zip(weights, masks, strict=True):
            check_shape("weights", weight, mask.shape)
    return replace(batch, weights=torch.cat(weights))


def refined_labels(algorithm: Algorithm, step: Step) -> Sequence[str | None]:
    """Return (P,) the letters that the algorithm counts as right. Raises UserError if there are more or fewer."""
    with algorithm_errors(algorithm, f"at step {step.number}"):
        labels = algorithm.labels(step)
        if len(labels) != len(step.ids):
            raise ValueError(f"labels must be a letter or None for each of {len(step.ids)} prompts, not {len(labels)}")
    return labels
