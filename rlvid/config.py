"""A run is described by frozen dataclasses, read from TOML (`extends` a parent) and dotted overrides.

Keys are TRL's wherever the meaning is TRL's. Unknown keys are refused with a suggestion. The run's id is a hash of
the resolved config, so that two runs with equal ids are the same run.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import tomli_w

from rlvid.errors import UserError
from rlvid.registry import plugin_file, preset_path, suggest
from rlvid.video.views import VIEWS


@dataclass(frozen=True)
class Plugin:
    """A reward or an algorithm by name, with its own fields; a reward also has its weight in the mix.

    At step s a reward weighs weight * exp(-s / anneal): an aid that fades. With `anneal` 0 its weight stays.
    """

    name: str
    weight: float = 1.0
    fields: Mapping[str, Any] = field(default_factory=dict)
    anneal: float = 0.0


@dataclass(frozen=True)
class NoiseConfig:
    """What is wrong with the training data or its verifier; evaluation data is never touched."""

    kind: str = ""  # "" is clean; see `rlvid list noise`
    seed: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)  # the kind's own, such as rate = 0.3


@dataclass(frozen=True)
class VideoConfig:
    """How frames are chosen, resized and decoded. The defaults are the paper's."""

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 16
    resized_height: int | None = 252
    resized_width: int | None = 252
    min_pixels: int = 56 * 56  # used where resized_* are unset
    max_pixels: int = 256 * 28 * 28
    on_bad_video: str = "error"  # or "skip": counted in data/decode_failures, listed in the run's folder
    decode_timeout: float = 30.0  # seconds before a decoding process is killed
    decode_workers: int = 2
    cache_dir: str = ""  # empty: $RLVID_CACHE, or ~/.cache/rlvid
    cache_gb: float = 50.0


@dataclass(frozen=True)
class TrainConfig:
    """One optimiser's life: what is sampled, how it is learnt from, what is kept."""

    max_steps: int = 750
    prompts_per_step: int = 8
    data_fraction: float = 1.0  # of the training samples; the seed chooses them, and fewer are among more
    num_generations: int = 8
    max_completion_length: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    learning_rate: float = 1e-6
    lr_scheduler_type: str = "linear"  # or "cosine", "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_tokens_per_forward: int = (
        8192  # in whole groups, at least one: memory against speed; never changes the gradient
    )
    gradient_checkpointing: bool = False
    freeze_vision_tower: bool = False
    dtype: str = "auto"  # bfloat16 on a GPU, float32 on a CPU
    attn_implementation: str = "sdpa"
    use_vllm: bool = False  # True: vLLM samples, in this process; for one process
    vllm_gpu_memory_utilization: float = 0.3
    vllm_max_model_length: int = 0  # tokens of a prompt and its reply; 0: the model's own
    lora_r: int = 0  # rank of the policy's LoRA adapter; 0 trains the weights themselves
    lora_alpha: int = 32
    sync_ref_model: bool = False  # True: the reference is an fp32 moving average of the policy
    ref_model_mixup_alpha: float = 0.005
    ref_model_sync_steps: int = 10
    save_steps: int = 50
    save_total_limit: int = 2
    eval_steps: int = 0  # 0: evaluate only at the end
    log_completions_steps: int = 10  # how often one completion is shown
    reward_timeout: float = 1800.0  # seconds that one reward may take for a step; 0 waits for ever
    ddp_timeout: int = 1800  # seconds that a process waits for the others before it ends


@dataclass(frozen=True)
class ColdStartConfig:
    """Supervised fine-tuning before the run's own algorithm starts; everything not named here is as in [train]."""

    max_steps: int = 0  # 0 is none
    prompts_per_step: int = 32
    learning_rate: float = 1e-5


@dataclass(frozen=True)
class EvidenceConfig:
    """What rewards may ask for beyond the text (rlvid/trainer/evidence.py)."""

    encoder: str = "all-MiniLM-L6-v2"  # a sentence-transformers model: this one, a folder, or a hub id
    nli: str = ""  # a cross-encoder for inference between sentences: a folder, or a hub id
    view_generations: int = 4  # completions of each altered view that a reward asks for
    reference: str = ""  # a model's folder or hub id, or a checkpoint with a moving average; empty: the policy's start


