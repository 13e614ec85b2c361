"""The command line: error messages of one line, exit codes, lists, and the commands as functions."""

import os
import pty
import re
import subprocess
import sys

import pytest

from rlvid.__main__ import main
from rlvid.cli.listing import LISTS
from rlvid.cli.parser import COMMANDS
from rlvid.config import Config, config_keys
from rlvid.registry import module_file
from tests.helpers.runs import rlvid


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nanno"], "Did you mean 'nano'?"),
        (["export", "nowhere", "out"], "no run, checkpoint or model folder 'nowhere'"),
        (["train", "nano", "train.max_stpes=3"], "Did you mean 'max_steps'?"),
        (["train", "nano", "train.steps=3"], "unknown key 'steps' in [train]; it is called max_steps"),
        (["trian", "nano"], "no command 'trian'. Did you mean 'train'?"),
        (["attend", "run"], "no command 'attend'; it is called attention"),
        (["cases", "a", "b"], "no command 'cases'; it is called compare"),
        (["config", "nano", "train.num_generations=0"], "train.num_generations must be 1 or more"),
        (["config", "nano", "algorithm.epsilom=0.3"], "Did you mean 'epsilon'?"),
        (["config", "nano", "rewards.coin=1"], "no reward 'coin'; it is called random"),
        (["config", "nano", "noise.kind=symmetric", "noise.rat=0.1"], "Did you mean 'rate'?"),
        (["list", "config", "trian"], "Did you mean 'train'?"),
        (["list", "views", "train"], "takes no section"),
        (["train", "nano", "algorithm=grppo"], "Did you mean 'grpo'?"),
        (["train", "nano", "rewards.acuracy=1"], "Did you mean 'accuracy'?"),
        (["train", "nano", "train.num_generations=1"], "must be 2 or more"),
        (["train", "nano", "data=/no/such/folder"], "/no/such/folder"),
        (["train", "nano", "noise.kind=symetric", "noise.rate=0.1"], "Did you mean 'symmetric'?"),
        (["train", "nano", "model=/no/such/model"], "/no/such/model"),
        (["eval", "/no/such/model"], "/no/such/model"),
        (["grid", "experiments/nothing.py"], "no experiment script"),
        (["report", "/no/such/runs"], "/no/such/runs"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, tmp_path, kitchen, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    *_, last = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert message in last and last.startswith("rlvid: ")


def test_a_mistake_in_a_process_of_its_own_prints_no_traceback(tmp_path, kitchen):
    """Here a model that the hub does not have, or cannot give: without a network this is the same error."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = rlvid("eval", "no-such-org/no-such-model", "--data", "kitchen", cwd=tmp_path, env=offline)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("rlvid: ") and "no-such-org/no-such-model" in done.stderr


@pytest.mark.parametrize("what", sorted(LISTS))
def test_every_list_has_rows(what, capsys):
    assert main(["list", what]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


@pytest.mark.parametrize("what", ["algorithms", "rewards", "noise", "evidence"])
def test_lists_show_every_row_in_a_pipe_and_in_a_terminal(what):
    """In a pipe a row is one line; in a terminal of 80 columns it is wrapped, not cut."""
    piped = rlvid("list", what).stdout.splitlines()
    rows = LISTS[what]()
    assert len(piped) == len(rows) + 1
    for row, line in zip(rows, piped[1:], strict=True):
        assert line.split()[0] == row.name and row.text in line and line.rstrip().endswith(row.source)
        assert all(f"{key}={value}" in line for key, value in row.fields.items())
    shown = terminal(80, "list", what)
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    assert {row.name for row in rows} <= {line.partition(" ")[0] for line in shown.splitlines()}


@pytest.mark.parametrize("what", ["algorithms", "noise"])
def test_every_description_names_its_source(what):
    has_source = re.compile(r"arXiv:\d{4}\.\d{5}|doi:10|\.pdf|\bours\b")
    without = [row.name for row in LISTS[what]() if not has_source.search(row.text)]
    assert without == (["sft"] if what == "algorithms" else [])  # supervised learning has no single source


def test_every_listed_source_exists():
    root = module_file("rlvid").parent
    for what in LISTS:
        folder = root.parent if what in ("rewards", "algorithms") else root
        folder = root.parent / "experiments" if what == "presets" else folder
        for row in LISTS[what]():
            assert (folder / row.source.partition(":")[0]).is_file(), row


def test_the_list_of_config_keys_has_one_row_per_key():
    lines = rlvid("list", "config").stdout.splitlines()
    assert lines[0].split() == ["key", "type", "default", "meaning"]
    assert [line.split()[0] for line in lines[1:]] == [key.name for key in config_keys(Config())]
    assert any(re.match(r"train\.max_steps +int +750 +optimizer steps; 0 or more", line) for line in lines)
    train = rlvid("list", "config", "train").stdout.splitlines()
    assert len(train) > 30 and all(line.startswith("train.") for line in train[1:])


def test_config_prints_a_preset_that_reads_back_to_the_same_id(tmp_path):
    overrides = ["train.max_steps=3", "rewards.format.partial=true", "noise.kind=symmetric", "noise.rate=0.1"]
    first = rlvid("config", "nano", *overrides)
    assert first.returncode == 0, first.stderr
    (tmp_path / "copy.toml").write_text(first.stdout)
    assert rlvid("config", str(tmp_path / "copy.toml")).stdout == first.stdout
    assert re.match(r"# id: [0-9a-f]{12}\n", first.stdout) and "max_steps = 3\n" in first.stdout


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("from rlvid.study.grid import Grid", "no module 'rlvid.study.grid'; it is called rlvid.grids"),
        (
            "from rlvid.grids import Grid\nGRID = Grid('g', '?', (0,), 'base', within=0.03)",
            "Grid has no field 'within'; it is called equivalence_margin",
        ),
    ],
)
def test_an_old_name_in_an_experiment_script_names_the_new_one(script, message, tmp_path, capsys):
    (tmp_path / "old.py").write_text(script)
    assert main(["grid", str(tmp_path / "old.py")]) == 2
    assert capsys.readouterr().err.endswith(f"{message}\n")


def terminal(columns, *arguments):
    """Return what `rlvid ARGUMENTS` prints in a terminal of that width."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "rlvid", *arguments]
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb"}
    with subprocess.Popen(command, stdout=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 4096):
                shown += chunk
        except OSError:  # how Linux reports that the other end is closed
            pass
        os.close(leader)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("arguments", [["list", "algorithms"], ["list", "config"], ["list", "evidence"], ["--help"]])
def test_help_and_lists_do_not_import_torch(arguments):
    code = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
        f"from rlvid.__main__ import main; main({arguments})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("False\n"), done.stdout + done.stderr


def test_the_commands_are_functions_whatever_was_imported_before():
    code = """
import importlib, pkgutil, rlvid
for module in pkgutil.iter_modules(rlvid.__path__, "rlvid."):  # a module of that name would hide the function
    if module.name != "rlvid.__main__":
        importlib.import_module(module.name)
from rlvid import attention, audit, compare, evaluate, export, grid, report, train, tune, watch
from rlvid import api
for function in (attention, audit, compare, evaluate, export, grid, report, train, tune, watch):
    assert function is getattr(api, function.__name__), function
functions = "attention audit compare evaluate export grid report train tune watch"
assert rlvid.__all__ == functions.split()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_function_of_the_package_is_a_command():
    import rlvid as package

    assert {name.replace("evaluate", "eval") for name in package.__all__} <= set(COMMANDS)
    with pytest.raises(AttributeError, match="it is called compare"):
        package.cases  # noqa: B018
