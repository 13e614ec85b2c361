"""What a run will hold in memory, counted before anything is loaded: `rlvid train PRESET --plan`.

The model is built without memory (torch's meta device) and its parameters counted; everything else is counted from the
config by the formulas that the table shows. h is the width of a state, m of the MLP, e of the vision tower's patches; P
are a prompt's tokens, T a completion's at most, G completions a group, N all tokens of a forward. `tests/test_plan.py`
holds the count against what torch allocates in a real step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from rich import box
from rich.table import Table
from rich.text import Text
from transformers import AutoConfig, AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rlvid.algorithm import Algorithm
from rlvid.bench.workload import architecture
from rlvid.config import Config
from rlvid.errors import UserError
from rlvid.policy import lora
from rlvid.policy.logprobs import MAX_LOGITS
from rlvid.policy.model import frozen_linears
from rlvid.registry import NANO_CHECKPOINT, build
from rlvid.reward import RewardMix
from rlvid.trainer import evidence
from rlvid.video.resize import IMAGE_FACTOR

TEXT = 200  # tokens of a question, its options and the chat template: the paper's are 930 with 729 visual ones
FLOAT, HALF = 4, 2
PUBLISHED = {"Qwen/Qwen2-VL-2B-Instruct": "2b", "Qwen/Qwen2-VL-7B-Instruct": "7b"}  # known without the hub
GB = 1e9


@dataclass(frozen=True)
class Devices:
    """How many processes share a run, and what of it: DeepSpeed's ZeRO stage, 0 without."""

    processes: int = 1
    stage: int = 0
    offload: bool = False  # the optimiser's arithmetic and moments, and the gradients, to the machine's own memory
    offload_weights: bool = False  # the shards of the weights

    @classmethod
    def read(cls, path: Path) -> Devices:
        """From the YAML file that `accelerate launch --config_file` takes."""
        try:
            about = yaml.safe_load(path.read_text())
            zero = about.get("deepspeed_config", {})
            moments, weights = (zero.get(f"offload_{what}_device") == "cpu" for what in ("optimizer", "param"))
            return cls(int(about["num_processes"]), int(zero.get("zero_stage", 0)), moments, weights)
        except (OSError, AttributeError, KeyError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{path}: no accelerate config that says num_processes: {error!r}") from error


@dataclass(frozen=True)
class Part:
    """Something in a device's memory, in bytes, and in which of the `PHASES`."""

    name: str
    size: float
    how: str
    phases: str = "act compare learn back step"


@dataclass(frozen=True)
class Sizes:
    """Parameters of a model as a run holds it."""

    config: Qwen2VLConfig
    language: int
    vision: int
    words: int  # embeddings, and the head where it is not tied to them
    trainable: int
    extra: int  # adapters
    resting: int  # of matrices that do not learn
    matrices: int  # of all matrices

    @property
    def all(self) -> int:
        """Every parameter."""
        return self.language + self.vision + self.words + self.extra


@dataclass(frozen=True)
class Plan:
    """What each of some devices holds."""

    parts: tuple[Part, ...]

    def peak(self) -> tuple[str, float]:
        """The phase that needs most, and how many bytes."""
        sums = {phase: sum(p.size for p in self.parts if phase in p.phases.split()) for phase in PHASES}
        return max(sums.items(), key=lambda one: one[1])


PHASES = {
    "act": "sampling",
    "compare": "the reference's say",
    "learn": "the end of learning's forward",
    "back": "its backward",
    "step": "the optimiser's step",
}
USABLE = 0.9  # of a device's memory: the rest is for CUDA's own, and for what lies between allocations
MACHINES = ((1, 24), (1, 48), (1, 80), (1, 141), (8, 40), (8, 80))  # devices, GB of each


def plan(config: Config, devices: Devices, mixed: bool = True) -> Plan:
    """Count a run; `mixed` is bfloat16 products on float32 weights, as on a GPU. UserError for an unknown model."""
    train, algorithm = config.train, build("algorithms", config.algorithm.name, **config.algorithm.fields)
    size, each, ranks = sizes(config), HALF if mixed else FLOAT, devices.processes
    shard = {0: 1.0, 1: 1.0, 2: 1.0, 3: 1 / ranks}[devices.stage]
    state = 1 / ranks if devices.stage else 1.0
    off, away = (0.0 if there else 1.0 for there in (devices.offload, devices.offload_weights))
    weights, learnt, once = FLOAT * size.all, FLOAT * size.trainable, "4 bytes a trainable parameter"
    spared = FLOAT - HALF if mixed and not devices.stage else 0  # for each parameter of a matrix that rests
    kept = "4 bytes a parameter, 2 in matrices that rest" if spared else "4 bytes a parameter"
    held = (weights - spared * size.resting) * shard * (away if devices.stage == 3 else 1)
    parts = [
        Part("weights", held, kept),
        Part("AdamW's moments", 2 * learnt * state * off, "8 bytes a trainable parameter"),
        Part("gradients", learnt * (state if devices.stage > 1 else 1) * off, once, "learn back step"),
        Part("AdamW's arithmetic", learnt * state * off, once, "step"),
    ]
    if ranks > 1 and not devices.stage:
        parts.append(Part("gradients on their way", learnt, once, "learn back step"))
    if refers(config, algorithm) and not train.lora_r:
        copy = weights - (0 if train.sync_ref_model else spared * size.matrices)
        parts.append(Part("the reference", copy * shard * (away if devices.stage == 3 else 1), kept))
        if devices.stage == 3:
            parts.append(Part("the reference, whole", weights, "gathered while it is asked", "compare"))
    if devices.stage == 3:
        parts.append(Part("the policy, whole", weights, "gathered while it samples", "act"))
    if mixed:
        phases = "act learn" if train.gradient_checkpointing else "act learn back"
        parts.append(Part("weights in bfloat16", HALF * size.trainable, "2 bytes a trainable parameter", phases))
    return Plan((*parts, *_activations(config, algorithm, size, ranks, each)))


def _activations(config: Config, algorithm: Algorithm, size: Sizes, ranks: int, each: int) -> list[Part]:
    """What tokens leave behind on their way through the model."""
    train, text, eyes = config.train, size.config.text_config, size.config.vision_config
    h, m, e, layers = text.hidden_size, text.intermediate_size, eyes.embed_dim, text.num_hidden_layers
    visual = pictures(config)
    prompt, reply = TEXT + visual, train.max_completion_length
    count = train.num_generations if algorithm.completion_source == "policy" else 1
    row = prompt + count * reply
    groups = max(1, train.max_tokens_per_forward // row)
    tokens, seen = groups * row, groups * (prompt + count * (prompt + reply))
    mixed = each == HALF
    layer = (32 * h + 8 * m) * tokens + 4 * h * seen if mixed else 4 * ((9 * h + 4 * m) * tokens + 2 * h * seen)
    patches = 4 * visual * groups
    block = (22 + 6 * eyes.mlp_ratio) * e * patches if mixed else 4 * (9 + 3 * eyes.mlp_ratio) * e * patches
    if train.lora_r or train.freeze_vision_tower:
        block = 0
    once, again = max(layer, block), "its gradients"
    if train.gradient_checkpointing:
        layer, block, once, again = (
            FLOAT * h * tokens,
            each * e * patches * bool(block),
            2 * once,
            "made again, and that",
        )
    each_token = "32 h + 8 m" if mixed else "36 h + 16 m"
    logits = min(MAX_LOGITS, groups * count * reply * text.vocab_size)
    how = "their inputs, 4 h each" if train.gradient_checkpointing else f"{each_token} each, and keys and values"
    parts = [
        Part("layers", layer * layers, f"N = {tokens} tokens, {how}", "learn back"),
        Part("vision tower", block * eyes.depth, f"{patches} patches", "learn back"),
        Part("one layer", once, again, "back"),
        Part("logits", 6 * FLOAT * logits, f"six times {logits / 1e6:.0f} M of them", "learn"),
    ]
    if algorithm.completion_source == "policy":
        rows = -(-train.prompts_per_step // ranks) * count
        width = 2 * text.num_key_value_heads * (h // text.num_attention_heads)
        cache = rows * (prompt + reply) * layers * width * each
        parts.append(Part("keys and values", cache, f"{rows} rows of {prompt + reply} tokens", "act"))
        parts.append(Part("next tokens", 4 * FLOAT * rows * text.vocab_size, "four times their logits", "act"))
    return parts


def table(found: Plan, devices: Devices) -> Table:
    """What each device holds, part by part, and in which phase most."""
    phase, most = found.peak()
    shared = f" of {devices.processes}" if devices.processes > 1 else ""
    shown = Table("GB", "of", "counted as", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for part in sorted(found.parts, key=lambda part: -part.size):
        here = phase in part.phases.split()
        shown.add_row(f"{part.size / GB:.2f}", part.name, part.how, style="" if here else "dim")
    shown.add_section()
    shown.add_row(
        f"{most / GB:.2f}", f"on each device{shared}", f"most in {PHASES[phase]}; dim: not then", style="bold"
    )
    return shown


def machines(config: Config) -> Table:
    """Gigabytes a device, on machines of some sizes, in some ways of sharing; green where there is room for them."""
    ways = {"as it is": (0, config), "ZeRO-2": (2, config), "ZeRO-3": (3, config)}
    ways["lora_r = 16"] = (0, replace(config, train=replace(config.train, lora_r=config.train.lora_r or 16)))
    shown = Table("GB a device", *ways, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    counted: dict[tuple[int, int, int], float] = {}
    for ranks, memory in MACHINES:
        cells = []
        for stage, changed in ways.values():
            if stage and ranks == 1:
                cells.append(Text("–"))
                continue
            key = ranks, stage, changed.train.lora_r
            counted[key] = counted.get(key) or plan(changed, Devices(ranks, stage)).peak()[1]
            fits = counted[key] < USABLE * memory * GB
            cells.append(Text(f"{counted[key] / GB:.0f} {'fits' if fits else 'no'}", "green" if fits else "red"))
        shown.add_row(f"{ranks} x {memory}", *cells)
    return shown


def sizes(config: Config) -> Sizes:
    """Count a model's parameters without reading its weights."""
    about, train = architecture_of(config.model), config.train
    with torch.device("meta"):
        model = Qwen2VLForConditionalGeneration(about)
    language, vision = (count(part) for part in (model.model.language_model, model.model.visual))
    words = count(model.get_input_embeddings())
    everything, matrices = count(model), sum(p.numel() for p in frozen_linears(model.requires_grad_(False)))
    model.requires_grad_(True)
    if train.lora_r:
        with torch.device("meta"):
            lora.add_adapter(model, lora.POLICY, train.lora_r, train.lora_alpha, config.seed)
    if train.freeze_vision_tower:
        model.model.visual.requires_grad_(False)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    others, extra, still = everything - language - vision + words, count(model) - everything, frozen_linears(model)
    return Sizes(about, language - words, vision, others, trainable, extra, sum(p.numel() for p in still), matrices)


def count(module: torch.nn.Module) -> int:
    """Its parameters, each once."""
    return sum(p.numel() for p in module.parameters())


def architecture_of(model: str) -> Qwen2VLConfig:
    """A model's configuration: one of the two published ones, nano's, a folder's, or the hub's."""
    if model in PUBLISHED:
        return architecture(PUBLISHED[model], AutoTokenizer.from_pretrained(NANO_CHECKPOINT))
    try:
        found = AutoConfig.from_pretrained(
            lora.base_model_of(str(NANO_CHECKPOINT) if model == "nano" else model), trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"model {model!r}: no config.json there, nor on the hub: {reason}") from error
    if not isinstance(found, Qwen2VLConfig):
        raise UserError(f"model {model!r} is a {found.model_type}, not a Qwen2-VL")
    return found


def pictures(config: Config) -> int:
    """Visual tokens of a prompt with a film of as many frames as there may be, and an image."""
    video = config.video
    area = (video.resized_height or 0) * (video.resized_width or 0) or video.max_pixels
    return area // IMAGE_FACTOR**2 * (video.max_frames // 2 + 1)


def refers(config: Config, algorithm: Algorithm) -> bool:
    """Whether a reference is kept."""
    mix = RewardMix.build(config.rewards).with_measures(config.eval.rewards)
    return "ref_logps" in algorithm.needs or evidence.needs_reference(mix)
