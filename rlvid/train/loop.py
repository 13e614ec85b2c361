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
from rlvid.config import ColdStart, Config, Eval, Plugin, Train
from rlvid.data import prompts
from rlvid.distributed import Notice
from rlvid.errors import UserError
from rlvid.noise.apply import corruption
from rlvid.policy.critic import Critic
from rlvid.policy.deepspeed import Models
from rlvid.policy.model import Policy
from rlvid.policy.oom import Room
from rlvid.policy.optimizer import adamw, check, schedule
from rlvid.policy.sampler import ACTORS
from rlvid.registry import build
from rlvid.reward import Mix
from rlvid.train import checkpoint, evidence, noop_check
from rlvid.train.display import Display
from rlvid.train.evaluation import evaluate, results
from rlvid.train.evidence import Asked, Witness
from rlvid.train.metrics import Meter, advantage_shares, repairs, summary
from rlvid.train.prefetch import Reader
from rlvid.train.rollout import Rollout, blank, minibatches
from rlvid.train.run_folder import Run
from rlvid.types import Batch, Prompt, Step


def train(config: Config, folder: Path, resume: bool = False) -> dict[str, float]:
    """Train one policy with one algorithm on one mix of rewards; return the last step's metrics.

    Raises UserError where the config, the data or the folder cannot be used, and on a non-finite gradient.
    """
    algorithm: Algorithm = build("algorithms", config.algorithm.name, **config.algorithm.fields)
    mix, noise = Mix.build(config.rewards, config.train.reward_timeout), corruption(config.noise)
    measures = mix.beside(config.eval.rewards)
    noise.check(mix.rewards)
    accelerator = distributed.accelerator(config, folder)
    check(config, algorithm, accelerator.num_processes)
    judge = evidence.models(measures, config)
    with Run.open(folder, config, resume, accelerator) as run, Display(run) as display, Notice() as notice:
        if run.done:
            display.results(results(run.folder / "eval"))
            return run.last_metrics()
        if message := noop_check.warning(algorithm, mix.weights, config.train.num_generations):
            display.warn(message)
        start = cold_start(config, run) if config.cold_start.steps else None
        prompts, levels = prompts.training(config, algorithm, noise, run), prompts.held_out(config)
        evidence.check(mix, prompts)
        for message in mix.idle(prompts):
            display.warn(message)
        evidence.check(measures, list(chain(*levels.values())))
        policy = Policy.load(config, start).to(accelerator.device)
        asked_for = {*(algorithm.needs if config.train.steps else ()), *measures.evidence}
        reference = evidence.reference(policy, config) if asked_for & evidence.BY_REFERENCE else None
        if algorithm.critic_settings:
            policy.critic = Critic(algorithm.critic_settings[0], policy.model, config).to(accelerator.device)
        checkpoint.restore(run, policy, reference)
        learner, optimizer = accelerator.prepare(policy, adamw(policy, config.train, algorithm))
        scheduler = schedule(optimizer, config.train)
        models = Models(policy, learner, optimizer, reference)
        act = ACTORS[algorithm.completions](policy, config.train, run.timed)
        aside = replace(config.train, num_generations=config.evidence.view_generations)
        room = Room("tokens", config.train.tokens_per_forward)
        witness = Witness(mix, policy, reference, config, aside, room, run.timed, judge)
        checkpoint.begin(run, models, scheduler)
        plan = [prompts.take(prompts, step, config) for step in range(run.step + 1, config.train.steps + 1)]
        speakers = policy, reference if {*measures.evidence} & evidence.BY_REFERENCE else None
        with models.whole(policy):
            run.warm(policy, chain(*plan, *levels.values()))
        read = Reader(run, policy, plan, noise.see)

        def play(asked: Sequence[Prompt], number: int, drawn: int = 0) -> Rollout:
            """Act and judge."""
            with run.timed("decode"):
                places, ours, encoded = read(asked)
            seed, spoil = f"{config.seed}|{number}", partial(noise.judge, step=number)
            groups = act(ours, encoded, seed) if ours else []
            witness(Asked(groups, encoded, seed, noise.see, spoil))
            with run.timed("reward"):
                places = [drawn + place for place in places]
                return Rollout.of(places, encoded, groups, mix(groups, spoil, number), blank(policy, asked[0]))

        compared = reference if "ref_logps" in algorithm.needs else None
        run.costs, notice.patient = judge.costs if judge else dict, True
        for number, asked in enumerate(plan, start=run.step + 1):
            with models.whole(*speakers):
                rollout, drawn = play(asked, number), list(asked)
                for _ in range(1, algorithm.max_num_gen_batches):
                    more = prompts.spare(prompts, drawn, len(asked) - len(rollout.telling), number, config)
                    if not more:
                        break
                    rollout = rollout.joined(play(more, number, len(drawn)), len(asked))
                    drawn += more
            with models.whole(compared, policy if policy.critic else None), run.timed("reference"):
                facts = rollout.facts(policy, compared, config.train, room)
            step = rollout.step(number, mix.at(number), facts, run.memory)
            batch = credit(algorithm, step)
            rollout = rollout.credited(batch, policy.device)
            with run.timed("learn"):
                learnt = learn(models, algorithm, accelerator, rollout, config.train, room)
            run.stop_unless_finite(number, learnt, rollout.records)
            scheduler.step()
            if reference:
                reference.follow(policy, number)

            metrics = summary(rollout.records) | learnt | advantage_shares(algorithm, step, batch)
            metrics |= repairs(rollout.records, algorithm.labels(step)) | algorithm.report(batch)
            metrics |= run.count(rollout.records, len(drawn))
            if number == config.train.steps or (config.train.eval_steps and number % config.train.eval_steps == 0):
                with models.whole(*speakers):
                    metrics |= evaluate(replace(witness, mix=measures), levels, run, number, display)
            run.log(number, metrics, rollout.records)
            display.step(number, metrics, rollout.records)
            checkpoint.save(run, number, metrics, models, scheduler, ending := notice.everywhere())
            if ending and number < config.train.steps:
                raise KeyboardInterrupt(f"SIGTERM, after step {number}")
        if not config.train.steps:
            with models.whole(*speakers):
                run.log(0, evaluate(replace(witness, mix=measures), levels, run, 0, display), [])
        display.results(results(run.folder / "eval"))
        return run.finish()


