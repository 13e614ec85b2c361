"""The command line: error messages of one line, exit codes, lists, and the commands as functions."""

import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from rlvid.__main__ import main
from rlvid.api.listing import LISTS
from rlvid.config import Config, config_keys, load
from rlvid.registry import module_file
from tests.helpers.runs import TINY, rlvid


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
        (["list", "config", "train.max_stps"], "Did you mean 'train.max_steps'?"),
        (["list", "views", "shufled"], "Did you mean 'shuffled'?"),
        (["list", "algoritms"], "no list 'algoritms'. Did you mean 'algorithms'?"),
        (["data", "chek", "kitchen"], "no action 'chek'. Did you mean 'check'?"),
        (["bench", "setp"], "no benchmark 'setp'. Did you mean 'step'?"),
        (["bench", "step", "--seen", "image"], "bench: no option '--seen'; it is called --media"),
        ([], "no command given"),
        (["train"], "train: the following arguments are required: preset. See rlvid train --help"),
        (["audit", "a", "b"], "audit: one argument too many: 'b'"),
        (["watch", "runs", "--every", "often"], "argument --every: invalid float value: 'often'"),
        (["train", "nano", "--steps", "3"], "no option '--steps'. Config keys are assignments without dashes"),
        (["train", "nano", "--steps", "3"], ": train.max_steps=3"),
        (["train", "--max_steps=3", "nano"], ": train.max_steps=3"),
        (["train", "nano", "--learning-rat", "1e-5"], ": train.learning_rate=1e-5"),
        (["config", "nano", "--beta", "0.1"], ": algorithm.beta=0.1"),
        (["train", "nano", "--algorithm"], ": algorithm=VALUE"),
        (["train", "nano", "--ouy", "runs/x"], "no option '--ouy'. Did you mean --out?"),
        (["train", "nano", "--zork"], "no option '--zork'. See rlvid train --help"),
        (["grid", "--dry-run", "experiments/x.py"], "Options of a grid stand after its script"),
        (["train", "nano", "algorithm=grppo"], "Did you mean 'grpo'?"),
        (["train", "nano", "rewards.acuracy=1"], "Did you mean 'accuracy'?"),
        (["train", "nano", "train.num_generations=1"], "must be 2 or more"),
        (["train", "nano", "data=/no/such/folder"], "/no/such/folder"),
        (["train", "nano", "noise.kind=symetric", "noise.rate=0.1"], "Did you mean 'symmetric'?"),
        (["train", "nano", "model=/no/such/model"], "/no/such/model"),
        (["eval", "/no/such/model"], "/no/such/model"),
        (["grid", "experiments/nothing.py"], "no experiment script"),
        (["report", "/no/such/runs"], "/no/such/runs"),
        (["data", "kitchen", "new", "--seed", "-1"], "--seed -1: give a whole number, 0 or more"),
        (["data", "kitchen_long", "new", "--seed", "-1"], "--seed -1: give a whole number, 0 or more"),
        (["probe", "accuracy", "--weight", "nan"], "--weight nan: give a finite number"),
        (["probe", "accuracy", "--timeout", "0"], "--timeout 0: give seconds, above 0"),
        (["compare", "a", "b", "--limit", "-1"], "--limit -1: give how many cases to show"),
        (["watch", "runs", "--every", "-1"], "--every -1: give seconds, above 0"),
        (["credit", "/no/such/run"], "/no/such/run is no run folder: it has no config.toml"),
        (["export", "run", "new", "--split", "L1"], "choose the questions of --lmms-eval-task"),
        (["bench", "step", "--repeats", "0"], "--repeats 0: give 1 or more"),
        (["bench", "step", "--preset", "20n"], "no benchmark model '20n'. Did you mean '20m'?"),
        (["bench", "gpu", "--repeats", "9"], "--repeats has no effect on rlvid bench gpu: it is of step, sweep, eval"),
        (["bench", "--device", "cpu"], "--device has no effect on rlvid bench step: it is of gpu"),
        (["config", "nano", "algorithm=pa_grpo", "algorithm.perception=mra"], "must be a list, such as ['mra']"),
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


def test_without_a_name_the_lists_are_listed(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:] if line.strip()} == {"config", *LISTS}


@pytest.mark.parametrize("what", sorted(LISTS))
def test_a_list_has_one_line_for_each_name(what):
    """In a pipe the line is whole and not long; in a terminal it is cut at the margin, and names never are."""
    piped = rlvid("list", what).stdout.splitlines()
    rows = LISTS[what]()
    assert [line.split()[0] for line in piped] == ["name", *(row.name for row in rows)]
    assert all(row.text in line for row, line in zip(rows, piped[1:], strict=True))
    assert max(map(len, piped)) <= 160
    shown = terminal(80, "list", what).splitlines()
    assert max(map(len, shown)) <= 80
    assert [line.split()[0] for line in shown[: len(piped)]] == ["name", *(row.name for row in rows)]
    assert shown[-1] == f"all about one: rlvid list {what} {rows[0].name}"


