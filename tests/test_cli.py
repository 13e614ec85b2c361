"""The command line as a tired user meets it: one line, exit code 2, nothing lost."""

import os
import pty
import re
import subprocess
import sys

import pytest

from rlvid.__main__ import LISTS, main
from rlvid.api import grid
from tests.helpers.runs import rlvid


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "nanno"], "Did you mean 'nano'?"),
        (["export", "nowhere", "out"], "no run, checkpoint or model folder 'nowhere'"),
        (["train", "nano", "train.stpes=3"], "Did you mean 'steps'?"),
        (["train", "nano", "algorithm=grppo"], "Did you mean 'grpo'?"),
        (["train", "nano", "rewards.acuracy=1"], "Did you mean 'accuracy'?"),
        (["train", "nano", "train.num_generations=1"], "must be 2 or more"),
        (["train", "nano", "data=/no/such/folder"], "/no/such/folder"),
        (["train", "nano", "noise.kind=symetric", "noise.rate=0.1"], "Did you mean 'symmetric'?"),
        (["train", "nano", "model=/no/such/model"], "/no/such/model"),
        (["eval", "/no/such/model"], "/no/such/model"),
        (["eval", "no-such-org/no-such-model", "--data", "kitchen"], "no-such-org/no-such-model"),
        (["grid", "experiments/nothing.py"], "no experiment script"),
        (["report", "/no/such/runs"], "/no/such/runs"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, says, tmp_path, kitchen):
    done = rlvid(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert says in lines[-1] and lines[-1].startswith("rlvid: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("what", sorted(LISTS))
def test_lists_answer(what, capsys):
    assert main(["list", what]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


@pytest.mark.parametrize("what", ["algorithms", "rewards", "noise"])
def test_lists_lose_nothing(what):
    """A row is a line in a pipe; at 80 columns what is too wide goes on in the next line."""
    piped = rlvid("list", what).stdout.splitlines()
    rows = LISTS[what]()
    assert len(piped) == len(rows) + 1
    for row, line in zip(rows, piped[1:], strict=True):
        assert line.split()[0] == row.name and row.says in line and line.rstrip().endswith(row.where)
        assert all(f"{key}={value}" in line for key, value in row.fields.items())
    shown = terminal(80, "list", what)
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    assert {row.name for row in rows} <= {line.partition(" ")[0] for line in shown.splitlines()}


@pytest.mark.parametrize("what", ["algorithms", "noise"])
def test_every_row_names_its_source(what):
    untold = [row.name for row in LISTS[what]() if not re.search(r"arXiv:\d{4}\.\d{5}|doi:10|\.pdf|\bours\b", row.says)]
    assert untold == (["sft"] if what == "algorithms" else [])  # as old as learning


def terminal(columns, *arguments):
    """What a terminal of that width shows."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "rlvid", *arguments]
    with subprocess.Popen(command, stdout=follower, env={**os.environ, "COLUMNS": str(columns), "TERM": "dumb"}) as run:
        os.close(follower)
        shown = b""
        try:
            while piece := os.read(leader, 4096):
                shown += piece
        except OSError:  # Linux's word for: the other end is closed
            pass
        os.close(leader)
    assert run.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def test_help_and_lists_need_no_torch():
    code = (
        "import sys; from rlvid.__main__ import main; main(['list', 'algorithms']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "grpo" in done.stdout and "epsilon=0.2" in done.stdout


def test_the_verbs_are_functions_too():
    import rlvid as package

    for verb in package.__all__:
        assert callable(getattr(package, verb))
    assert package.grid is grid