def cold_start(config: Config, run: Run) -> Path:
    """Train with SFT first, as a run of its own in `cold_start/`; returns the folder of its weights."""
    own = replace(config.train, **vars(config.cold_start))
    first = replace(config, algorithm=Plugin("sft"), train=own, cold_start=ColdStart(), eval=Eval(splits=()))
    train(first, run.folder / "cold_start", resume=True)
    return checkpoint.folded(run, run.folder / "cold_start")


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
    shares = [algorithm.weights(batch.of_groups(turn, len(step.ids)).mask) for turn in turns if turn]
    return replace(batch, weights=torch.cat(shares))


def learn(
    models: Models, algorithm: Algorithm, accelerator: Accelerator, rollout: Rollout, config: Train, room: Room
) -> dict[str, float]:
    """`num_iterations` passes over the batch, an optimiser step for each minibatch; returns their mean metrics."""
    learner, optimizer, meter = models.learner, models.optimizer, Meter()
    turns = minibatches(rollout.seats, len(rollout.records), algorithm.num_minibatches) * algorithm.num_iterations
    if len(turns) > 1:
        with models.whole(models.policy):
            rollout = rollout.before(models.policy, config, room)
    learner.train()  # gradient checkpointing asks for it; nothing here drops out
    for turn in turns:
        part = rollout.part(turn)
        gradient = partial(backward, models, algorithm, accelerator, part, config.temperature)
        meter.add(room.fit(gradient, part.widest * len(part.groups), part.widest, learner.zero_grad, models.again))
        models.add_up()
        meter.step(accelerator.clip_grad_norm_(learner.parameters(), config.max_grad_norm))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    learner.eval()
    return meter.means(accelerator) | {"learning_rate": optimizer.param_groups[0]["lr"]}


def backward(
    models: Models, algorithm: Algorithm, accelerator: Accelerator, rollout: Rollout, temperature: float, budget: int
) -> Meter:
    """Add a minibatch's gradient, in forwards of at most `budget` tokens, in each process as many."""
    learner, meter, parts = models.learner, Meter(), list(rollout.parts(budget))
    parts += [rollout.silent()] * (distributed.most(len(parts)) - len(parts))
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        accelerator.sync_gradients = not left  # DeepSpeed steps when this is so
        with learner.no_sync() if models.apart else nullcontext():
            seen = learner(part.encoded, part.groups, temperature)
            batch = part.batch.seen(seen.logps.shape[1], seen.entropy, seen.values)
            losses, quantities = algorithm.loss(seen.logps, batch)
            loss = (losses * batch.weights).sum()
            accelerator.backward(loss * accelerator.num_processes)  # which averages gradients over processes
        meter.tokens(batch.mask, {"entropy": seen.entropy} | quantities)
        if algorithm.completions == "policy":
            meter.mismatch(batch, seen.logps)
        meter.total("loss", loss)
    return meter