@pytest.mark.parametrize("what", sorted(LISTS))
def test_every_name_has_a_page_with_documentation_fields_source_and_use(what, capsys):
    for row in LISTS[what]():
        assert main(["list", what, row.name]) == 0
        page = capsys.readouterr().out
        assert row.source in page and row.usage in page and row.usage
        assert all(line.strip() in page for line in (row.documentation or row.text).splitlines())
        for name, item in row.fields.items():
            line = next(line for line in page.splitlines() if line.split()[:1] == [name])
            assert item.default in line and item.meaning in line, (row.name, name)


def test_a_page_shows_inherited_fields_with_the_comments_of_their_source():
    page = rlvid("list", "algorithms", "grpo").stdout
    assert page.splitlines()[0].startswith("grpo   algorithms/grpo.py:")
    assert re.search(r"^beta +float +0\.04 +KL coefficient; at 0 no reference is loaded$", page, re.M)
    assert re.search(r"^epsilon_high +float \| None +None +the upper bound, if it differs", page, re.M)
    assert "use  rlvid train nano algorithm=grpo algorithm.beta=0.04\n" in page
    page = rlvid("list", "algorithms", "ppo").stdout  # a comment above its field
    assert re.search(r"^critic_warmup_steps +int +0 +Steps at the start in which only the critic learns", page, re.M)


def test_the_use_that_a_page_gives_is_a_valid_config():
    for what in ("algorithms", "rewards", "noise"):
        for row in LISTS[what]():
            overrides = row.usage.removeprefix("rlvid train nano ").split()
            config = load("nano", overrides)
            assert row.name in (config.algorithm.name, config.noise.kind, *(reward.name for reward in config.rewards))


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
    assert any(re.match(r"train\.max_steps +int +750 +training steps; .*; 0 or more", line) for line in lines)
    train = rlvid("list", "config", "train").stdout.splitlines()
    assert len(train) > 30 and all(line.startswith("train.") for line in train[1:])
    assert len(rlvid("list", "config", "train.max_steps").stdout.splitlines()) == 2
    shown = terminal(80, "list", "config").splitlines()
    assert len(shown) == len(lines) + 2 and max(map(len, shown)) <= 80  # and a hint


def test_version():
    assert rlvid("--version").stdout == f"rlvid {version('rlvid')}\n"


def test_assignments_may_stand_on_both_sides_of_an_option(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("rlvid.api.train", lambda *arguments: seen.append(arguments))
    assert main(["train", "nano", "seed=1", "--out", str(tmp_path / "run"), "train.max_steps=3"]) == 0
    assert main(["train", "nano", "--resume"]) == 0
    first, second = seen
    assert first == ("nano", ["seed=1", "train.max_steps=3"], str(tmp_path / "run"), False)
    assert second == ("nano", [], None, True)


def test_train_and_eval_say_where_they_write_first_and_what_to_do_next_last(tmp_path, kitchen, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in (["train", "nano", *TINY], ["eval", "nano", *TINY[-2:]]):
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        folder = lines[0].removeprefix("run folder  ")
        assert (tmp_path / folder / "status.json").is_file()
        assert lines[-4] == f"done        {folder}" and f"rlvid audit {folder} " in lines[-3]


def test_config_prints_a_preset_that_reads_back_to_the_same_id(tmp_path, capsys):
    overrides = ["train.max_steps=3", "rewards.format.partial=true", "noise.kind=symmetric", "noise.rate=0.1"]
    assert main(["config", "nano", *overrides]) == 0
    first = capsys.readouterr().out
    (tmp_path / "copy.toml").write_text(first)
    assert main(["config", str(tmp_path / "copy.toml")]) == 0
    assert capsys.readouterr().out == first
    assert re.match(r"# id: [0-9a-f]{12}\n", first) and "max_steps = 3\n" in first


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "algorithms"],
        ["list", "config"],
        ["list", "evidence"],
        ["list", "rewards", "format"],
        ["--help"],
        ["--version"],
    ],
)
def test_help_and_lists_do_not_import_torch(arguments):
    code = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
        f"from rlvid.__main__ import main; main({arguments})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("False\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "command", "line"),
    [
        (["train", "nano"], "train", "rlvid: interrupted; the same command with --resume continues"),
        (["eval", "nano"], "evaluate", "rlvid: interrupted; the same command continues"),
        (["report", "runs"], "report", "rlvid: interrupted"),
    ],
)
def test_an_interrupted_command_says_how_it_continues(words, command, line, monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"rlvid.cli.commands.{command}", interrupt)
    assert main(words) == 130
    assert capsys.readouterr().err == f"{line}\n"
