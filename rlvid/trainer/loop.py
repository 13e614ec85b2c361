"""The training loop: sample and score completions, compute advantages, update the policy, report.

Shapes: P prompts in a step, G completions of each, B = P*G rows, T completion tokens, all counted over all processes.
Each of W processes takes P/W of the prompts. A prompt's random numbers come from the run's seed, the step and the
prompt's id, and every process computes advantages and token weights on the whole step. So the number of processes and
the size of micro-batches change a run only by rounding: sums of floating-point numbers depend on their order. This does
not hold with `train.use_vllm`, where random numbers belong to a process's batch (rlvid/policy/vllm.py).

Where to read on: setup.py builds what `self` holds here, credit.py calls the algorithm for advantages, update.py calls
it for the loss and takes the optimizer steps, and evidence.py makes what rewards read beyond the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rlvid.config import ColdStartConfig, Config, EvalConfig, Plugin
from rlvid.data.benchmark import averaged_tasks
from rlvid.data.prompts import replacement_prompts
from rlvid.errors import UserError
from rlvid.policy.parity import require_parity
from rlvid.trainer import checkpoint
from rlvid.trainer.alarms import WINDOW, Alarm, detect_alarms, unpaid_rewards
from rlvid.trainer.credit import CreditedStep, assign_credit, refined_labels
from rlvid.trainer.evidence import EvidenceRequest
from rlvid.trainer.metrics import advantage_shares, label_repair_metrics, step_metrics
from rlvid.trainer.results import results_table
from rlvid.trainer.rollout import Rollout, dummy_group
from rlvid.trainer.setup import TrainerSetup
from rlvid.trainer.token_inputs import needs_policy
from rlvid.trainer.update import update_policy
from rlvid.trainer.view_rollouts import loss_inputs
from rlvid.types import Prompt
from rlvid.utils.files import read_jsonl


def train(config: Config, folder: Path, resume: bool = False) -> dict[str, float]:
    """Train one policy with one algorithm on a weighted sum of rewards; return the last step's metrics.

    Raises:
        UserError: if the config, the data or the folder cannot be used, and on a gradient that is not finite.
    """
    with Trainer.open(config, folder, resume) as trainer:  # builds data, policy, optimizer: see setup.py
        for number, prompts in trainer.plan:
            rollout, num_drawn = trainer.rollout(number, prompts)  # G scored completions of each; SFT: demonstrations
            credited = trainer.compute_advantages(number, rollout)  # an advantage and a weight for each token
            update_metrics = trainer.update(number, credited)  # optimizer steps
            trainer.report(number, credited, update_metrics, num_drawn)  # metrics, evaluation, checkpoint
        return trainer.finish()


class Trainer(TrainerSetup):
    """The steps of one run. `TrainerSetup` builds the parts and documents them."""

    def rollout(self, number: int, prompts: Sequence[Prompt]) -> tuple[Rollout, int]:
        """Sample and score completions of a step's prompts; return the rollout and how many prompts were drawn for it.

        A group is the G completions of one prompt. It is flat if all of them have the same total reward: algorithms
        that compare the completions of a group learn nothing from it. Other groups are informative. With dynamic
        sampling (`algorithm.max_num_gen_batches` > 1) the prompts of flat groups are replaced by further ones.

        Raises UserError if none of the clips can be read.
        """
        drawn = list(prompts)
        with self.sampling_phase():
            rollout = self._sample_and_score(number, prompts)
            for _ in range(1, self.algorithm.max_num_gen_batches):
                missing = len(prompts) - len(rollout.informative)
                more = replacement_prompts(self.prompts, drawn, missing, number, self.config.seed)
                if not more:
                    break
                further = self._sample_and_score(number, more, first_index=len(drawn))
                rollout = rollout.merge(further, size=len(prompts))
                drawn += more
        if not rollout.records:
            raise UserError(
                f"step {number}: none of its clips can be read: repair or remove those that "
                f"{self.folder.path / 'skipped.jsonl'} lists"
            )
        return rollout, len(drawn)

    def _sample_and_score(self, number: int, prompts: Sequence[Prompt], first_index: int = 0) -> Rollout:
        """One round of sampling: completions, evidence and rewards of this process's share of the prompts.

        `first_index` is the number of prompts that were drawn for the step in earlier rounds.
        """
        with self.timer("decode"):  # this process's share; a prompt whose clip cannot be read is left out and counted
            indices, my_prompts, inputs = self.prefetch(prompts)
        seed = f"{self.config.seed}|{number}"
        # Some algorithms also sample completions under altered views of the clip, such as added noise. `view_inputs`
        # are the model inputs that each completion was sampled from.
        train = self.config.train
        views = self.algorithm.sampling_views(number, train.max_steps, train.num_generations)
        # In float32 on a CPU, most algorithms learn from the pass of the prompts that is made here, for sampling.
        prompt_pass = self.make_prompt_pass(inputs, indices, views)
        groups, view_inputs = self.sample(my_prompts, inputs, seed, views, prompt_pass)

        # Evidence is what rewards read beyond the text, such as completions under shuffled frames. This call puts each
        # kind that some reward needs into `group.evidence`. Noise, if the config has any, alters clips and rewards, a
        # reward as soon as it is computed: here if evidence is made from it, else in `self.mix`, the weighted sum.
        corrupt_rewards = partial(self.noise.corrupt_rewards, step=number)
        self.evidence.attach(EvidenceRequest(groups, inputs, seed, self.noise.corrupt_clip, corrupt_rewards))

        with self.timer("reward"):
            totals = self.mix(groups, corrupt_rewards, number)  # fills `group.columns`, one for each reward
            indices = [first_index + index for index in indices]
            fallback = dummy_group(self.policy, prompts[0])  # for a process without a group: it joins every collective
            inputs = loss_inputs(self.algorithm, view_inputs)
            rollout = Rollout.gather(indices, inputs, groups, totals, fallback, prompt_pass)
        self.counters.count_tokens(rollout.records)  # before flat groups are replaced, so that theirs count, too
        return rollout

    def compute_advantages(self, number: int, rollout: Rollout) -> CreditedStep:
        """Turn rewards into an advantage and a weight for every token of the step."""
        needs = self.algorithm.needs
        reference = self.reference if "ref_logps" in needs else None
        scoring_policy = self.policy if self.policy.critic or needs_policy(needs) else None
        with self.state.gathered_parameters(reference, scoring_policy), self.timer("reference"):
            # The sampler's log-probs, and whatever else the algorithm needs, such as log-probs under the reference.
            token_inputs = self.token_inputs(rollout)
        step = rollout.to_step(  # from here on all processes hold the whole step
            number=number,
            reward_weights=self.mix.weights_at(number),
            token_inputs=token_inputs,
            memory=self.counters.memory,  # what the algorithm keeps from step to step
            noisy_reward=self.noise.noisy_reward,
            max_steps=self.config.train.max_steps,
            loss_pixels=self.algorithm.loss_pixels,
        )
        batch = assign_credit(self.algorithm, step)  # advantages and token weights, (B, T) each
        my_rollout = rollout.with_batch(batch, self.policy.device)  # with this process's rows of the batch
        return CreditedStep(step, batch, my_rollout)

    def update(self, number: int, credited: CreditedStep) -> dict[str, float]:
        """Take the step's optimizer steps, then step the learning-rate schedule; return the update's metrics.

        With `train.sync_ref_model` the reference is moved towards the policy, too.
        """
        with self.timer("learn"):
            metrics = update_policy(
                self.state, self.algorithm, self.accelerator, credited.rollout, self.config.train, self.backoff
            )
        self.folder.refuse_non_finite(number, metrics, credited.rollout.records)  # before anything of it is saved
        self.scheduler.step()
        if self.reference:
            self.reference.ema_update(self.policy, number)  # only with `train.sync_ref_model`
        if self.config.train.use_vllm and self.parity_due and metrics["learning_rate"]:  # a warm-up begins with 0
            with self.sampling_phase():
                require_parity(self.policy, self.parity_prompts, self.config.train, after_step=True)
            self.parity_due = False
        return metrics

    def report(self, number: int, credited: CreditedStep, update_metrics: dict[str, float], num_drawn: int) -> None:
        """Write metrics and samples; evaluate and save a checkpoint where due.

        Raises:
            KeyboardInterrupt: after a SIGTERM, once the step is saved.
        """
        settings, records, step = self.config.train, credited.rollout.records, credited.step
        metrics = step_metrics(records) | update_metrics | advantage_shares(self.algorithm, step, credited.batch)
        metrics |= label_repair_metrics(records, refined_labels(self.algorithm, step))  # some replace wrong ones
        metrics |= self.algorithm.extra_metrics(credited.batch)
        metrics |= self.counters.update(num_drawn)  # tokens, prompts and unreadable clips so far
        if self.config.noise.kind:
            metrics |= self.counters.update_verdicts(records, self.noise.noisy_reward)  # how much is wrong so far
        self.display.step(number, metrics, records)
        if number == settings.max_steps or (settings.eval_steps and number % settings.eval_steps == 0):
            metrics |= self._evaluate(number)  # before the alarms, which compare its accuracy with earlier ones
        alarms = self._alarms(number, metrics, credited.rollout) if self.folder.is_main else []
        self.folder.log(number, metrics, records, alarms, self.judge.costs() if self.judge else {})
        self.display.alarms(alarms)
        ending = self.sigterm.received_anywhere()
        checkpoint.save(self.folder, self.counters, self.state, self.scheduler, number, metrics, ending)
        if ending and number < settings.max_steps:
            raise KeyboardInterrupt(f"SIGTERM, after step {number}")

    def _evaluate(self, number: int) -> dict[str, float]:
        """Answer the held-out questions; return accuracy and rewards of each level."""
        with self.sampling_phase():
            return self.evaluation.run(number)

    def _alarms(self, number: int, metrics: dict[str, float], rollout: Rollout) -> list[Alarm]:
        """Signs that the run learns the wrong thing; earlier steps are read only where they are compared."""
        levels = [level for level in self.config.eval.splits if f"eval/{level}/accuracy" in metrics]
        sizes = {level: len(read_jsonl(self.folder.eval_path(level, number))) for level in levels}
        compared = sizes or number % WINDOW == 0
        previous = read_jsonl(self.folder.path / "metrics.jsonl") if compared else []
        return detect_alarms(metrics, rollout.records, previous, sizes, self.policy.bf16)

    def finish(self) -> dict[str, float]:
        """Show the results and mark the run as done; return the last step's metrics.

        A run without steps, such as that of `rlvid eval`, is evaluated here.
        """
        if not self.folder.is_done and not self.config.train.max_steps:
            metrics = self._evaluate(0)
            self.folder.log(0, metrics, [], [], self.judge.costs() if self.judge else {})
        averages = averaged_tasks(self.config.data, *self.config.eval.transfer)
        self.display.results(results_table(self.folder.path / "eval", averages))
        if self.folder.is_main:
            for message in unpaid_rewards(read_jsonl(self.folder.path / "metrics.jsonl"), self.mix.weights):
                self.display.warn(message)
        return self.folder.finish()

    def cold_start(self) -> Path:
        """Train with SFT first, as a run of its own in `cold_start/`; return the folder of its weights.

        `TrainerSetup` calls this before it loads the policy, if `cold_start.max_steps` is set.
        """
        path = self.folder.path / "cold_start"
        # The cold start samples nothing and has no reference. It reports to no trackers: closing them at its end would
        # also close the process group of the run that it is a part of.
        # SFT learns nothing from rewards, so rewards that need a model or a judge are left out.
        rewards = tuple(reward for reward in self.config.rewards if reward.name in self.mix.text_only)
        settings = vars(self.config.cold_start)
        warmup_steps = min(self.config.train.warmup_steps, self.config.cold_start.max_steps - 1)
        train_config = replace(
            self.config.train, **settings, warmup_steps=warmup_steps, use_vllm=False, sync_ref_model=False
        )
        config = replace(
            self.config,
            algorithm=Plugin("sft"),
            rewards=rewards or (Plugin("accuracy"),),
            train=train_config,
            cold_start=ColdStartConfig(),
            eval=EvalConfig(splits=()),
            report_to=(),
        )
        train(config, path, resume=True)
        return checkpoint.export_cold_start(self.folder, path)
