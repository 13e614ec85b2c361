"""The sections of a config. `rlvid list config` prints every key with its type, default and meaning.

Keys have TRL's names wherever the meaning is TRL's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from rlvid.config.plugins import Plugin, file_digest, plugin_digests
from rlvid.config.setting import replace_neutral, setting
from rlvid.registry import check_name, complete_fields

# The altered views of a clip, made by rlvid/video/views.py.
VIEW_NAMES = ("shuffled", "reversed", "blank", "image_only", "text_only", "patches", "noise", "crop")
# Lines of keys that were added after the first runs. With these defaults a config keeps the id that it had before.
LATER_DEFAULTS = ('protocol = "rlvid"\n', "max_completion_length = 0\n", "confidence_gate = 0.0\n")


@dataclass(frozen=True)
class NoiseConfig:
    """Errors that are put into the training data or its verifier. Evaluation data is never changed."""

    kind: str = setting("", 'kind of noise (`rlvid list noise`), whose fields are further keys here; "" adds none')
    seed: int = setting(0, "seed of the noise", at_least=0)
    fields: Mapping[str, Any] = field(default_factory=dict)  # the fields of the kind, such as rate = 0.3


@dataclass(frozen=True)
class VideoConfig:
    """How frames are chosen, resized and decoded. The defaults are those of SEED-Bench-R1 (arXiv:2503.24376)."""

    fps: float = setting(2.0, "frames taken per second of video, within min_frames and max_frames", above=0)
    min_frames: int = setting(4, "minimum number of frames", at_least=2)
    max_frames: int = setting(16, "maximum number of frames")
    resized_height: int | None = setting(252, 'height of a frame in pixels; "" keeps the aspect ratio', at_least=1)
    resized_width: int | None = setting(252, 'width of a frame in pixels; "" keeps the aspect ratio', at_least=1)
    min_pixels: int = setting(56 * 56, "minimum pixels of a frame where a size is unset", at_least=1)
    max_pixels: int = setting(256 * 28 * 28, "maximum pixels of a frame where a size is unset", at_least=1)
    on_bad_video: str = setting(
        "error",
        '"error" stops at a clip that cannot be read; "skip" leaves it out, counts it in data/decode_failures and '
        "lists it in skipped.jsonl",
        choices=("error", "skip"),
    )
    decode_timeout: float = setting(30.0, "seconds before a decoding process is killed", above=0)
    decode_workers: int = setting(2, "decoding processes", at_least=1, neutral=True)
    cache_dir: str = setting("", "folder of the frame cache; empty: $RLVID_CACHE, or ~/.cache/rlvid", neutral=True)
    cache_gb: float = setting(
        50.0, "size limit in GB of the frame cache, and of the feature cache", at_least=0, neutral=True
    )


@dataclass(frozen=True)
class TrainConfig:
    """The section [train]: how completions are sampled, the policy is optimized, and checkpoints are saved."""

    max_steps: int = setting(
        750,
        "training steps; a step samples a rollout and learns from it in num_iterations * num_minibatches optimizer "
        "steps",
        at_least=0,
    )
    prompts_per_step: int = setting(8, "prompts of a step, over all processes", at_least=1)
    protocol: str = setting(
        "rlvid",
        "wording of the questions and parser of the replies in training, as eval.protocol; its settings are not used",
    )
    data_fraction: float = setting(
        1.0, "share of the training samples to use, chosen by `seed`; a smaller share is a subset", above=0, at_most=1
    )
    num_generations: int = setting(8, "completions of a prompt, G", at_least=1)
    max_completion_length: int = setting(256, "maximum number of tokens of a completion", at_least=1)
    temperature: float = setting(1.0, "sampling temperature", above=0)
    top_p: float = setting(1.0, "nucleus sampling: the probability mass that is kept", above=0, at_most=1)
    learning_rate: float = setting(1e-6, "peak learning rate of AdamW", at_least=0)
    lr_scheduler_type: str = setting("linear", "learning rate schedule", choices=("linear", "cosine", "constant"))
    warmup_steps: int = setting(0, "steps in which the learning rate rises linearly", at_least=0)
    weight_decay: float = setting(0.0, "weight decay of AdamW", at_least=0)
    max_grad_norm: float = setting(1.0, "norm to which gradients are clipped; 0 does not clip", at_least=0)
    max_tokens_per_forward: int = setting(
        8192,
        "token budget of a micro-batch, which holds whole groups, at least one, and of prompts that are kept from "
        "sampling to learning; trades memory against speed and never changes the gradient",
        at_least=1,
    )
    gradient_checkpointing: bool = setting(False, "recompute activations in the backward pass to save memory")
    freeze_vision_tower: bool = setting(False, "do not train the vision tower")
    dtype: str = setting(
        "auto", '"auto" is bfloat16 on a GPU and float32 on a CPU', choices=("auto", "float32", "bfloat16")
    )
    attn_implementation: str = setting("sdpa", "attention implementation of transformers")
    use_vllm: bool = setting(False, "sample with vLLM, an engine in each process")
    vllm_gpu_memory_utilization: float = setting(0.3, "share of the GPU's memory that vLLM may use", above=0, at_most=1)
    vllm_enable_sleep_mode: bool = setting(True, "on a GPU, vLLM frees its memory while the policy learns")
    vllm_max_model_length: int = setting(
        0,
        "maximum tokens of a prompt and its completion, for whose cache vLLM needs memory; 0: the model's own limit",
        at_least=0,
    )
    lora_r: int = setting(0, "rank of the policy's LoRA adapter; 0 trains all weights", at_least=0)
    lora_alpha: int = setting(32, "LoRA scaling numerator: alpha / r", at_least=1)
    sync_ref_model: bool = setting(False, "the reference is an fp32 moving average of the policy")
    ref_model_mixup_alpha: float = setting(
        0.005, "share of the policy in each update of the moving average", above=0, at_most=1
    )
    ref_model_sync_steps: int = setting(10, "steps between updates of the moving average", at_least=1)
    save_steps: int = setting(50, "steps between checkpoints", at_least=1, neutral=True)
    save_total_limit: int = setting(2, "checkpoints that are kept", at_least=1, neutral=True)
    eval_steps: int = setting(0, "steps between evaluations; 0 evaluates only at the end", at_least=0)
    log_completions_steps: int = setting(
        10, "steps between completions shown in the terminal; 0: never", at_least=0, neutral=True
    )
    reward_timeout: float = setting(
        1800.0, "seconds that one reward may take in a step; 0 is no limit", at_least=0, neutral=True
    )
    ddp_timeout: int = setting(
        1800, "seconds that a process waits for the others before it ends", at_least=1, neutral=True
    )


@dataclass(frozen=True)
class ColdStartConfig:
    """Supervised fine-tuning before the run's algorithm starts. All other settings are those of [train]."""

    max_steps: int = setting(0, "training steps; 0 leaves the cold start out", at_least=0)
    prompts_per_step: int = setting(32, "prompts of a step, over all processes", at_least=1)
    learning_rate: float = setting(1e-5, "peak learning rate of AdamW", above=0)


