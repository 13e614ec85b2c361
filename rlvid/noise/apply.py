"""Every kind of noise by its name in a config, and the manifest of what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise.base import Noise
from rlvid.noise.frames import EVIDENCE
from rlvid.noise.labels import LABELS
from rlvid.noise.reasoning import REASONING
from rlvid.noise.verdicts import VERDICTS, VerdictNoise
from rlvid.registry import suggest
from rlvid.types import Prompt

NOISES: dict[str, type[Noise]] = {**LABELS, **VERDICTS, **EVIDENCE, **REASONING}


def build_noise(noise: NoiseConfig) -> Noise:
    """The noise that a config asks for; UserError for an unknown kind or field."""
    if not noise.kind:
        return Noise()
    if noise.kind not in NOISES:
        raise UserError(f"no kind of noise {noise.kind!r}.{suggest(noise.kind, NOISES)}")
    kinds = {f.name: type(f.default) for f in fields(NOISES[noise.kind])}
    for key, value in noise.fields.items():
        if key not in kinds:
            raise UserError(f"noise {noise.kind!r} has no field {key!r}.{suggest(key, kinds)}")
        if type(value) not in ((int, float) if kinds[key] is float else (kinds[key],)):
            raise UserError(f"noise {noise.kind!r}: {key} must be {kinds[key].__name__}, not {value!r}")
    try:
        return NOISES[noise.kind](seed=noise.seed, **noise.fields)
    except ValueError as error:
        raise UserError(f"noise {noise.kind!r}: {error}") from error


def apply_noise(prompts: Sequence[Prompt], noise: Noise) -> tuple[list[Prompt], list[dict[str, Any]]]:
    """The training prompts under noise, and the manifest: one row for each that changed or was left out, and how.

    A row's sample is changed at every rate above its `u`. Evaluation prompts are refused.
    """
    for prompt in prompts:
        if prompt.level != "train":
            raise UserError(f"noise is for training data only, but sample {prompt.id} is of level {prompt.level!r}")
    noisy = noise.corrupt_prompts(prompts)
    if prompts and not noisy:
        raise UserError(f"noise leaves none of {len(prompts)} training samples to learn from: lower its rate")
    kept = {prompt.id: prompt for prompt in noisy}
    about = {p.id: noise.changes(p, kept[p.id]) if p.id in kept else {"dropped": True} for p in prompts}
    return noisy, [{"id": p.id, **about[p.id], "u": noise.u(p)} for p in prompts if about[p.id]]


def realised_rates(noise: Noise, prompts: Sequence[Prompt], manifest: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What came of a rate: how many samples changed, were left out, and what share both are; J by its closed form.

    J is that of the verdicts of `reward`, "" where only evidence is bad. Verdict noise changes no sample, so that how
    many and what share is None: a run counts `noise/changed`, of its own verdicts, and `noise/youden_j` in its metrics.
    """
    about = {"prompts": len(prompts), "reward": noise.reward}
    dropped = sum("dropped" in row for row in manifest)
    if isinstance(noise, VerdictNoise):
        about |= {"changed": None, "dropped": None, "rate": None}
    else:
        about |= {"changed": len(manifest) - dropped, "dropped": dropped, "rate": len(manifest) / max(len(prompts), 1)}
    options = max((len(prompt.options) for prompt in prompts), default=4)
    return about | {"youden_j": noise.youden_j(options)}
