"""The loop: act, judge, credit, learn. All of a run's learning happens on this page.

Shapes: P prompts a step over all processes, G completions of each, B = P*G rows, T completion tokens. Of every W
prompts each of W processes takes one, and whatever depends on the whole step (credit, each token's share) is computed
on the whole step. So a run's result does not depend on how many processes or micro-batches share the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from accelerate import Accelerator

from rlvid import distributed
from rlvid.algorithm import Algorithm
from rlvid.config import ColdStartConfig, Config, EvalConfig, Plugin, TrainConfig
from rlvid.data.prompts import held_out_prompts, prompts_of_step, spare_prompts, training_prompts
from rlvid.distributed import SigtermHandler
from rlvid.errors import UserError
from rlvid.noise.apply import build_noise
from rlvid.policy.critic import Critic
from rlvid.policy.deepspeed import TrainState
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.optimizer import build_adamw, build_scheduler, check_config
from rlvid.policy.sampler import SAMPLERS
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer import checkpoint, evidence, noop_check
from rlvid.trainer.display import Display
from rlvid.trainer.evaluation import evaluate, results_table
from rlvid.trainer.evidence import EvidenceProvider, EvidenceRequest
from rlvid.trainer.metrics import MetricAccumulator, advantage_shares, label_repair_metrics, step_metrics
from rlvid.trainer.prefetch import PromptPrefetcher
from rlvid.trainer.rollout import Rollout, dummy_group, minibatches
from rlvid.trainer.run_folder import Run
from rlvid.types import Batch, Prompt, Step


def train(config: Config, folder: Path, resume: bool = False) -> dict[str, float]:
    """Train one policy with one algorithm on one mix of rewards; return the last step's metrics.

    Raises UserError where the config, the data or the folder cannot be used, and on a non-finite gradient.
    """
    algorithm: Algorithm = build("algorithms", config.algorithm.name, **config.algorithm.fields)
    mix, noise = RewardMix.build(config.rewards, config.train.reward_timeout), build_noise(config.noise)
    measures = mix.with_measures(config.eval.rewards)
    noise.check_rewards(mix.rewards)
    accelerator = distributed.make_accelerator(config, folder)
    check_config(config, algorithm, accelerator.num_processes)
    judge = evidence.load_judge_models(measures, config)
    with Run.open(folder, config, resume, accelerator) as run, Display(run) as display, SigtermHandler() as sigterm:
        if run.done:
            display.results(results_table(run.folder / "eval"))
            return run.last_metrics()
        if message := noop_check.noop_warning(algorithm, mix.weights, config.train.num_generations):
            display.warn(message)
        start = cold_start(config, run) if config.cold_start.max_steps else None
        prompts, levels = training_prompts(config, algorithm, noise, run), held_out_prompts(config)
        evidence.check_evidence(mix, prompts)
        for message in mix.inapplicable_rewards(prompts):
            display.warn(message)
        evidence.check_evidence(measures, list(chain(*levels.values())))
        policy = Policy.load(config, start).to(accelerator.device)
        asked_for = {*(algorithm.needs if config.train.max_steps else ()), *measures.required_evidence}
        reference = evidence.build_reference(policy, config) if asked_for & evidence.NEEDS_REFERENCE else None
        if algorithm.critic_settings:
            policy.critic = Critic(algorithm.critic_settings[0], policy.model, config).to(accelerator.device)
        checkpoint.restore_weights(run, policy, reference)
        learner, optimizer = accelerator.prepare(policy, build_adamw(policy, config.train, algorithm))
        scheduler = build_scheduler(optimizer, config.train)
        models = TrainState(policy, learner, optimizer, reference)
        act = SAMPLERS[algorithm.completion_source](policy, config.train, run.timed)
        aside = replace(config.train, num_generations=config.evidence.view_generations)
        room = OOMBackoff("tokens", config.train.max_tokens_per_forward)
        witness = EvidenceProvider(mix, policy, reference, config, aside, room, run.timed, judge)
        checkpoint.restore_training_state(run, models, scheduler)
        plan = [prompts_of_step(prompts, step, config) for step in range(run.step + 1, config.train.max_steps + 1)]
        speakers = policy, reference if {*measures.required_evidence} & evidence.NEEDS_REFERENCE else None
        with models.gathered(policy):
            run.warm(policy, chain(*plan, *levels.values()))
        read = PromptPrefetcher(run, policy, plan, noise.corrupt_clip)

        def play(asked: Sequence[Prompt], number: int, drawn: int = 0) -> Rollout:
            """Act and judge."""
            with run.timed("decode"):
                places, ours, encoded = read(asked)
            seed, spoil = f"{config.seed}|{number}", partial(noise.corrupt_verdicts, step=number)
            groups = act(ours, encoded, seed) if ours else []
            witness(EvidenceRequest(groups, encoded, seed, noise.corrupt_clip, spoil))
            with run.timed("reward"):
                places = [drawn + place for place in places]
                return Rollout.of(places, encoded, groups, mix(groups, spoil, number), dummy_group(policy, asked[0]))

        compared = reference if "ref_logps" in algorithm.needs else None
        run.costs, sigterm.graceful = judge.costs if judge else dict, True
        for number, asked in enumerate(plan, start=run.step + 1):
            with models.gathered(*speakers):
                rollout, drawn = play(asked, number), list(asked)
                for _ in range(1, algorithm.max_num_gen_batches):
                    more = spare_prompts(prompts, drawn, len(asked) - len(rollout.informative), number, config)
                    if not more:
                        break
                    rollout = rollout.merge(play(more, number, len(drawn)), len(asked))
                    drawn += more
            with models.gathered(compared, policy if policy.critic else None), run.timed("reference"):
                facts = rollout.token_inputs(policy, compared, config.train, room)
            step = rollout.step(number, mix.weights_at(number), facts, run.memory)
            batch = credit(algorithm, step)
            rollout = rollout.credited(batch, policy.device)
            with run.timed("learn"):
                learnt = learn(models, algorithm, accelerator, rollout, config.train, room)
            run.stop_unless_finite(number, learnt, rollout.records)
            scheduler.step()
            if reference:
                reference.ema_update(policy, number)

            metrics = step_metrics(rollout.records) | learnt | advantage_shares(algorithm, step, batch)
            metrics |= label_repair_metrics(rollout.records, algorithm.labels(step)) | algorithm.extra_metrics(batch)
            metrics |= run.count(rollout.records, len(drawn))
            if number == config.train.max_steps or (config.train.eval_steps and number % config.train.eval_steps == 0):
                with models.gathered(*speakers):
                    metrics |= evaluate(replace(witness, mix=measures), levels, run, number, display)
            run.log(number, metrics, rollout.records)
            display.step(number, metrics, rollout.records)
            checkpoint.save(run, number, metrics, models, scheduler, ending := sigterm.received_anywhere())
            if ending and number < config.train.max_steps:
                raise KeyboardInterrupt(f"SIGTERM, after step {number}")
        if not config.train.max_steps:
            with models.gathered(*speakers):
                run.log(0, evaluate(replace(witness, mix=measures), levels, run, 0, display), [])
        display.results(results_table(run.folder / "eval"))
        return run.finish()


def cold_start(config: Config, run: Run) -> Path:
    """Train with SFT first, as a run of its own in `cold_start/`; returns the folder of its weights."""
    own = replace(config.train, **vars(config.cold_start))
    first = replace(
        config, algorithm=Plugin("sft"), train=own, cold_start=ColdStartConfig(), eval=EvalConfig(splits=())
    )
    train(first, run.folder / "cold_start", resume=True)
    return checkpoint.export_cold_start(run, run.folder / "cold_start")


def credit(algorithm: Algorithm, step: Step) -> Batch:
    """The step's batch with (B, T) advantages and token shares; shares are fixed on each whole minibatch."""
    try:
        algorithm.observe(step)
        batch = algorithm.credit(step)
    except ValueError as error:
        raise UserError(f"algorithm {type(algorithm).__name__} at step {step.number}: {error}") from error
    if algorithm.mask_truncated_completions and step.finished is not None:
        batch = replace(batch, mask=batch.mask * step.finished.reshape(-1, 1))
    turns = minibatches(range(len(step.ids)), len(step.ids), algorithm.num_minibatches)
    shares = [algorithm.weights(batch.select_groups(turn, len(step.ids)).mask) for turn in turns if turn]
    return replace(batch, weights=torch.cat(shares))