@dataclass(frozen=True)
class JudgeConfig:
    """A language model behind an OpenAI-compatible endpoint, for rewards that ask one (rlvid/judges/endpoint.py)."""

    url: str = ""  # such as http://localhost:8000/v1
    model: str = ""
    api_key_env: str = "JUDGE_API_KEY"  # the environment variable that holds the key; the key is written nowhere
    temperature: float = 0.0
    max_tokens: int = 512
    timeout: float = 60.0  # seconds, for each try
    retries: int = 5
    concurrency: int = 16
    input_price: float = 0.0  # dollars for a million tokens
    output_price: float = 0.0
    cache_dir: str = ""  # empty: $RLVID_CACHE, or ~/.cache/rlvid


@dataclass(frozen=True)
class EvalConfig:
    """Held-out questions; the decoding is greedy at temperature 0."""

    splits: tuple[str, ...] = ("L1", "L2", "L3")
    transfer: tuple[str, ...] = ()  # further benchmarks that are asked: "kitchen_long", a folder, a TOML file
    limit: int = 0  # the first so many questions of each level; 0 is all
    batch_size: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    rewards: tuple[Plugin, ...] = ()  # measured besides the run's own, such as a judge that it was not trained on
    completions: str = ""  # an evaluation's folder (RUN/eval) whose replies are judged anew; nothing is sampled
    views: tuple[str, ...] = ()  # answered under these altered views, too: what does the policy really look at?


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result."""

    model: str = "nano"  # or a folder, or a hub id
    data: str = "kitchen"  # or a folder, or a TOML file: rlvid list benchmarks
    algorithm: Plugin = Plugin("grpo")
    rewards: tuple[Plugin, ...] = (Plugin("accuracy"),)
    noise: NoiseConfig = NoiseConfig()
    cold_start: ColdStartConfig = ColdStartConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    judge: JudgeConfig = JudgeConfig()
    train: TrainConfig = TrainConfig()
    video: VideoConfig = VideoConfig()
    eval: EvalConfig = EvalConfig()
    seed: int = 0
    data_seed: int = 0
    report_to: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Twelve hex digits of the resolved config, and of plug-ins, pairs and benchmarks named by a file path."""
        digest = hashlib.sha256(self.to_toml().encode())
        paths = [plugin_file(plugin.name) for plugin in (self.algorithm, *self.rewards, *self.eval.rewards)]
        paths += [Path(pairs)] if (pairs := self.algorithm.fields.get("preferences")) else []
        paths += [Path(name) for name in (self.data, *self.eval.transfer) if name.endswith(".toml")]
        for path in filter(None, paths):
            if not path.is_file():
                raise UserError(f"{str(path)!r}: no such file. Paths are relative to {Path.cwd()}")
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    def to_toml(self) -> str:
        """The resolved config as TOML that `load` reads back to an equal Config."""
        table = {k: v for k, v in asdict(self).items() if k not in ("algorithm", "rewards")}
        if not self.evidence.reference:  # ids stay what they were before this key
            del table["evidence"]["reference"]
        table["algorithm"] = {"name": self.algorithm.name, **self.algorithm.fields}
        table["rewards"] = {r.name: {"weight": r.weight, "anneal": r.anneal, **r.fields} for r in self.rewards}
        table["eval"]["rewards"] = {r.name: {"weight": r.weight, **r.fields} for r in self.eval.rewards}
        table["noise"] = {"kind": self.noise.kind, "seed": self.noise.seed, **self.noise.fields}
        return tomli_w.dumps(_without_none(table))


