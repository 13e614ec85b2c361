"""The command line as a tired user meets it: one line, exit code 2, nothing lost."""

import subprocess
import sys

import pytest

from rlvid.__main__ import LISTS, main
from rlvid.verbs import grid


def rlvid(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "rlvid", *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=cwd
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "nanno"], "Did you mean 'nano'?"),
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
