"""Build the noise of a config, apply it to the training prompts, and list what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise.base import Noise
from rlvid.noise.frames import EVIDENCE_NOISES
from rlvid.noise.labels import LABEL_NOISES
from rlvid.noise.reasoning import REASONING_NOISES
from rlvid.noise.verdicts import VERDICT_NOISES, VerdictNoise
from rlvid.registry import suggest
from rlvid.types import Prompt

NOISES: dict[str, type[Noise]] = {**LABEL_NOISES, **VERDICT_NOISES, **EVIDENCE_NOISES, **REASONING_NOISES}


def build_noise(section: NoiseConfig) -> Noise:
    """Return the noise that a config's `[noise]` section describes; without a `kind` it changes nothing.

    Raises UserError for an unknown kind, an unknown field or a bad value.
    """
    kind = section.kind
    if not kind:
        return Noise()
    if kind not in NOISES:
        raise UserError(f"no kind of noise {kind!r}.{suggest(kind, NOISES)}")
    types = {field.name: type(field.default) for field in fields(NOISES[kind])}
    for key, value in section.fields.items():
        if key not in types:
            raise UserError(f"noise {kind!r} has no field {key!r}.{suggest(key, types)}")
        allowed = (int, float) if types[key] is float else (types[key],)
        if type(value) not in allowed:  # not isinstance: True is no rate
            raise UserError(f"noise {kind!r}: {key} must be {types[key].__name__}, not {value!r}")
    try:
        return NOISES[kind](seed=section.seed, **section.fields)
    except ValueError as error:
        raise UserError(f"noise {kind!r}: {error}") from error


def apply_noise(prompts: Sequence[Prompt], noise: Noise) -> tuple[list[Prompt], list[dict[str, Any]]]:
    """Return the training prompts with noise, and the manifest.

    The manifest has one row for each prompt that was changed or left out: its `id`, what changed, and `u`, its
    `Noise.corruption_threshold`. Raises UserError for prompts of an evaluation level, and if no prompt is left.
    """
    for prompt in prompts:
        if prompt.level != "train":
            raise UserError(f"noise is for training data only, but sample {prompt.id} is of level {prompt.level!r}")
    noisy = noise.corrupt_prompts(prompts)
    if prompts and not noisy:
        raise UserError(f"noise leaves none of {len(prompts)} training samples to learn from: lower its rate")
    noisy_by_id = {prompt.id: prompt for prompt in noisy}
    manifest = []
    for prompt in prompts:
        is_dropped = prompt.id not in noisy_by_id
        changes = {"dropped": True} if is_dropped else noise.describe_changes(prompt, noisy_by_id[prompt.id])
        if changes:
            manifest.append({"id": prompt.id, **changes, "u": noise.corruption_threshold(prompt)})
    return noisy, manifest


def summarize_noise(noise: Noise, prompts: Sequence[Prompt], manifest: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how much of the training data noise changed, as `noise.json` holds it.

    Args:
        noise: the noise.
        prompts: the prompts before noise.
        manifest: from `apply_noise`.

    Returns:
        `prompts`: their number. `changed`, `dropped`: how many of them were changed and left out. `rate`: the share of
        both. `reward`: the reward whose verdicts are wrong, "" if only evidence is bad. `youden_j`: J by its closed
        form, or None. Verdict noise changes no prompt, so its `changed`, `dropped` and `rate` are None; a run
        logs `noise/changed` and `noise/youden_j` from its own verdicts.
    """
    summary: dict[str, Any] = {"prompts": len(prompts), "reward": noise.corrupted_reward}
    if isinstance(noise, VerdictNoise):
        summary |= {"changed": None, "dropped": None, "rate": None}
    else:
        dropped = sum("dropped" in row for row in manifest)
        rate = len(manifest) / max(len(prompts), 1)
        summary |= {"changed": len(manifest) - dropped, "dropped": dropped, "rate": rate}
    num_options = max((len(prompt.options) for prompt in prompts), default=4)
    return summary | {"youden_j": noise.youden_j(num_options)}
