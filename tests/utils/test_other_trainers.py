"""The names of TRL and verl lead to keys that exist, and the README has the same table."""

import dataclasses
import re

import pytest

from rlvid.config import Config, config_keys
from rlvid.registry import available, module_file
from rlvid.utils.other_trainers import ALIASES, NAMES, known_elsewhere
from rlvid.utils.plugin_source import read_plugin

KEYS = {key.name for key in config_keys(Config())} | {"--out DIR", "--resume", "rewards.NAME.weight"}
PLUGINS = [read_plugin("algorithms", name) for name in available("algorithms")]
FIELDS = {f"algorithm.{field}" for plugin in PLUGINS for field in plugin.fields}


@pytest.mark.parametrize("ours", [row[0] for row in NAMES] + [*ALIASES.values()])
def test_rlvids_name_exists(ours):
    assert ours in KEYS | FIELDS


def test_trls_names_exist_in_trl():
    from trl import GRPOConfig, ModelConfig, ScriptArguments

    theirs = {field.name for cls in (GRPOConfig, ModelConfig, ScriptArguments) for field in dataclasses.fields(cls)}
    theirs |= {"reward_funcs"}  # an argument of GRPOTrainer
    assert {trl for _, trl, _ in NAMES if trl} <= theirs


def test_a_name_is_found_by_its_last_part_too():
    assert known_elsewhere("actor_rollout_ref.rollout.n") == known_elsewhere("n") == "train.num_generations"
    assert known_elsewhere("beta") == known_elsewhere("train.beta") == "algorithm.beta"
    assert known_elsewhere("nothing") == ""


def test_the_readme_has_the_same_table():
    text = (module_file("rlvid").parent / "README.md").read_text()
    rows = re.findall(r"^\| `(.*?)` \| (.*?) \| (.*?) \|$", text.partition("### Names in TRL")[2], re.M)
    assert tuple((a, b.strip("` "), c.strip("` ")) for a, b, c in rows)[: len(NAMES)] == NAMES
