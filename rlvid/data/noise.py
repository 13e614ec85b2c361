"""Every kind of noise by its name in a config, and the manifest of what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from rlvid.config import Noise
from rlvid.data.corruption import Corruption
from rlvid.data.noise_labels import LABELS
from rlvid.errors import UserError
from rlvid.resolve import suggest
from rlvid.types import Prompt

KINDS: dict[str, type[Corruption]] = {**LABELS}


def corruption(noise: Noise) -> Corruption:
    """The noise that a config asks for; UserError for an unKINDS kind or field."""
    if not noise.kind:
        return Corruption()
    if noise.kind not in KINDS:
        raise UserError(f"no kind of noise {noise.kind!r}.{suggest(noise.kind, KINDS)}")
    names = {f.name for f in fields(KINDS[noise.kind])}
    for key in noise.fields:
        if key not in names:
            raise UserError(f"noise {noise.kind!r} has no field {key!r}.{suggest(key, names)}")
    try:
        return KINDS[noise.kind](seed=noise.seed, **noise.fields)
    except (TypeError, ValueError) as error:
        raise UserError(f"noise {noise.kind!r}: {error}") from error


def corrupt(prompts: Sequence[Prompt], noise: Corruption) -> tuple[list[Prompt], list[dict[str, Any]]]:
    """The training prompts under noise, and the manifest: one row for each prompt that changed, and how.

    Evaluation prompts are refused.
    """
    for prompt in prompts:
        if prompt.level != "train":
            raise UserError(f"noise is for training data only, but sample {prompt.id} is of level {prompt.level!r}")
    noisy = noise.prompts(prompts)
    return noisy, [row for pair in zip(prompts, noisy, strict=True) if (row := difference(noise, *pair))]


def difference(noise: Corruption, clean: Prompt, noisy: Prompt) -> dict[str, Any]:
    """What noise changed in a prompt, for the manifest; empty if nothing. At every rate above its `u` it is changed."""
    changed = [name for name in ("answer", "narrations", "video") if getattr(clean, name) != getattr(noisy, name)]
    both = {name: {"clean": getattr(clean, name), "noisy": getattr(noisy, name)} for name in changed}
    return {"id": clean.id, **both, "u": noise.u(clean)} if both else {}