def load(name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a preset by name or path, then apply overrides such as `train.max_steps=10`, one TOML assignment each."""
    path = preset_path(name)
    table = _read(path)
    for override in overrides:
        _merge(table, _assignment(override))
    return from_table(table, where=str(path))


def from_table(table: Mapping[str, Any], where: str = "config") -> Config:
    """A nested table becomes a Config; raises UserError on unknown keys and wrong types."""
    table = dict(table)
    if "algorithm" in table:
        table["algorithm"] = _plugin(_promote("algorithm", table["algorithm"]), f"{where}: algorithm")
    if "rewards" in table:
        table["rewards"] = _rewards(table["rewards"], f"{where}: rewards")
    if isinstance(table.get("eval"), Mapping) and "rewards" in table["eval"]:
        measures = table["eval"]["rewards"]
        table["eval"] = {**table["eval"], "rewards": (measures and _rewards(measures, f"{where}: eval.rewards")) or ()}
    if isinstance(table.get("noise"), Mapping):
        own = {"kind", "seed"} & table["noise"].keys()
        rest = {k: v for k, v in table["noise"].items() if k not in own}
        table["noise"] = {k: table["noise"][k] for k in own} | {"fields": rest}
    config = _dataclass(Config, table, where)
    _check(config, where)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    parent = table.pop("extends", None)
    if parent is None:
        return table
    base = _read(path.parent / parent if (path.parent / parent).is_file() else preset_path(parent))
    _merge(base, table)
    return base


def _assignment(text: str) -> dict[str, Any]:
    """`a.b=1` -> {"a": {"b": 1}}; a value that is no TOML is taken as a string."""
    found = re.fullmatch(r"""((?:"[^"]*"|'[^']*'|[^"'=])+)=(.*)""", text, re.DOTALL)
    if not found:
        raise UserError(f"override {text!r} is no assignment; write it as key.sub=value")
    key, value = found.groups()
    for attempt in (value, '"' + value.strip().replace("\\", "\\\\").replace('"', '\\"') + '"'):
        try:
            return tomllib.loads(f"{key} = {attempt}")
        except tomllib.TOMLDecodeError:
            continue
    raise UserError(f'override {text!r}: {key!r} is no TOML key; quote parts with dots or slashes: rewards."./r.py:f"')


def _merge(base: dict[str, Any], change: Mapping[str, Any], path: str = "") -> None:
    """Lay `change` over `base` in place; a table meets a plug-in's short form by first spelling that out."""
    for key, value in change.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, Mapping) and key in base:
            kind = "algorithm" if here == "algorithm" else "reward" if path == "rewards" else ""
            base[key] = _promote(kind, base[key])
            if isinstance(base[key], dict) and not (kind == "algorithm" and "name" in value):
                _merge(base[key], value, here)
                continue
        base[key] = dict(value) if isinstance(value, Mapping) else value


def _promote(kind: str, value: Any) -> Any:
    """The short form of a plug-in becomes its table: "grpo" -> {name = "grpo"}, 0.2 -> {weight = 0.2}."""
    if kind == "algorithm" and isinstance(value, str):
        return {"name": value}
    if kind == "reward" and isinstance(value, int | float) and not isinstance(value, bool):
        return {"weight": value}
    return value


def _plugin(table: Any, where: str, name: str | None = None) -> Plugin:
    if not isinstance(table, Mapping):
        raise UserError(f"{where} must be a {'weight' if name else 'name'} or a table, not {table!r}")
    name = name or table.get("name")
    if not isinstance(name, str):
        raise UserError(f'{where}: the table needs a name, such as name = "grpo"')
    numbers = {"weight": table.get("weight", 1.0), "anneal": table.get("anneal", 0.0)}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{where}.{key} must be a number, not {value!r}")
    if numbers["anneal"] < 0:
        raise UserError(f"{where}.anneal must be a number of steps, or 0 for never, not {numbers['anneal']}")
    own = {k: v for k, v in table.items() if k not in ("name", *numbers)}
    return Plugin(name, float(numbers["weight"]), own, float(numbers["anneal"]))


def _rewards(table: Any, where: str) -> tuple[Plugin, ...]:
    if not isinstance(table, Mapping) or not table:
        raise UserError(f"{where} needs at least one line such as: accuracy = 1.0")
    return tuple(_plugin(_promote("reward", value), f"{where}.{name}", name) for name, value in table.items())


def _dataclass(cls: type, table: Any, where: str) -> Any:
    if not isinstance(table, Mapping):
        raise UserError(f"{where}: expected a table, not {table!r}")
    hints, known = get_type_hints(cls), {f.name for f in fields(cls)}
    for key in table:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}.{suggest(key, known)}")
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else _dataclass(kind, value, where)
    if get_origin(kind) is Mapping:
        return dict(value)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a list, not {value!r}")
        return tuple(v if isinstance(v, Plugin) else _value(item, v, where) for v in value)
    allowed = get_args(kind) if get_origin(kind) is UnionType or isinstance(kind, UnionType) else (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if NoneType in allowed and value in ("", "none"):
        return None
    if type(value) not in allowed:
        names = " or ".join(t.__name__ for t in allowed if t is not NoneType)
        raise UserError(f"{where} must be {names}, not {value!r}")
    return value


def _check(config: Config, where: str) -> None:
    """Refuse values that no run could use."""
    train, video = config.train, config.video
    rules = {
        "train.max_steps must be 0 or more": train.max_steps >= 0,
        "train.prompts_per_step must be 1 or more": train.prompts_per_step >= 1,
        "train.data_fraction must be in (0, 1]": 0 < train.data_fraction <= 1,
        "train.num_generations must be 1 or more": train.num_generations >= 1,
        "train.max_tokens_per_forward must be 1 or more": train.max_tokens_per_forward >= 1,
        "train.max_completion_length must be 1 or more": train.max_completion_length >= 1,
        "train.temperature must be above 0": train.temperature > 0,
        "train.top_p must be in (0, 1]": 0 < train.top_p <= 1,
        "train.learning_rate must be 0 or more": train.learning_rate >= 0,
        "train.save_total_limit must be 1 or more": train.save_total_limit >= 1,
        'train.lr_scheduler_type must be "constant", "linear" or "cosine"': train.lr_scheduler_type
        in ("constant", "linear", "cosine"),
        'train.dtype must be "auto", "float32" or "bfloat16"': train.dtype in ("auto", "float32", "bfloat16"),
        'video.on_bad_video must be "error" or "skip"': video.on_bad_video in ("error", "skip"),
        "video.min_frames must be 2 or more, and at most max_frames": 2 <= video.min_frames <= video.max_frames,
        "video.fps must be above 0": video.fps > 0,
        "video.decode_workers must be 1 or more": video.decode_workers >= 1,
        "video.decode_timeout must be above 0": video.decode_timeout > 0,
        "video.cache_gb must be 0 or more": video.cache_gb >= 0,
        "train.lora_r must be 0 or more": train.lora_r >= 0,
        "train.reward_timeout must be 0 or more": train.reward_timeout >= 0,
        "train.ddp_timeout must be 1 or more": train.ddp_timeout >= 1,
        "train.sync_ref_model averages whole weights; with train.lora_r the reference is the base: choose one": not (
            train.sync_ref_model and train.lora_r
        ),
        "cold_start.max_steps must be 0 or more, and cold_start.prompts_per_step 1 or more": config.cold_start.max_steps
        >= 0
        and config.cold_start.prompts_per_step >= 1,
        "evidence.view_generations must be 1 or more": config.evidence.view_generations >= 1,
        f"eval.views must be of {', '.join(VIEWS)}": set(config.eval.views) <= set(VIEWS),
        "judge.url must hold no password, which config.toml would keep; a key comes from judge.api_key_env": "@"
        not in config.judge.url.partition("//")[2].partition("/")[0],
        "eval.batch_size must be 1 or more": config.eval.batch_size >= 1,
        "eval.temperature must be 0 or more": config.eval.temperature >= 0,
    }
    for rule, holds in rules.items():
        if not holds:
            raise UserError(f"{where}: {rule}")


def _without_none(value: Any) -> Any:
    """TOML has no null: an unset optional field is written as the empty string, which reads back as unset."""
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items()}
    return "" if value is None else value
