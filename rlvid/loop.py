"""The loop: act, judge, credit, learn. All of a run's learning happens on this page.

Shapes: P prompts a step over all processes, G completions of each, B = P*G rows, T completion tokens. Process r of W
takes the prompts r, r+W, r+2W, ... of the step, and whatever depends on the whole step (credit, each token's share) is
computed on the whole step. So a run's result does not depend on how many processes or micro-batches share the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rlvid import checkpoint
from rlvid.algorithm import Algorithm
from rlvid.config import Config, Train
from rlvid.data import source
from rlvid.display import Display
from rlvid.evaluation import evaluate, results
from rlvid.metrics import Meter, Record, advantage_shares, summary
from rlvid.policy.model import Encoded, Policy
from rlvid.policy.optimiser import adamw, check, schedule, trackers
from rlvid.policy.reference import Reference
from rlvid.policy.sampler import Demonstrations, Sampler
from rlvid.resolve import build
from rlvid.reward import Mix
from rlvid.run import Run
from rlvid.types import Batch, Group

ACTORS: dict[str, type[Sampler] | type[Demonstrations]] = {"policy": Sampler, "data": Demonstrations}


@dataclass
class Rollout:
    """What one process holds of a step: encoded prompts, their groups, and the groups' rows as tensors."""

    encoded: Sequence[Encoded]
    groups: Sequence[Group]
    batch: Batch

    def part(self, chosen: Sequence[int]) -> Rollout:
        """Some of the groups."""
        picked = [self.encoded[i] for i in chosen], [self.groups[i] for i in chosen]
        return Rollout(*picked, self.batch.of_groups(chosen, len(self.groups)))

    def parts(self, size: int) -> Iterator[Rollout]:
        """All of the groups, `size` at a time."""
        for start in range(0, len(self.groups), size):
            yield self.part(range(len(self.groups))[start : start + size])


def train(config: Config, folder: Path, resume: bool = False) -> dict[str, float]:
    """Train one policy with one algorithm on one mix of rewards; return the last step's metrics.

    Raises UserError where the config, the data or the folder cannot be used, and on a non-finite gradient.
    """
    algorithm: Algorithm = build("algorithms", config.algorithm.name, **config.algorithm.fields)
    mix = Mix.build(config.rewards)
    accelerator = Accelerator(log_with=trackers(config), project_dir=folder)
    check(config, algorithm, accelerator.num_processes)
    with Run.open(folder, config, resume, accelerator) as run, Display(run) as display:
        if run.done:
            display.results(results(run.folder / "eval"))
            return run.last_metrics()
        prompts, levels = source.training(config, algorithm.completions, run), source.held_out(config)
        policy = Policy.load(config).to(accelerator.device)
        reference = Reference(policy, config.train) if "ref_logps" in algorithm.needs else None
        learner, optimizer = accelerator.prepare(policy, adamw(policy, config.train))
        scheduler = schedule(optimizer, config.train)
        act = ACTORS[algorithm.completions](policy, config.train, run.timed)
        checkpoint.begin(run, policy, optimizer, scheduler, reference)
        plan = [source.take(prompts, step, config) for step in range(run.step + 1, config.train.steps + 1)]
        run.warm(policy, chain(*plan, *levels.values()))

        for step, asked in enumerate(plan, start=run.step + 1):
            with run.timed("decode"):
                places, ours, encoded = run.readable(policy, asked)
            groups = act(ours, encoded, f"{config.seed}|{step}")
            with run.timed("reward"):
                totals = mix(groups)
                records = everyone([Record.of(*row) for row in zip(places, groups, totals, strict=True)])
            seats = [i for i, record in enumerate(records) if record.place in places]
            batch = credit(algorithm, records).of_groups(seats, len(records)).to(accelerator.device)
            rollout = Rollout(encoded, groups, batch)
            if reference:
                with run.timed("reference"):
                    batch.ref_logps = score(reference, rollout, config.train)
            with run.timed("learn"):
                turns = minibatches(seats, len(records), algorithm.num_minibatches)
                learnt = learn(learner, algorithm, optimizer, accelerator, rollout, turns, config.train)
            run.stop_unless_finite(step, learnt, records)
            scheduler.step()
            if reference:
                reference.follow(policy, step)

            metrics = summary(records) | learnt | advantage_shares(algorithm, mix, records) | run.count(records)
            if step == config.train.steps or (config.train.eval_steps and step % config.train.eval_steps == 0):
                metrics |= evaluate(policy, mix, levels, run, step, display)
            run.log(step, metrics, records)
            display.step(step, metrics, records)
            checkpoint.save(run, step, metrics, policy, optimizer, scheduler, reference)
        if not config.train.steps:
            run.log(0, evaluate(policy, mix, levels, run, 0, display), [])
        display.results(results(run.folder / "eval"))
        return run.finish()