@dataclass(frozen=True)
class EvidenceConfig:
    """What rewards may read beyond the text of a completion (rlvid/trainer/evidence.py)."""

    encoder: str = setting("all-MiniLM-L6-v2", "sentence-transformers model: this one, a folder, or a hub id")
    nli: str = setting("", "cross-encoder for natural language inference: a folder, or a hub id")
    view_generations: int = setting(4, "completions sampled from each altered view", at_least=1)
    reference: str = setting(
        "",
        "reference model: a folder, a hub id, or a checkpoint with a moving average; empty: the policy at its start",
    )


@dataclass(frozen=True)
class JudgeConfig:
    """A language model behind an OpenAI-compatible endpoint, for the rewards that use one."""

    url: str = setting("", "address of the endpoint, such as http://localhost:8000/v1", neutral=True)
    model: str = setting("", "name of the model at the endpoint")
    api_key_env: str = setting(
        "JUDGE_API_KEY", "environment variable that holds the key; the key is never written", neutral=True
    )
    temperature: float = setting(0.0, "sampling temperature", at_least=0)
    max_tokens: int = setting(512, "maximum number of tokens of a reply", at_least=1)
    timeout: float = setting(60.0, "seconds per attempt", above=0, neutral=True)
    retries: int = setting(5, "attempts after the first", at_least=0, neutral=True)
    concurrency: int = setting(16, "requests at a time, of each process", at_least=1, neutral=True)
    input_price: float = setting(0.0, "dollars per million input tokens", at_least=0, neutral=True)
    output_price: float = setting(0.0, "dollars per million output tokens", at_least=0, neutral=True)
    cache_dir: str = setting("", "folder of the cache of replies; empty: $RLVID_CACHE, or ~/.cache/rlvid", neutral=True)


@dataclass(frozen=True)
class EvalConfig:
    """The section [eval]: on which held-out questions a policy is evaluated, when and how."""

    protocol: str = setting(
        "rlvid",
        "wording, parser and denominator (`rlvid list protocols`), or a TOML file; it also sets keys of [eval] and "
        "[video], which keys given beside it override",
    )
    splits: tuple[str, ...] = setting(("L1", "L2", "L3"), "levels of the benchmark to evaluate")
    transfer: tuple[str, ...] = setting((), 'further benchmarks: "kitchen_long", a folder, or a TOML file')
    limit: int = setting(0, "number of questions of each level, from the first; 0 is all", at_least=0)
    batch_size: int = setting(
        16,
        "questions of a batch of each process; pixels, keys and values of all of them are in memory, prefill takes "
        "them in chunks",
        at_least=1,
    )
    temperature: float = setting(0.0, "sampling temperature; 0 is greedy decoding", at_least=0)
    top_p: float = setting(1.0, "nucleus sampling: the probability mass that is kept", above=0, at_most=1)
    max_completion_length: int = setting(0, "maximum number of tokens; 0: train.max_completion_length", at_least=0)
    seed: int = setting(0, "seed of the sampling, at a temperature above 0", at_least=0)
    rewards: tuple[Plugin, ...] = setting((), "rewards that are measured but not trained on: NAME = {fields}")
    confidence_gate: float = setting(
        0.0,
        "of replies with two answers (protocol video_auto): a first answer at least this likely per token ends the "
        "reply before the thought; VideoAuto-R1: 0.97; 0: no gate",
        at_least=0,
        at_most=1,
    )
    completions: str = setting("", "RUN/eval, whose completions are scored again; or RUN/samples, in groups")
    views: tuple[str, ...] = setting((), "altered views to evaluate as well", choices=VIEW_NAMES)


