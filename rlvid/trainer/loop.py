"""The loop: sample, score, credit, learn. All of a run's learning happens on this page.

Shapes: P prompts in a step over all processes, G completions of each, B = P*G rows, T completion tokens. Each of W
processes takes P/W prompts. Whatever depends on the whole step, such as advantages and token weights, is computed on
the whole step by every process. So the result of a run depends neither on the number of
processes nor on the micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from rlvid.algorithm import Algorithm
from rlvid.config import ColdStartConfig, Config, EvalConfig, Plugin, TrainConfig
from rlvid.data.prompts import spare_prompts
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.logprobs import sync_logit_chunks
from rlvid.policy.oom import OOMBackoff
from rlvid.trainer import checkpoint
from rlvid.trainer.alarms import WINDOW, Alarm, detect_alarms
from rlvid.trainer.algorithm_errors import algorithm_errors, algorithm_name, check_shape
from rlvid.trainer.evaluation import results_table
from rlvid.trainer.evidence import EvidenceRequest, needs_reference
from rlvid.trainer.metrics import MetricAccumulator, advantage_shares, label_repair_metrics, step_metrics
from rlvid.trainer.rollout import Rollout, dummy_group, minibatches
from rlvid.trainer.setup import TrainerSetup
from rlvid.types import Batch, Prompt, Step
from rlvid.utils.files import read_jsonl


def train(config: Config, folder: Path, resume: bool = False) -> dict[str, float]:
    """Train one policy with one algorithm on one mix of rewards; return the last step's metrics.

    Raises:
        UserError: if the config, the data or the folder cannot be used, and on a gradient that is not finite.
    """
    with Trainer.open(config, folder, resume) as trainer:
        for number, prompts in trainer.plan:
            rollout, drawn = trainer.rollout(number, prompts)  # G completions of each prompt, with their rewards
            credited = trainer.credit(number, rollout)  # an advantage and a weight for each token
            learnt = trainer.learn(number, credited)  # optimizer steps on the weighted surrogate
            trainer.report(number, credited, learnt, drawn)  # metrics, evaluation, checkpoint
        return trainer.finish()


@dataclass(frozen=True)
class Credited:
    """A step with credit: what the algorithm saw, the whole step's batch, and this process's rows of it."""

    step: Step
    batch: Batch
    rollout: Rollout


class Trainer(TrainerSetup):
    """One run's steps; `TrainerSetup` builds the parts."""

    def rollout(self, number: int, prompts: Sequence[Prompt]) -> tuple[Rollout, int]:
        """Sample and score completions of a step's prompts; returns the rollout and how many prompts it took.

        With dynamic sampling (`algorithm.max_num_gen_batches` > 1) prompts whose groups are flat, all completions
        earning the same, are replaced by further ones.
        """
        drawn = list(prompts)
        scoring_models = self.policy, self.reference if needs_reference(self.eval_mix) else None
        with self.state.gathered(*scoring_models):
            rollout = self._sample_and_score(prompts, number)
            for _ in range(1, self.algorithm.max_num_gen_batches):
                flat = len(prompts) - len(rollout.informative)
                more = spare_prompts(self.prompts, drawn, flat, number, self.config.seed)
                if not more:
                    break
                rollout = rollout.merge(self._sample_and_score(more, number, len(drawn)), len(prompts))
                drawn += more
        return rollout, len(drawn)

    def _sample_and_score(self, prompts: Sequence[Prompt], number: int, first_index: int = 0) -> Rollout:
        """One round: this process's share of the prompts, completions, evidence, rewards; then gather the records."""
        with self.timer("decode"):
            indices, readable, inputs = self.prefetch(prompts)
        seed = f"{self.config.seed}|{number}"
        corrupt = partial(self.noise.corrupt_verdicts, step=number)
        groups = self.sample(readable, inputs, seed) if readable else []
        self.provider(EvidenceRequest(groups, inputs, seed, self.noise.corrupt_clip, corrupt))
        with self.timer("reward"):
            totals = self.mix(groups, corrupt, number)
            indices = [first_index + index for index in indices]
            return Rollout.gather(indices, inputs, groups, totals, dummy_group(self.policy, prompts[0]))

    def credit(self, number: int, rollout: Rollout) -> Credited:
        """Turn rewards into an advantage and a weight for every token of the step."""
        temperature = self.config.train.temperature
        reference = self.reference if "ref_logps" in self.algorithm.needs else None
        with self.state.gathered(reference, self.policy if self.policy.critic else None), self.timer("reference"):
            token_inputs = rollout.token_inputs(self.policy, reference, temperature, self.backoff)
        weights, memory = self.mix.weights_at(number), self.counters.memory
        step = rollout.to_step(number, weights, token_inputs, memory, self.noise.corrupted_reward)
        batch = assign_credit(self.algorithm, step)
        return Credited(step, batch, rollout.with_batch(batch, self.policy.device))

    def learn(self, number: int, credited: Credited) -> dict[str, float]:
        """Take the step's optimizer steps, and move the schedule and the reference on; returns their metrics."""
        with self.timer("learn"):
            learnt = learn(
                self.state, self.algorithm, self.accelerator, credited.rollout, self.config.train, self.backoff
            )
        self.folder.refuse_non_finite(number, learnt, credited.rollout.records)
        self.scheduler.step()
        if self.reference:
            self.reference.ema_update(self.policy, number)
        return learnt

    def report(self, number: int, credited: Credited, learnt: dict[str, float], drawn: int) -> None:
        """Write metrics and samples, evaluate and save a checkpoint where due, and end the run if asked to.

        Raises KeyboardInterrupt after a SIGTERM, with the step saved.
        """
        train, records, step = self.config.train, credited.rollout.records, credited.step
        metrics = step_metrics(records) | learnt | advantage_shares(self.algorithm, step, credited.batch)
        metrics |= label_repair_metrics(records, self.algorithm.labels(step))
        metrics |= self.algorithm.extra_metrics(credited.batch)
        metrics |= self.counters.update(records, drawn, self.accelerator)
        if self.config.noise.kind:
            metrics |= self.counters.update_verdicts(records, self.noise.corrupted_reward)
        if number == train.max_steps or (train.eval_steps and number % train.eval_steps == 0):
            metrics |= self._evaluate(number)
        alarms = self._alarms(number, metrics, credited.rollout) if self.folder.is_main else []
        self.folder.log(number, metrics, records, alarms, self.judge.costs() if self.judge else {})
        self.display.step(number, metrics, records, alarms)
        ending = self.sigterm.received_anywhere()
        checkpoint.save(self.folder, self.counters, self.state, self.scheduler, number, metrics, ending)
        if ending and number < train.max_steps:
            raise KeyboardInterrupt(f"SIGTERM, after step {number}")

    def _evaluate(self, number: int) -> dict[str, float]:
        with self.state.gathered(self.policy, self.reference if needs_reference(self.eval_mix) else None):
            return self.evaluation.run(number)

    def _alarms(self, number: int, metrics: dict[str, float], rollout: Rollout) -> list[Alarm]:
        """Signs that the run learns the wrong thing; earlier steps are read only where they are compared."""
        levels = [level for level in self.config.eval.splits if f"eval/{level}/accuracy" in metrics]
        sizes = {level: len(read_jsonl(self.folder.eval_path(level, number))) for level in levels}
        compared = sizes or number % WINDOW == 0
        previous = read_jsonl(self.folder.path / "metrics.jsonl") if compared else []
        return detect_alarms(metrics, rollout.records, previous, sizes, self.policy.bf16)

    def finish(self) -> dict[str, float]:
        """Show the results and mark the run as done; a run without steps is evaluated first. Returns its metrics."""
        if not self.folder.is_done and not self.config.train.max_steps:
            metrics = self._evaluate(0)
            self.folder.log(0, metrics, [], [], self.judge.costs() if self.judge else {})
        self.display.results(results_table(self.folder.path / "eval"))
        return self.folder.finish()

    def cold_start(self) -> Path:
        """Train with SFT first, as a run of its own in `cold_start/`; returns the folder of its weights."""
        path = self.folder.path / "cold_start"
        train_config = replace(self.config.train, **vars(self.config.cold_start))
        config = replace(
            self.config,
            algorithm=Plugin("sft"),
            train=train_config,
            cold_start=ColdStartConfig(),
            eval=EvalConfig(splits=()),
        )
        train(config, path, resume=True)
        return checkpoint.export_cold_start(self.folder, path)


