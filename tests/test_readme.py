"""The commands and files of README.md work as they stand there, on shorter runs."""

import re
import shlex

import pytest

from rlvid.__main__ import main
from rlvid.cli.parser import parser
from tests.helpers.sources import ROOT

pytestmark = pytest.mark.usefixtures("quick_runs")

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)
CELLS = [cell for row in re.findall(r"^\|(.*)\|$", README, re.M) for cell in re.findall(r"`([^`]+)`", row)]
LINES = [line.partition("  #")[0].strip() for language, text in BLOCKS if not language for line in text.splitlines()]
COMMANDS = [shlex.split(line) for line in [*LINES, *CELLS] if line.startswith("rlvid ")]
SHORT_TRAIN = ["train.max_steps=1", "train.prompts_per_step=2", "eval.limit=4", "eval.transfer=[]"]
SHORT = {"train": SHORT_TRAIN, "eval": ["eval.limit=4"], "grid": ["--dry-run"]}


def commands(verb, *words):
    """The README's commands of this verb that contain all of these words."""
    return [
        command[1:] for command in COMMANDS if command[1] == verb and all(word in " ".join(command) for word in words)
    ]


@pytest.mark.fast
def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 120


def test_every_command_is_one_that_rlvid_knows():
    assert len(COMMANDS) >= 15
    for command in COMMANDS:
        if "COMMAND" not in command:
            parser().parse_args(command[1:])


@pytest.fixture(scope="module")
def folder(kitchen, tmp_path_factory):
    """A folder with the README's plug-in files, in which its commands are run."""
    path = tmp_path_factory.mktemp("readme")
    for language, text in BLOCKS:
        if language == "python":
            (path / re.match(r"# (\w+\.py)", text)[1]).write_text(text)
    (path / "experiments").symlink_to(ROOT / "experiments")
    return path


def run(folder, monkeypatch, command):
    """Run a command in the folder, with what makes it short at its end, where it counts; returns its exit code."""
    monkeypatch.chdir(folder)
    return main([*command, *SHORT.get(command[0], [])])


def test_the_quick_start_runs_in_its_order(folder, monkeypatch, capsys):
    for verb, *words in (
        ("train", "nano", "--out"),
        ("eval", "first"),
        ("compare",),
        ("attention",),
        ("grid",),
        ("list",),
    ):
        found = commands(verb, *words)
        assert found, f"the README shows no rlvid {verb}"
        for command in found:
            assert not run(folder, monkeypatch, command), command
            assert capsys.readouterr().out, command


def test_the_plugins_train(folder, monkeypatch):
    plugins = commands("train", "my_reward") + commands("train", "my_grpo")
    assert len(plugins) == 2
    for i, command in enumerate([*plugins, *commands("train", "noise.kind")]):
        assert not run(folder, monkeypatch, [*command, "--out", f"runs/plugin{i}"]), command
