"""Rules that the values of a config keep: the limits of each key, and those of several keys together."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from rlvid.config.sections import Config
from rlvid.config.setting import config_keys, quote_key
from rlvid.errors import UserError


def check_limits(config: Config, where: str) -> None:
    """Raise UserError for a value out of the limits of its key."""
    for key in config_keys(config):
        if not key.limits.allow(key.value):
            if isinstance(key.value, float) and not isfinite(key.value):
                raise UserError(f"{where}: {key.name} must be a finite number, not {key.value}")
            verb = "hold only" if isinstance(key.value, tuple) else "be"
            raise UserError(f"{where}: {key.name} must {verb} {key.limits}, not {key.value!r}")


def check_rules(config: Config, where: str) -> None:
    """Raise UserError for values of several keys that no run could use together."""
    train, video = config.train, config.video
    address = config.judge.url.partition("//")[2].partition("/")[0]
    rules = {
        "video.min_frames must be at most video.max_frames": video.min_frames <= video.max_frames,
        'video.resized_height and video.resized_width must both be set, or both be ""': (
            bool(video.resized_height) == bool(video.resized_width)
        ),
        "train.sync_ref_model averages all weights, but with train.lora_r the reference is the base: choose one": not (
            train.sync_ref_model and train.lora_r
        ),
        "judge.url must not hold a password, since config.toml would keep it; set the key in judge.api_key_env": "@"
        not in address,
        f"judge.url {config.judge.url!r} is no address: write one such as http://localhost:8000/v1": _is_address(
            config.judge.url
        ),
    }
    for rule, holds in rules.items():
        if not holds:
            raise UserError(f"{where}: {rule}")


def _is_address(url: str) -> bool:
    """Return whether a URL can be called, or is "": http or https, a host, a port that exists, no blanks in it."""
    if not url:
        return True
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError:
        return False
    return (
        url.isprintable() and " " not in url and parts.scheme in ("http", "https") and has_port and bool(parts.hostname)
    )


def check_weights(rewards: Mapping[str, Any], where: str) -> None:
    """Raise UserError for a reward of [rewards] whose options are set but no weight: it is not in the mix."""
    for name, value in rewards.items():
        if isinstance(value, Mapping) and "weight" not in value and value:
            key = f"rewards.{quote_key(name)}"
            raise UserError(f"{where}: {key} has no weight: set {key}.weight, or remove {key}.{next(iter(value))}")