def assign_credit(algorithm: Algorithm, step: Step) -> Batch:
    """The step's batch with (B, T) advantages and token weights. Weights are fixed on each whole minibatch.

    So the gradient depends neither on micro-batches nor on the number of processes. UserError if the algorithm's
    methods raise or return something else than tensors of these shapes.
    """
    groups = len(step.ids)
    with algorithm_errors(algorithm, f"at step {step.number}"):
        algorithm.observe(step)
        batch = algorithm.credit(step)
        check_shape("advantages", batch.advantages, step.batch.mask.shape)
        if algorithm.mask_truncated_completions and step.finished is not None:
            batch = replace(batch, mask=batch.mask * step.finished.reshape(-1, 1))
        chosen = [part for part in minibatches(range(groups), groups, algorithm.num_minibatches) if part]
        masks = [batch.select_groups(part, groups).mask for part in chosen]
        weights = [algorithm.weights(mask) for mask in masks]
        for weight, mask in zip(weights, masks, strict=True):
            check_shape("weights", weight, mask.shape)
    return replace(batch, weights=torch.cat(weights))


def learn(
    state: TrainState,
    algorithm: Algorithm,
    accelerator: Accelerator,
    rollout: Rollout,
    config: TrainConfig,
    backoff: OOMBackoff,
) -> dict[str, float]:
    """`num_iterations` passes over the rollout, one optimizer step per minibatch; returns the mean metrics."""
    learner, optimizer, metrics = state.learner, state.optimizer, MetricAccumulator()
    parts = minibatches(rollout.group_indices, len(rollout.records), algorithm.num_minibatches)
    parts *= algorithm.num_iterations
    if len(parts) > 1:  # from the second optimizer step on, ratios are against the policy before the first
        with state.gathered(state.policy):
            rollout = rollout.with_old_logps(state.policy, config.temperature, backoff)
    learner.train()  # for gradient checkpointing; the model has no dropout
    for part in parts:
        minibatch = rollout.select(part)
        for budget in backoff.sizes(minibatch.longest_row * len(minibatch.groups), smallest=minibatch.longest_row):
            with backoff.attempt(budget):
                part_metrics = backward(state, algorithm, accelerator, minibatch, config.temperature, budget)
            if not state.any_rank_out_of_memory(backoff.failed):
                break
            learner.zero_grad()  # and again, in smaller micro-batches
        metrics.add(part_metrics)
        state.all_reduce_gradients()
        metrics.add_grad_norm(accelerator.clip_grad_norm_(learner.parameters(), config.max_grad_norm))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    learner.eval()
    return metrics.means(accelerator) | {"learning_rate": optimizer.param_groups[0]["lr"]}


