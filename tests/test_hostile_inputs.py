"""Mistakes of users: each gets one line that says what is wrong, where and how to fix it, and exit code 2."""

import json
import re
from pathlib import Path

import pytest

from rlvid.__main__ import main, print_error
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer.algorithm_errors import checked_loss
from rlvid.trainer.credit import assign_credit, refined_labels
from rlvid.trainer.noop_check import check_rewards
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.mistakes import explain
from tests.helpers import mistakes
from tests.helpers.steps import verdict_step

TABLES = [table for name, table in vars(mistakes).items() if name.isupper()]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No hub, an empty cache of its files, and an empty working directory."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def one_line(capsys, expected, *files):
    """The one line on stderr, which must hold `expected`; FILE there stands for the first of `files` named."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    for file in files:
        expected = expected.replace("FILE", str(file))
    assert lines and expected in lines[-1], lines[-1:]
    assert lines[-1].startswith("rlvid: ") and len(lines[-1]) < 600
    assert "Traceback" not in "".join(lines)


def test_there_are_at_least_120_mistakes():
    assert sum(len(table) for table in TABLES) >= 120


@pytest.mark.parametrize(("overrides", "expected"), mistakes.OVERRIDES)
def test_a_wrong_override(overrides, expected, capsys):
    arguments = [overrides] if "{" in overrides or '"' in overrides else overrides.split()
    assert main(["config", "nano", *arguments]) == 2
    one_line(capsys, expected)


@pytest.mark.parametrize(("text", "expected"), mistakes.PRESETS)
def test_a_wrong_preset(text, expected, capsys):
    Path("mine.toml").write_text(text)
    assert main(["config", "mine.toml"]) == 2
    one_line(capsys, expected, "mine.toml")


@pytest.mark.parametrize(("text", "expected"), mistakes.REWARD_FILES)
def test_a_wrong_reward_file(text, expected, capsys):
    Path("mine.py").write_text(text)
    assert main(["config", "nano", 'rewards."./mine.py"=1']) == 2
    one_line(capsys, expected, "mine.py")


def fails(call, capsys, expected):
    """What the command line prints about an error of `call`."""
    with pytest.raises(Exception) as caught:
        call()
    line = explain(caught.value)
    assert line is not None
    print_error(caught.value, line)
    one_line(capsys, expected, "mine.py")


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [("\n\n\n\n\ndef mine(groups):\n", *row) for row in mistakes.REWARD_BODIES]
    + [
        ("from rlvid.reward import each\n\n\n@each\ndef mine(completion, prompt):\n", *row)
        for row in mistakes.EACH_BODIES
    ],
)
def test_a_reward_that_fails(head, body, expected, capsys):
    Path("mine.py").write_text(f"{head}    {body}\n")
    group = Group(Prompt("q1", "?"), [Completion("a"), Completion("b")])
    mix = RewardMix({"./mine.py": build("rewards", "./mine.py")}, {"./mine.py": 1.0})
    fails(lambda: mix([group]), capsys, expected.replace("each_mine", "mine"))


@pytest.mark.parametrize(("body", "expected"), mistakes.ALGORITHM_BODIES)
def test_an_algorithm_that_fails(body, expected, capsys):
    imports = "from dataclasses import dataclass\nfrom algorithms.grpo import GRPO\n\n\n"
    Path("mine.py").write_text(f"{imports}@dataclass(frozen=True)\nclass Mine(GRPO):\n    {body}\n")
    algorithm = build("algorithms", "./mine.py")
    step = verdict_step(torch_verdicts())
    fails(lambda: one_step(algorithm, step), capsys, expected)


def one_step(algorithm, step):
    """Call an algorithm as the trainer does."""
    check_rewards(algorithm, step.reward_weights)
    batch = assign_credit(algorithm, step)
    refined_labels(algorithm, step)
    checked_loss(algorithm, batch.mask, batch)


def torch_verdicts():
    """(2, 4) verdicts."""
    import torch

    return torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)


def test_a_class_whose_fields_would_not_count_is_refused(capsys):
    Path("mine.py").write_text("from algorithms.grpo import GRPO\n\nclass Mine(GRPO):\n    beta: float = 0.0\n")
    assert main(["config", "nano", "algorithm=./mine.py"]) == 2
    one_line(capsys, "at FILE:3 declares beta, which does not count before its class is a dataclass", "mine.py")


@pytest.mark.parametrize(("name", "meant"), [("advantage", "advantages"), ("surogate", "surrogate"), ("need", "needs")])
def test_a_method_that_nothing_would_call_is_refused(name, meant, capsys):
    """Also a property. Names that resemble no method of an algorithm, and helpers with an underscore, are free."""
    head = "from algorithms.grpo import GRPO\n\nclass Mine(GRPO):\n    def histogram(self, x): return x\n"
    head += "    def _advantage(self, x): return x\n"
    Path("mine.py").write_text(head)
    assert main(["config", "nano", "algorithm=./mine.py:Mine"]) == 0
    capsys.readouterr()
    Path("mine.py").write_text(f"{head}    @property\n    def {name}(self): return 1\n")
    assert main(["config", "nano", "algorithm=./mine.py:Mine"]) == 2
    one_line(capsys, f"FILE:3: TypeError: Mine.{name} is never called. Did you mean {meant!r}?", "mine.py")


@pytest.mark.parametrize(("text", "expected"), mistakes.SCRIPTS)
def test_a_wrong_script(text, expected, capsys):
    Path("mine.py").write_text(text)
    assert main(["grid", "mine.py", "--dry-run"]) == 2
    one_line(capsys, expected, "mine.py")


@pytest.mark.parametrize(("arguments", "expected"), mistakes.COMMANDS)
def test_a_wrong_command_line(arguments, expected, kitchen, capsys):
    Path("DIR").mkdir()
    Path("LLAMA").mkdir()
    Path("LLAMA/config.json").write_text('{"model_type": "llama"}')
    Path("READONLY").write_text("a file where a folder should be")
    try:
        code = main(arguments)
    except SystemExit as error:  # of argparse
        assert error.code == 2 and expected in capsys.readouterr().err
        return
    assert code == 2
    one_line(capsys, expected)


@pytest.mark.parametrize(("records", "expected"), mistakes.DATA)
def test_wrong_data(records, expected, capsys):
    level = 'level = "l"\n' if records and "l" in records[0] else ""
    Path("mine.toml").write_text(
        f'layout = "multiple_choice"\npath = "mine.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\n{level}'
    )
    Path("mine.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["data", "check", "mine.toml"]) == 2
    assert expected.replace("FILE", "mine.jsonl") in re.sub(r"\S*/mine\.jsonl", "mine.jsonl", capsys.readouterr().out)


def test_traceback_shows_the_whole_traceback(capsys):
    Path("mine.py").write_text("x = 1 / 0")
    assert main(["config", "nano", 'rewards."./mine.py"=1', "--traceback"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err
