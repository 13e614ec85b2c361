"""Everything that is built before the first step: checks, the run's folder, data, policy, optimizer, samplers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from rlvid.algorithm import Algorithm
from rlvid.config import Config
from rlvid.data.benchmark import EMBEDDED
from rlvid.data.prompts import TrainingData, held_out_prompts, prompts_of_step, training_data
from rlvid.distributed import SigtermHandler, make_accelerator, uses_zero3
from rlvid.noise.apply import build_noise, refuse_half_noise
from rlvid.policy.critic import Critic
from rlvid.policy.deepspeed import TrainState, prepare
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.optimizer import build_adamw, build_scheduler, check_config, learning_rate_warning, warmup_warning
from rlvid.policy.parity import probes, require_parity
from rlvid.policy.reference import Reference
from rlvid.policy.sampler import SAMPLERS, free_sampler_memory
from rlvid.protocols import DEFAULT, load_protocol
from rlvid.registry import embedded_models
from rlvid.reward import RewardMix
from rlvid.trainer import checkpoint
from rlvid.trainer.counters import Counters
from rlvid.trainer.display import Display
from rlvid.trainer.evaluation import Evaluation
from rlvid.trainer.evidence import (
    EvidenceProvider,
    check_evidence,
    check_evidence_names,
    check_evidence_of_model,
    load_judge_models,
    needs_reference,
    open_judge,
)
from rlvid.trainer.noop_check import channel_warning, check_rewards, noise_warning, noop_warning, refuse_idle_correction
from rlvid.trainer.prefetch import PromptPrefetcher, prompt_share
from rlvid.trainer.prompt_pass_maker import PromptPassMaker
from rlvid.trainer.reference import build_reference, check_reference
from rlvid.trainer.run_folder import RunFolder
from rlvid.trainer.timer import StepTimer
from rlvid.trainer.token_inputs import TokenInputs, check_needs, check_order_matters
from rlvid.trainer.view_rollouts import ViewSampler, check_sampling_views
from rlvid.types import Prompt
from rlvid.utils.files import write_jsonl, write_text
from rlvid.video.views import check_views


class TrainerSetup:
    """The parts of a run. `Trainer` in loop.py adds the steps.

    Used as a context manager: the folder's lock, the progress display and the SIGTERM handler last as long as it does.

    Attributes:
        config, algorithm, accelerator: the settings, the algorithm, and accelerate's `Accelerator`.
        mix: the rewards that are trained on, with their weights.
        eval_mix: `mix` plus the rewards that evaluation only measures (`eval.rewards`).
        noise: errors that are put into the training data or the rewards.
        plan: (step, its prompts) for each step that is left; empty if the run had finished before.
        parity_prompts: prompts on which the parity gate compares, of this process's.
        parity_due: whether the parity gate has not yet compared after an optimizer step.
        prompts, levels: the training prompts, and the held-out ones by level.
        prefetch: prompts -> model inputs of this process's share, prepared one step ahead.
        make_prompt_pass: model inputs -> their pass through the model, if sampling and learning can share it.
        sample: prompts, model inputs and views -> groups of completions, and their inputs.
        evidence: puts what rewards read beyond the text into `group.evidence`.
        token_inputs: what the algorithm reads about each token.
        policy, reference: the model that is trained; the frozen model that a KL or evidence needs, or None.
        state: the policy, the reference and the optimizer, as accelerate prepared them for one or more processes.
        scheduler: of the learning rate.
        backoff: the number of tokens per forward pass, halved where memory runs out.
        judge: a language model behind an endpoint, or None if no reward needs one.
        evaluation, folder, counters, timer, display, sigterm: the held-out questions; what is written; running totals;
            seconds per phase; progress on the screen; whether SIGTERM was received.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        """Build what needs neither data nor weights, and refuse configs that cannot run.

        Raises:
            UserError: if the config, a judge or a text model cannot be used. Nothing has been written then.
        """
        self.config = config
        self.algorithm: Algorithm = config.algorithm.build("algorithms")
        self.mix = RewardMix.build(config.rewards, config.train.reward_timeout)
        self.eval_mix = self.mix.with_measures(config.eval.rewards)
        check_needs(config.algorithm.name, self.algorithm.needs)
        check_sampling_views(self.algorithm, config.train)
        if config.train.max_steps:
            check_rewards(self.algorithm, self.mix.weights)
        check_evidence_names(self.eval_mix)
        check_evidence_of_model(self.eval_mix, config.model, config.train.use_vllm)
        check_reference(config.train, self.algorithm, self.eval_mix)
        check_views(config.eval.views)
        refuse_half_noise(config.noise)
        refuse_idle_correction(self.algorithm, config.noise.kind, config.data)
        self.noise = build_noise(config.noise)
        self.noise.check_rewards(self.mix.rewards)
        self.accelerator = make_accelerator(
            folder, config.report_to, config.train.ddp_timeout, config.train.max_grad_norm
        )
        check_config(config.train, self.algorithm, config.algorithm.name, self.accelerator.num_processes)
        self.judge = load_judge_models(
            self.eval_mix, config.evidence, lambda: open_judge(config, folder, self.accelerator.is_main_process)
        )
        self.timer, self.counters = StepTimer(), Counters()
        self.folder = RunFolder(folder, config, self.accelerator, self.timer)
        self.display = Display(
            config.model, config.train.max_steps, self.folder.is_main, config.train.log_completions_steps
        )
        self.sigterm = SigtermHandler()
        self.backoff = OOMBackoff("tokens", config.train.max_tokens_per_forward)
        self.plan: list[tuple[int, list[Prompt]]] = []
        self.parity_prompts: list[Prompt] = []
        self.parity_due = True

    @classmethod
    def open(cls, config: Config, folder: Path, resume: bool) -> Self:
        """Return a trainer that has claimed the run's folder. Its `with` statement builds the rest.

        Raises UserError if the config cannot run, or if the folder is in use or holds another run.
        """
        trainer = cls(config, folder)
        trainer.folder.claim(resume)
        return trainer

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for part in (self.folder, self.display, self.sigterm):
                stack.enter_context(part)
            if not self.folder.is_done:
                self._load_data()
                self._load_models(self.cold_start() if self.config.cold_start.max_steps else None)
                self._prepare_steps()
            self._stack = stack.pop_all()
        self.sigterm.graceful = True  # from here on there are steps to finish
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def rollout_models(self) -> tuple[Policy, Reference | None]:
        """The models that sampling and evidence run: the policy, and the reference if evidence needs it.

        `eval_mix` decides this for training, too: it holds all rewards of `mix`.
        """
        return self.policy, self.reference if needs_reference(self.eval_mix) else None

    @contextmanager
    def sampling_phase(self) -> Iterator[None]:
        """Gather the weights of `rollout_models` under ZeRO-3; at the end, free the memory that only sampling needs.

        A collective under ZeRO-3. Inside, processes need not wait for each other.
        """
        with self.state.gathered_parameters(*self.rollout_models):
            yield
        free_sampler_memory(self.config.train)

    def cold_start(self) -> Path:
        """Train the weights that the run starts from; return their folder. `Trainer` does this."""
        raise NotImplementedError

    def _load_data(self) -> None:
        """Training prompts, held-out levels, and what noise changed; refuse rewards that the data cannot serve."""
        config = self.config
        noop = noop_warning(self.algorithm, self.mix.weights, config.train.num_generations)
        channel = channel_warning(self.algorithm, self.noise, config.noise.kind)
        self.display.warn(noop, channel, learning_rate_warning(config.train), warmup_warning(config.train))
        if config.model in embedded_models() and config.data not in EMBEDDED:
            self.display.warn(
                f"the model {config.model} knows the embedded kitchen and nothing else: on {config.data} it guesses"
            )
        trained, evaluated = (load_protocol(name) for name in (config.train.protocol, config.eval.protocol))
        if config.train.max_steps and trained.prompt != evaluated.prompt:
            words = "SEED-Bench-R1" if trained == DEFAULT else trained.name
            self.display.warn(f"training words its questions as {words} does, evaluation as {evaluated.name} does")
        self.prompts = self._training_prompts() if config.train.max_steps else []
        self.levels: Mapping[str, Sequence[Prompt]] = held_out_prompts(
            config.data, config.eval.splits, config.eval.transfer, config.eval.limit, config.eval.protocol
        )
        check_evidence(self.mix, self.prompts)
        check_order_matters(config.algorithm.name, self.algorithm.needs, self.prompts)
        self.display.warn(*self.mix.inapplicable_rewards(self.prompts))
        check_evidence(self.eval_mix, list(chain(*self.levels.values())))

    def _training_prompts(self) -> list[Prompt]:
        config, train, preferences = self.config, self.config.train, getattr(self.algorithm, "preferences", "")
        split = "train_cot" if self.algorithm.completion_source == "data" and not preferences else "train"
        pairs = Path(preferences) if preferences else None
        data: TrainingData = training_data(
            config.data, split, config.data_seed, train.data_fraction, config.seed, self.noise, pairs, train.protocol
        )
        if not (config.cold_start.max_steps and config.noise.kind == "reasoning"):  # a cold start has demonstrations
            changed, evidence = len(data.manifest), self.mix.required_evidence
            self.display.warn(noise_warning(self.noise, config.noise.kind, changed, split, evidence))
        if self.folder.is_main and config.noise.kind:
            write_jsonl(self.folder.path / "noise_manifest.jsonl", data.manifest)
            write_text(self.folder.path / "noise.json", json.dumps(data.noise_summary))
        return data.prompts

    def _load_models(self, start: Path | None) -> None:
        """Policy, reference and critic, with the weights of the last checkpoint; optimizer and schedule.

        `start` is a folder of weights that replaces the config's model.
        """
        config, train = self.config, self.config.train
        name = str(start or config.model)
        self.policy = Policy.load(name, train, config.video, config.seed)
        if not uses_zero3():  # there only shards of the weights are moved
            self.policy.to(self.accelerator.device)
        algorithm_needs_reference = bool(train.max_steps) and "ref_logps" in self.algorithm.needs
        self.reference: Reference | None = None
        if algorithm_needs_reference or needs_reference(self.eval_mix):
            self.reference = build_reference(self.policy, config)
        if self.algorithm.critic_settings and train.max_steps:
            kind, _ = self.algorithm.critic_settings
            critic = Critic(kind, self.policy.model, train.lora_r, train.lora_alpha, config.seed)
            self.policy.critic = critic.to(self.accelerator.device)
        checkpoint.restore_weights(self.folder, self.policy, self.reference)
        optimizer = build_adamw(self.policy, train, self.algorithm)
        learner, optimizer = prepare(self.accelerator, self.policy, optimizer)
        self.scheduler = build_scheduler(optimizer, train)
        self.state = TrainState.create(self.policy, learner, optimizer, self.reference)

    def _prepare_steps(self) -> None:
        """Samplers, evidence, evaluation; the plan of the steps that are left, whose clips are decoded ahead."""
        config, train = self.config, self.config.train
        sample = SAMPLERS[self.algorithm.completion_source](self.policy, train, self.timer)
        self.sample = ViewSampler(sample, self.policy, train, self.timer, self.noise.corrupt_clip)
        self.make_prompt_pass = PromptPassMaker(
            self.algorithm, self.policy, train, self.backoff, self.timer, self.state.stage
        )
        self.evidence = EvidenceProvider(
            mix=self.mix,
            policy=self.policy,
            reference=self.reference,
            evidence_config=config.evidence,
            sampling=replace(train, num_generations=config.evidence.view_generations),
            backoff=self.backoff,
            timer=self.timer,
            judge=self.judge,
        )
        self.token_inputs = TokenInputs(
            self.algorithm.needs,
            self.policy,
            self.reference,
            train.temperature,
            self.backoff,
            self.noise.corrupt_clip,
            self.timer,
            keeps_forward=self.state.stage == 0 and self.algorithm.num_iterations * self.algorithm.num_minibatches == 1,
        )
        reported_by = self.folder, self.timer, self.counters, self.display
        evidence = replace(self.evidence, mix=self.eval_mix)
        self.evaluation = Evaluation(config.eval, train, evidence, self.levels, *reported_by)
        last = checkpoint.restore_training_state(self.folder, self.counters, self.state, self.scheduler)
        self.plan = [
            (step, prompts_of_step(self.prompts, step, train.prompts_per_step, config.seed))
            for step in range(last + 1, train.max_steps + 1)
        ]
        planned = [prompts for _, prompts in self.plan]
        with self.sampling_phase():
            self._decode_ahead(chain(*planned, *self.levels.values()))
        self.prefetch = PromptPrefetcher(
            self.policy,
            planned,
            self.folder.on_bad_clip(self.counters),
            self.noise.corrupt_clip,
            self.timer,
            self.folder.rank,
            self.folder.world_size,
        )

    def _decode_ahead(self, prompts: Iterable[Prompt]) -> None:
        """Decode into the cache what this process will need; refuse bad clips and a model that sees something else."""
        needed = list(prompts)
        self.display.warn(self.policy.frames.size_warning(needed))
        mine = {needed[i].id: needed[i] for i in prompt_share(needed, self.folder.rank, self.folder.world_size)}
        bad = self.policy.frames.warm(list(mine.values()), progress=self.folder.is_main)
        if bad and self.config.video.on_bad_video == "error":
            raise bad[0]
        unreadable = {error.sample for error in bad}
        readable = [prompt for prompt in mine.values() if prompt.id not in unreadable]
        if readable:
            self.policy.check_pixels_matter(readable[0])
            self.parity_prompts = probes([*self.policy.frames.largest(readable), *readable])
            require_parity(self.policy, self.parity_prompts, self.config.train)