def everyone(records: list[Record]) -> list[Record]:
    """All processes' records of a step, in the step's order."""
    return sorted(gather_object(records), key=lambda record: record.place)


def credit(algorithm: Algorithm, records: Sequence[Record]) -> Batch:
    """The step's P groups -> (B, T) mask, advantages and token shares; shares are fixed on each whole minibatch."""
    rewards = torch.tensor([r.totals for r in records], dtype=torch.float64)  # (P, G)
    lengths = torch.tensor([r.lengths for r in records])  # (P, G)
    mask = (torch.arange(int(lengths.max())) < lengths[..., None]).float()  # (P, G, T)
    advantages = algorithm.advantages(rewards).float()[..., None] * mask
    turns = minibatches(range(len(records)), len(records), algorithm.num_minibatches)
    weights = torch.cat([algorithm.weights(mask[turn].flatten(0, 1)) for turn in turns])
    return Batch(mask.flatten(0, 1), advantages.flatten(0, 1), weights)


def minibatches(seats: Sequence[int], groups: int, count: int) -> list[list[int]]:
    """Which of our groups, `seats` being their places among the step's, belong to each of `count` minibatches."""
    size = -(-groups // count)
    return [[i for i, seat in enumerate(seats) if seat // size == turn] for turn in range(count)]


def learn(
    learner: nn.Module,
    algorithm: Algorithm,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    rollout: Rollout,
    turns: Sequence[Sequence[int]],
    config: Train,
) -> dict[str, float]:
    """`num_iterations` passes over the batch, an optimiser step for each minibatch; returns their mean metrics."""
    if len(turns) * algorithm.num_iterations > 1:
        rollout.batch.old_logps = score(learner, rollout, config)
    meter = Meter()
    learner.train()  # gradient checkpointing asks for it; nothing here drops out
    for turn in list(turns) * algorithm.num_iterations:
        *others, last = rollout.part(turn).parts(config.groups_per_forward)
        for part in (*others, last):
            with nullcontext() if part is last else accelerator.no_sync(learner):
                logps, entropy = learner(part.encoded, part.groups, config.temperature)
                batch = part.batch.cut(logps.shape[1])
                losses, quantities = algorithm.loss(logps, batch)
                loss = (losses * batch.weights).sum()
                accelerator.backward(loss * accelerator.num_processes)  # which averages gradients over processes
            meter.tokens(batch.mask, {"entropy": entropy} | quantities)
            meter.total("loss", loss)
        meter.step(accelerator.clip_grad_norm_(learner.parameters(), config.max_grad_norm))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    learner.eval()
    return meter.means(accelerator) | {"learning_rate": optimizer.param_groups[0]["lr"]}


@torch.no_grad()
def score(model: nn.Module, rollout: Rollout, config: Train) -> Tensor:
    """(B, T) log-probabilities of a rollout's completions under a policy or a reference."""
    parts = [model(p.encoded, p.groups, config.temperature)[0] for p in rollout.parts(config.groups_per_forward)]
    return pad_sequence([row for part in parts for row in part], batch_first=True)
