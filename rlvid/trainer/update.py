"""The policy update: the optimizer steps of one training step.

Shapes: B completions of this process's micro-batch, T completion tokens.

The gradient of a minibatch is accumulated over micro-batches. Who averages it over processes, and who calls the
optimizer, depends on how the policy was prepared:

    one process   nothing to average              `optimizer.step()`
    several       `state.all_reduce_gradients()`  `optimizer.step()`
    DeepSpeed     DeepSpeed, in its backward pass DeepSpeed, in the backward pass of the last micro-batch;
                                                  accelerate makes `optimizer.step()` do nothing

Gradients are clipped by one norm over all trainable parameters, a critic's included: DeepSpeed clips no other way.

PyTorch's DDP would average during the last backward pass, but then a process that runs out of memory there could not
try again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from accelerate import Accelerator

from rlvid.algorithm import Algorithm
from rlvid.config import TrainConfig
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.logprobs import sync_logit_chunks
from rlvid.policy.oom import OOMBackoff, advice_if_out_of_memory
from rlvid.trainer.metrics import MetricAccumulator
from rlvid.trainer.rollout import Rollout, minibatches
from rlvid.trainer.zero_gradient import forward_without_gradient, weighted_loss

T = TypeVar("T")


def update_policy(
    state: TrainState,
    algorithm: Algorithm,
    accelerator: Accelerator,
    rollout: Rollout,
    config: TrainConfig,
    backoff: OOMBackoff,
) -> dict[str, float]:
    """Learn from a credited rollout: `num_iterations` passes over it, one optimizer step per minibatch.

    Returns:
        The means of the update's metrics: loss, gradient norm, entropy, and what the algorithm logs.

    Raises:
        UserError: if not even one group fits in memory.
    """
    learner, optimizer, metrics = state.learner, state.optimizer, MetricAccumulator()
    parts = minibatches(rollout.group_indices, len(rollout.records), algorithm.num_minibatches)
    parts *= algorithm.num_iterations
    if len(parts) > 1:
        # The first optimizer step moves the policy away from the one that sampled. The ratio pi / pi_old of all
        # optimizer steps has the log-probs from before the first one in its denominator. With one step it is 1.
        if rollout.batch.old_logps is None:  # else they were needed for credit already
            with state.gathered_parameters(state.policy):
                rollout = rollout.with_old_logps(state.policy, config.temperature, backoff)
    else:
        rollout = replace(rollout, batch=replace(rollout.batch, old_logps=None))
    max_norm = config.max_grad_norm or math.inf  # DeepSpeed has its own copy, where 0 does not clip either
    learner.train()  # for gradient checkpointing; the model has no dropout
    for part in parts:  # positions in this process's list of groups
        minibatch = rollout.select(part) if len(parts) > 1 else rollout
        metrics.add(_backward_within_memory(state, algorithm, accelerator, minibatch, config.temperature, backoff))
        with advice_if_out_of_memory("taking the optimizer step"):
            state.all_reduce_gradients()
            metrics.add_grad_norm(accelerator.clip_grad_norm_(learner.parameters(), max_norm))
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    learner.eval()
    return metrics.means(accelerator) | {"learning_rate": optimizer.param_groups[0]["lr"]}


def _backward_within_memory(
    state: TrainState,
    algorithm: Algorithm,
    accelerator: Accelerator,
    minibatch: Rollout,
    temperature: float,
    backoff: OOMBackoff,
) -> MetricAccumulator:
    """Accumulate a minibatch's gradient, within memory; return its metrics.

    Groups that the policy learns nothing from have no backward pass (see `zero_gradient`), except under DeepSpeed,
    which communicates in it.
    """
    metrics, groups = MetricAccumulator(), len(minibatch.groups)
    if minibatch.kept_prompts and minibatch.smallest_budget > backoff.size:  # which has been halved since sampling
        minibatch.drop_kept()
    if not state.stage:
        separate = partial(forward_without_gradient, state.learner, algorithm, minibatch, temperature)
        minibatch, metrics = _within_memory(state, minibatch, backoff, separate)
    # The backward pass of kept prompts is for all of them, and twice the forward pass that it saves for each that is
    # learnt from. So below two thirds it costs more.
    if 3 * len(minibatch.groups) < 2 * groups:
        minibatch.kept_prompts.clear()
    accumulate = partial(accumulate_gradient, state, algorithm, accelerator, minibatch, temperature)
    metrics.add(_within_memory(state, minibatch, backoff, accumulate))
    minibatch.kept_prompts.clear()
    return metrics


def _within_memory(state: TrainState, minibatch: Rollout, backoff: OOMBackoff, run: Callable[[int], T]) -> T:
    """Call `run` with a token budget. If memory runs out on any rank, all ranks repeat it.

    A rank that keeps prompts from sampling forgets them and repeats with the same budget; another one that ran out of
    memory halves its budget.

    A collective. Raises UserError if a micro-batch of one group does not fit.
    """
    for budget in backoff.sizes(minibatch.largest_budget, smallest=minibatch.smallest_budget):
        with backoff.attempt():
            result = run(budget)
        if not state.any_rank_out_of_memory(backoff.failed):
            return result
        state.learner.zero_grad()
        if minibatch.kept_prompts:  # without them there is more memory: the same size again
            minibatch.drop_kept()
            if backoff.failed:
                print("rlvid: out of memory; in this step the prompts go through the model again", file=sys.stderr)
            return _within_memory(state, minibatch, backoff, run)
    raise AssertionError("unreachable: sizes() yields until it raises")


def accumulate_gradient(
    state: TrainState,
    algorithm: Algorithm,
    accelerator: Accelerator,
    minibatch: Rollout,
    temperature: float,
    budget: int,
) -> MetricAccumulator:
    """Run forward and backward passes over a minibatch, in micro-batches of at most `budget` tokens.

    Every rank runs equally many, because their collectives must match: a rank that has fewer adds dummy micro-batches
    of weight 0. A forward pass that credit needed already is not repeated.
    """
    learner, metrics, kept = state.learner, MetricAccumulator(), minibatch.kept_forward
    micro_batches = [minibatch] if kept else list(minibatch.micro_batches(budget))
    logit_chunks = sync_logit_chunks(state.policy, [micro.tokens for micro in micro_batches])  # one per micro-batch
    micro_batches += [minibatch.dummy()] * (len(logit_chunks) - len(micro_batches))
    for i, (micro, chunks) in enumerate(zip(micro_batches, logit_chunks, strict=True)):
        accelerator.sync_gradients = i == len(micro_batches) - 1  # where it is set, DeepSpeed takes its optimizer step
        outputs = kept.pop() if kept else micro.forward(learner, temperature, chunks)
        loss, batch, quantities = weighted_loss(algorithm, outputs, micro.batch)
        accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes
        metrics.add_micro_batch(algorithm, loss, outputs.logps, batch, quantities)
    for prompts in minibatch.kept_prompts:
        prompts.backward()
    return metrics