def learn(
    models: TrainState,
    algorithm: Algorithm,
    accelerator: Accelerator,
    rollout: Rollout,
    config: TrainConfig,
    room: OOMBackoff,
) -> dict[str, float]:
    """`num_iterations` passes over the batch, an optimiser step for each minibatch; returns their mean metrics."""
    learner, optimizer, meter = models.learner, models.optimizer, MetricAccumulator()
    turns = (
        minibatches(rollout.group_indices, len(rollout.records), algorithm.num_minibatches) * algorithm.num_iterations
    )
    if len(turns) > 1:
        with models.gathered(models.policy):
            rollout = rollout.with_old_logps(models.policy, config, room)
    learner.train()  # gradient checkpointing asks for it; nothing here drops out
    for turn in turns:
        part = rollout.select(turn)
        gradient = partial(backward, models, algorithm, accelerator, part, config.temperature)
        for budget in room.sizes(part.widest * len(part.groups), smallest=part.widest):
            with room.attempt(budget):
                micro = gradient(budget)
            if not models.any_rank_out_of_memory(room.failed):
                break
            learner.zero_grad()
        meter.add(micro)
        models.all_reduce_gradients()
        meter.step(accelerator.clip_grad_norm_(learner.parameters(), config.max_grad_norm))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    learner.eval()
    return meter.means(accelerator) | {"learning_rate": optimizer.param_groups[0]["lr"]}


def backward(
    models: TrainState,
    algorithm: Algorithm,
    accelerator: Accelerator,
    rollout: Rollout,
    temperature: float,
    budget: int,
) -> MetricAccumulator:
    """Add a minibatch's gradient, in forwards of at most `budget` tokens, in each process as many."""
    learner, meter, parts = models.learner, MetricAccumulator(), list(rollout.micro_batches(budget))
    parts += [rollout.dummy()] * (distributed.all_reduce_max(len(parts)) - len(parts))
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        accelerator.sync_gradients = not left  # DeepSpeed steps when this is so
        with learner.no_sync() if models.is_ddp else nullcontext():
            seen = learner(part.encoded, part.groups, temperature)
            batch = part.batch.with_outputs(seen.logps.shape[1], seen.entropy, seen.values)
            losses, quantities = algorithm.loss(seen.logps, batch)
            loss = (losses * batch.weights).sum()
            accelerator.backward(loss * accelerator.num_processes)  # which averages gradients over processes
        meter.tokens(batch.mask, {"entropy": seen.entropy} | quantities)
        if algorithm.completion_source == "policy":
            meter.mismatch(batch, seen.logps)
        meter.total("loss", loss)
    return meter
