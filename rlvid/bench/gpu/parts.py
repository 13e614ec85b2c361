"""The parts of `rlvid bench gpu`: what each asserts or measures, its bar, and its time limit. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlvid.errors import UserError
from rlvid.registry import suggest

PRESETS = ("tiny", "2b", "7b")  # random weights; 2b and 7b have the shapes of Qwen2-VL-2B and 7B
ROOM = "rlvid.bench.gpu"
BOTH = ("2b", "7b")


@dataclass(frozen=True)
class Part:
    """One function that asserts or measures something.

    A part with a bar is a correctness part: if it fails, so does the command.
    """

    name: str
    text: str  # what it asserts or measures
    function: str  # "module:function"; takes a `part_run.PartRun`
    limit: float  # seconds, after which it is killed
    bar: str = ""  # what must hold; "" for a measurement
    presets: tuple[str, ...] = ("2b",)  # with which it runs if the command names none
    needs_cuda: bool = False
    own_process: bool = False  # no other part runs in its process


@dataclass(frozen=True)
class Case:
    """A part with a preset."""

    part: Part
    preset: str

    @property
    def name(self) -> str:
        """The name of the part and of the preset that it runs with, such as "packing 2b"."""
        return f"{self.part.name} {self.preset}"


PARTS = (
    Part(
        "shapes",
        "parameters, head, tied weights and gradients of the model",
        f"{ROOM}.models:shapes",
        90,
        "as many parameters as published; finite log-probs; a finite gradient, not 0, for each trained weight",
        BOTH,
    ),
    Part(
        "packing",
        "log-probs and gradients of packed rows against those of separate rows",
        f"{ROOM}.packing:packed_rows",
        90,
        "float32: 3e-4. bfloat16: packed - separate <= 1.5 x the most that paddings of the separate rows differ; "
        "packed - float32 <= 1.25 x separate - float32",
        BOTH,
    ),
    Part(
        "sampler",
        "greedy completions against transformers' `generate`; sampled log-probs against the learner's",
        f"{ROOM}.sampling:sampler",
        90,
        "the same tokens, except where the float32 gap of two tokens is less than rounding; float32 log-probs: 1e-3; "
        "bfloat16: 2 x rounding, also after the weights moved",
        BOTH,
    ),
    Part(
        "graph",
        "decoding by CUDA graphs against eager decoding, before and after the weights move",
        f"{ROOM}.sampling:graph",
        60,
        "graphs are replayed; float32 log-probs: 1e-3; bfloat16: 2 x eager - learner",
        BOTH,
        needs_cuda=True,
    ),
    Part(
        "features",
        "cached features of a frozen vision tower against computed ones",
        f"{ROOM}.models:features",
        60,
        "the same bits from the file; log-probs within 1.5 x rounding",
    ),
    Part(
        "oom",
        "a step that does not fit in memory, learnt in smaller micro-batches",
        f"{ROOM}.models:out_of_memory",
        90,
        "memory really runs out; loss and gradient norm of the whole step within 1 % (float32: 0.01 %)",
        own_process=True,
    ),
    Part(
        "resume",
        "a run of nano that is resumed from a checkpoint against one without interruption",
        f"{ROOM}.runs:resume",
        90,
        "CPU: the same bits. GPU: metrics differ no more than 3 x those of two runs without interruption",
    ),
    Part("device", "memory bandwidth and matrix products per second", f"{ROOM}.speed:device_rates", 40),
    Part("ours", "steps of rlvid, by phase", f"{ROOM}.speed:step_ours", 90, presets=BOTH),
    Part("memory", "peak memory of each phase of a step, over the estimate of `--plan`", f"{ROOM}.speed:memory", 60,
         presets=BOTH),
    Part("learn", "learning from 1 and 8 groups (2 on a CPU): model FLOPs over time, as a share of what products reach",
         f"{ROOM}.speed:learn", 60, presets=BOTH),
    Part("decode", "seconds per token of 1 and 8 groups (2 on a CPU), over the time to read weights and cache",
         f"{ROOM}.speed:decode", 60, presets=BOTH),
    Part("trl", "steps of TRL's GRPOTrainer on images", f"{ROOM}.speed:step_trl", 120, presets=BOTH),
    Part("rows", "steps with the prompt repeated for each completion", f"{ROOM}.speed:step_rows", 90, presets=BOTH),
    Part("reference", "a step of the paper's scheme: `rows`, and one `generate` call per completion",
         f"{ROOM}.speed:step_reference", 120, presets=BOTH),
)  # fmt: skip


def planned(preset: str = "", names: Sequence[str] = ()) -> list[Case]:
    """Return the cases to run: correctness parts first, preset by preset, and then measurements, part by part.

    Args:
        preset: of all parts; "" runs each with its own ones.
        names: of the parts; none means all.

    Raises:
        UserError: for an unknown preset or part.
    """
    if preset and preset not in PRESETS:
        raise UserError(f"no preset {preset!r}.{suggest(preset, PRESETS)}")
    known = [part.name for part in PARTS]
    for name in names:
        if name not in known:
            raise UserError(f"no part {name!r} of rlvid bench gpu.{suggest(name, known)}")
    return list(_in_order([part for part in PARTS if not names or part.name in names], preset))


def _in_order(parts: Sequence[Part], preset: str) -> Iterator[Case]:
    presets = [preset] if preset else PRESETS
    for one in presets:
        yield from (Case(part, one) for part in parts if part.bar and (preset or one in part.presets))
    for part in parts:
        yield from (Case(part, one) for one in presets if not part.bar and (preset or one in part.presets))
