"""Plug-ins are found by name, and a wrong name gives a useful error message."""

import inspect
import subprocess
import sys
from dataclasses import MISSING, fields
from importlib.util import find_spec

import pytest
import torch

from rlvid.api.listing import list_plugins
from rlvid.errors import UserError
from rlvid.registry import available, build, module_file, resolve, suggest
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.fields import fields_of, parsed_fields
from rlvid.utils.plugin_source import read_plugin
from rlvid.utils.renamed import RENAMED

pytestmark = pytest.mark.fast


def test_a_reward_and_an_algorithm_are_built_by_name():
    options = ("open tap", "close tap", "cut onion", "wash pan")
    prompt = Prompt(id="q1", question="What should I do next?", options=options, answer="B")
    replies = ["<think>The tap is running.</think><answer>B</answer>", "<answer>A or B</answer>"]
    assert build("rewards", "accuracy")([Group(prompt, [Completion(r) for r in replies])]) == [[1.0, 0.0]]
    credit = build("algorithms", "grpo").advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    assert credit.shape == (1, 4) and credit[0, 0] > 0 > credit[0, 1]


def test_every_public_module_of_a_folder_is_a_plugin():
    assert {"accuracy", "format"} <= set(available("rewards")) and {"sft", "grpo"} <= set(available("algorithms"))
    for kind in ("rewards", "algorithms"):
        for name in available(kind):
            assert callable(resolve(kind, name))


def test_a_suggestion_lists_the_known_names_unless_they_are_many():
    assert suggest("q70", [f"q{i}" for i in range(70)]).endswith("Did you mean 'q7'?")
    assert suggest("x", [f"q{i}" for i in range(70)]).endswith(", q35 and 40 more.")
    assert suggest("grop", ["grpo", "sft"]) == " Did you mean 'grpo'?"
    assert suggest("x", ["grpo", "sft"]) == " Known: grpo, sft."


@pytest.mark.parametrize(
    ("kind", "ref", "fields", "message"),
    [
        ("rewards", "acuracy", {}, "Did you mean 'accuracy'?"),
        ("algorithms", "grop", {}, "Did you mean 'grpo'?"),
        ("algorithms", "grpo", {"epsilom": 1}, "Did you mean 'epsilon'?"),
        ("rewards", "format", {"parital": True}, "Did you mean 'partial'?"),
        ("rewards", "coin", {}, "no reward 'coin'; it is called random"),
        ("algorithms", "ppo", {"value_steps": 5}, "has no field 'value_steps'; it is called critic_warmup_steps"),
        ("rewards", "rlvid.evidence:Model", {}, "no module 'rlvid.evidence'; it is called rlvid.trainer.evidence"),
        ("algorithms", "grpo", {"beta": "high"}, "algorithm 'grpo': beta must be a number, not 'high'"),
        ("algorithms", "grpo", {"delta": "high"}, "algorithm 'grpo': delta must be a number, not 'high'"),
        ("algorithms", "grpo", {"num_iterations": 1.5}, "num_iterations must be int, not 1.5"),
        ("algorithms", "grpo", {"kl": 3}, "kl must be str, not 3"),
        ("rewards", "format", {"partial": 1}, "partial must be bool, not 1"),
        ("rewards", "./nowhere.py:thing", {}, "no such file"),
        ("rewards", "no.such:thing", {}, "no module"),
        ("rewards", "json:nothing", {}, "defines nothing callable"),
    ],
)
def test_a_wrong_name_is_one_clear_line(kind, ref, fields, message):
    with pytest.raises(UserError) as error:
        build(kind, ref, **fields)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_name_of_a_file_here_is_answered_with_its_path(tmp_path, monkeypatch):
    (tmp_path / "hedging.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no reward 'hedging': for the file here write \./hedging\.py$"):
        build("rewards", "hedging")


def test_a_file_that_imports_an_old_module_names_the_new_one(tmp_path):
    (tmp_path / "old.py").write_text("from rlvid.study.grid import Grid")
    with pytest.raises(UserError, match=r"no module 'rlvid\.study\.grid'; it is called rlvid\.grids$"):
        resolve("rewards", f"{tmp_path}/old.py")


def exists(module):
    """Whether a module could be imported; only its parent package is imported to find out."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def test_every_renamed_module_and_plugin_leads_to_one_that_exists():
    for old, new in RENAMED["module"].items():
        assert module_file(new).is_file()
        assert not exists(old)
    assert set(RENAMED["reward"].values()) <= set(available("rewards"))


def test_plugins_by_module_and_by_file(tmp_path):
    assert resolve("algorithms", "algorithms.grpo:GRPO") is resolve("algorithms", "grpo")
    (tmp_path / "half.py").write_text(
        "from rlvid.reward import each\n\n\n@each\ndef half(completion, prompt, *, of=1.0):\n    return of / 2\n"
    )
    group = Group(Prompt("q", "?"), [Completion("x")])
    assert build("rewards", f"{tmp_path}/half.py:half")([group]) == [[0.5]]
    assert build("rewards", f"{tmp_path}/half.py", of=3.0)([group]) == [[1.5]]


def test_a_module_that_has_changed_is_run_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file, group = tmp_path / "changing_module.py", Group(Prompt("q", "?"), [Completion("x")])
    for value in ("1.0", "2.0", "3.0"):  # of one size and within a second, as an editor's save may be
        file.write_text(f"def constant(groups):\n    return [[{value}]]\n")
        assert build("rewards", "changing_module:constant")([group]) == [[float(value)]]


@pytest.mark.parametrize("kind", ["algorithms", "rewards"])
def test_the_fields_that_the_source_shows_are_those_of_the_plugin(kind):
    for name in available(kind):
        assert parsed_fields(read_plugin(kind, name)) == fields_of(resolve(kind, name)), name


def test_an_id_of_shipped_plugins_needs_no_torch():
    code = "import sys; from rlvid.config import load; load('nano').id; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("kind", ["algorithms", "rewards"])
def test_the_listed_fields_are_the_fields_of_the_class(kind):
    """The listing parses the source; it must agree with the class in names, order and defaults, inherited ones too."""
    for row in list_plugins(kind):
        if inspect.isclass(built := resolve(kind, row.name)):
            defaults = {
                f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(built)
            }
            listed = [(key, item.default) for key, item in row.fields.items()]
            assert listed == [(key, repr(value)) for key, value in defaults.items()], row.name
