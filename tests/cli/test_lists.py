"""`rlvid list` on a terminal, and of files of the user's own; what commands say that they wrote."""

import io

import pytest
from rich.console import Console

from rlvid import api
from rlvid.__main__ import main
from rlvid.api.listing import list_plugins
from rlvid.cli.tables import list_table, print_in_full
from rlvid.errors import UserError
from rlvid.utils.console import wide_console

REWARD = '''
"""Counts words."""
from other_file import Base
from rlvid.reward import each


@each
def counting(
    completion,
    *,
    words: int = 3,  # as many earn 1
) -> float:
    return len(completion.text.split()) / words
'''
ALGORITHM = '''
from dataclasses import dataclass
from algorithms.grpo import GRPO


@dataclass(frozen=True)
class MyGRPO(GRPO):
    """GRPO with a horizon."""

    horizon: int = 64  # tokens
'''


def test_a_description_that_is_cut_ends_in_an_ellipsis():
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True)
    print_in_full(terminal, list_table(list_plugins("rewards")))
    _, *lines = terminal.file.getvalue().splitlines()
    assert {len(line) for line in lines if line.endswith("…")} == {78} and max(map(len, lines)) <= 80
    assert any(line.endswith("…") for line in lines)


def test_a_file_of_the_user_is_listed_as_shipped_ones_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counting.py").write_text(REWARD)
    (tmp_path / "my_grpo.py").write_text(ALGORITHM)
    [reward] = api.list_names("rewards", "./counting.py")
    assert (reward.text, reward.fields["words"].default) == ("Counts words.", "3")
    assert reward.fields["words"].meaning == "as many earn 1" and reward.source == "counting.py:8"
    [algorithm] = api.list_names("algorithms", "./my_grpo.py:MyGRPO")
    assert algorithm.fields["horizon"].own and not algorithm.fields["beta"].own
    assert algorithm.usage == "rlvid train nano algorithm=./my_grpo.py:MyGRPO algorithm.horizon=64"
    for wrong, message in (("./none.py", "no such file"), ("./counting.py:conting", "Did you mean 'counting'")):
        with pytest.raises(UserError, match=message):
            api.list_names("rewards", wrong)


def test_a_table_that_is_piped_has_the_width_of_columns(monkeypatch):
    piped = Console(file=io.StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)
    assert wide_console(piped).width == 140
    monkeypatch.setenv("COLUMNS", "90")
    assert wide_console(piped).width == 90


def test_a_path_that_was_written_is_one_line_as_it_is(tmp_path, monkeypatch, capsys):
    """In a pipe rich breaks lines after 80 characters, and takes brackets for markup."""
    monkeypatch.setattr(api, "write_pairs", lambda run, file: 3)
    monkeypatch.setattr(api, "write_kitchen", lambda folder, seed: None)
    path = str(tmp_path / ("x" * 90) / "[pairs].jsonl")
    assert main(["data", "pairs", "RUN", path]) == 0 and main(["data", "kitchen", path]) == 0
    assert capsys.readouterr().out == f"wrote 3 pairs to {path}\nwrote {path}\n"


@pytest.mark.parametrize("command", ["eval", "parity"])
def test_an_option_that_is_a_config_key_is_answered_with_its_assignment(command, capsys):
    assert main([command, "nano", "--max-frames", "8"]) == 2
    assert "Config keys are assignments without dashes: video.max_frames=8" in capsys.readouterr().err
