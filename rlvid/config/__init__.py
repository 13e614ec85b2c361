"""A run is described by frozen dataclasses, read from TOML and dotted overrides.

`load("nano", ["train.max_steps=10"])` returns a `Config`. Unknown keys are refused with a suggestion.
"""

from rlvid.config.plugins import COPIES, Plugin
from rlvid.config.reader import algorithm_name, from_table, load, parse_override
from rlvid.config.sections import (
    VIEW_NAMES,
    ColdStartConfig,
    Config,
    EvalConfig,
    EvidenceConfig,
    JudgeConfig,
    NoiseConfig,
    TrainConfig,
    VideoConfig,
)
from rlvid.config.setting import ConfigKey, config_keys, flatten_config, quote_key, replace_neutral

__all__ = [
    "COPIES",
    "VIEW_NAMES",
    "ColdStartConfig",
    "Config",
    "ConfigKey",
    "EvalConfig",
    "EvidenceConfig",
    "JudgeConfig",
    "NoiseConfig",
    "Plugin",
    "TrainConfig",
    "VideoConfig",
    "algorithm_name",
    "config_keys",
    "flatten_config",
    "from_table",
    "load",
    "parse_override",
    "quote_key",
    "replace_neutral",
]
