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
from rlvid.utils.fields import checked_fields, fields_of

NOISES: dict[str, type[Noise]] = {**LABEL_NOISES, **VERDICT_NOISES, **EVIDENCE_NOISES, **REASONING_NOISES}
# Fields that say how much a noise changes: nothing if all that a kind has are 0.
STRENGTHS = ("rate", "false_positives", "false_negatives", "sigma", "scale", "kappa")


def noise_class(kind: str) -> type[Noise]:
    """Return the class of a kind of noise; UserError if there is none."""
    if kind not in NOISES:
        raise UserError(f"no kind of noise {kind!r}.{suggest(kind, NOISES)}")
    return NOISES[kind]


def build_noise(section: NoiseConfig) -> Noise:
    """Return the noise that a config's `[noise]` section describes; without a `kind` it changes nothing.

    Raises UserError for an unknown kind, an unknown field or a bad value.
    """
    if not section.kind:
        return Noise()
    noise_type = noise_class(section.kind)
    values = checked_fields(f"noise {section.kind!r}", fields_of(noise_type), section.fields)
    try:
        return noise_type(seed=section.seed, **values)
    except ValueError as error:
        raise UserError(f"noise {section.kind!r}: {error}") from error


def refuse_half_noise(section: NoiseConfig) -> None:
    """Raise UserError for fields or a seed without a `kind`, and for a kind whose fields leave the data as it is."""
    kind = section.kind
    if not kind:
        for key in [*section.fields, *(["seed"] if section.seed else [])]:
            raise UserError(
                f"noise.{key} is set but noise.kind is not, so nothing would be changed: set noise.kind "
                f"(`rlvid list noise`), or leave noise.{key} out"
            )
        return
    noise = build_noise(section)
    strengths = [field.name for field in fields(noise) if field.name in STRENGTHS]
    if strengths and not any(getattr(noise, name) for name in strengths):
        zero = " and ".join(f"noise.{name} = 0" for name in strengths)
        raise UserError(
            f"noise.kind = {kind!r} changes nothing at {zero}: set it above 0, or leave noise.kind out for clean data"
        )


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
    summary: dict[str, Any] = {"prompts": len(prompts), "reward": noise.noisy_reward}
    if isinstance(noise, VerdictNoise):
        summary |= {"changed": None, "dropped": None, "rate": None}
    else:
        dropped = sum("dropped" in row for row in manifest)
        rate = len(manifest) / max(len(prompts), 1)
        summary |= {"changed": len(manifest) - dropped, "dropped": dropped, "rate": rate}
    num_options = max((len(prompt.options) for prompt in prompts), default=4)
    return summary | {"youden_j": noise.youden_j(num_options)}