@dataclass(frozen=True)
class Config:
    """Everything that determines the result of a run."""

    model: str = setting("nano", 'model: "nano", "nano/loose" (`rlvid list conditions`), a folder, or a hub id')
    data: str = setting("kitchen", 'benchmark: "kitchen", a folder, or a TOML file (`rlvid list benchmarks`)')
    algorithm: Plugin = setting(Plugin("grpo"), "NAME, or {name = NAME, fields} (`rlvid list algorithms`)")
    rewards: tuple[Plugin, ...] = setting(
        (Plugin("accuracy"),), "NAME = weight, or NAME = {weight, anneal, fields} (`rlvid list rewards`)"
    )
    noise: NoiseConfig = NoiseConfig()
    cold_start: ColdStartConfig = ColdStartConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    judge: JudgeConfig = JudgeConfig()
    train: TrainConfig = TrainConfig()
    video: VideoConfig = VideoConfig()
    eval: EvalConfig = EvalConfig()
    seed: int = setting(0, "seed of the order of prompts, of sampling, and of new weights", at_least=0)
    data_seed: int = setting(0, "seed of the wrong options, where the benchmark leaves their choice open", at_least=0)
    report_to: tuple[str, ...] = setting((), 'trackers: "tensorboard", "wandb", "trackio"', neutral=True)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The algorithm, the rewards, and the rewards that are only measured."""
        return (self.algorithm, *self.rewards, *self.eval.rewards)

    @property
    def eval_max_tokens(self) -> int:
        """The maximum number of tokens of a reply in an evaluation."""
        return self.eval.max_completion_length or self.train.max_completion_length

    @property
    def id(self) -> str:
        """Twelve hex digits: a hash of the resolved config and of the files that it names.

        Runs with equal ids are the same run: keys that change no result, which `setting` calls neutral, do not count.
        Hashed files are plug-ins, preference pairs, and benchmarks and protocols that are given by path. Raises
        UserError if one is missing, or if a plug-in does not exist.
        """
        return replace_neutral(self).exact_id

    @property
    def exact_id(self) -> str:
        """A hash as `id`, but also of the neutral keys; before 2026-12-01 it was the id of runs."""
        named = [self.data, *self.eval.transfer, self.train.protocol, self.eval.protocol]
        paths = [Path(name).expanduser() for name in named if name.endswith(".toml")]
        if preferences := self.algorithm.fields.get("preferences"):
            paths.append(Path(preferences))
        digests = [file_digest(path) for path in paths]
        text = "".join(line for line in self.to_toml().splitlines(keepends=True) if line not in LATER_DEFAULTS)
        return hashlib.sha256("".join([text, *digests]).encode()).hexdigest()[:12]

    def to_toml(self) -> str:
        """Return the config as TOML with every field of every plug-in; `load` reads it back to a Config of equal id.

        [plugins] holds the digests of the plug-in files from outside. Raises UserError if a plug-in does not exist.
        """
        check_names(self)
        table = asdict(self)
        noise = complete_fields("noise", self.noise.kind, self.noise.fields) if self.noise.kind else self.noise.fields
        table["noise"] = {"kind": self.noise.kind, "seed": self.noise.seed, **noise}

        # `algorithm` and `rewards` move to the end: in TOML, plain keys come before tables.
        del table["algorithm"], table["rewards"]
        table["algorithm"] = {"name": self.algorithm.name, **self.algorithm.all_fields("algorithms")}
        table["rewards"] = {
            r.name: {"weight": r.weight, "anneal": r.anneal, **r.all_fields("rewards")} for r in self.rewards
        }
        table["eval"]["rewards"] = {r.name: {"weight": r.weight, **r.all_fields("rewards")} for r in self.eval.rewards}
        if digests := plugin_digests(self.plugins):
            table["plugins"] = digests
        return tomli_w.dumps(_without_none(table))


def check_names(config: Config) -> None:
    """Raise UserError for an algorithm, a reward or a noise that does not exist. Nothing heavy is imported."""
    check_name("algorithms", config.algorithm.name)
    for reward in (*config.rewards, *config.eval.rewards):
        check_name("rewards", reward.name)


def _without_none(value: Any) -> Any:
    """Replace None by "" in nested tables: TOML has no null, and "" reads back as None."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items()}
    return "" if value is None else value