def backward(
    state: TrainState,
    algorithm: Algorithm,
    accelerator: Accelerator,
    rollout: Rollout,
    temperature: float,
    budget: int,
) -> MetricAccumulator:
    """Accumulate a minibatch's gradient in micro-batches of at most `budget` tokens, equally many on every rank."""
    learner, metrics, micro_batches = state.learner, MetricAccumulator(), list(rollout.micro_batches(budget))
    logit_chunks = sync_logit_chunks(state.policy, [micro.tokens for micro in micro_batches])  # one per micro-batch
    micro_batches += [rollout.dummy()] * (len(logit_chunks) - len(micro_batches))
    for i, (micro, chunks) in enumerate(zip(micro_batches, logit_chunks, strict=True)):
        accelerator.sync_gradients = i == len(micro_batches) - 1  # DeepSpeed steps where this is set
        with learner.no_sync() if state.is_ddp else nullcontext():
            output = learner(micro.inputs, micro.groups, temperature, chunks)
            batch = micro.batch.with_outputs(output.logps.shape[1], output.entropy, output.values)
            losses, quantities = algorithm.loss(output.logps, batch)  # (B, T) each
            check_shape(f"{algorithm_name(algorithm)}.loss", losses, batch.mask.shape)
            loss = (losses * batch.weights).sum()
            accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes
        metrics.add_tokens(batch.mask, {"entropy": output.entropy} | quantities)
        if algorithm.completion_source == "policy":
            metrics.add_mismatch(batch, output.logps)
        metrics.add_sum("loss", loss)
    return metrics
