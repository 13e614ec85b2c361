"""`import rlvid`: its functions are the commands, its help teaches, and it is typed."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rlvid
from rlvid import api
from rlvid.cli.parser import COMMANDS
from rlvid.config import Config
from tests.helpers.runs import TINY

FUNCTION_OF = {  # command -> function, where the names differ
    "eval": "evaluate",
    "config": "check_config",
    "bench": "measure_speed",
    "list": "list_names",
    "data": "check_data",
}
FUNCTIONS = sorted(set(rlvid.__all__) & set(api.__all__))


def python(code: str) -> str:
    """Run Python code in a process of its own; returns what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_are_functions_whatever_was_imported_before():
    python("""
import importlib, pkgutil, rlvid
for module in pkgutil.iter_modules(rlvid.__path__, "rlvid."):  # a module of that name would hide the function
    if module.name != "rlvid.__main__":
        importlib.import_module(module.name)
for name in rlvid.__all__:
    assert callable(getattr(rlvid, name)), name
""")


def test_every_command_is_a_function():
    needed = {FUNCTION_OF.get(command, command) for command in COMMANDS} - {"completion"}
    assert needed <= set(FUNCTIONS)
    with pytest.raises(AttributeError, match="it is called compare"):
        rlvid.cases  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        rlvid.trian  # noqa: B018


def test_help_teaches_and_nothing_of_this_imports_torch():
    shown = python("""
import pydoc, sys, rlvid
assert "rlvid.api" not in sys.modules  # lazy
print(pydoc.plain(pydoc.render_doc(rlvid)))
assert "torch" not in sys.modules
""")
    for name in rlvid.__all__:
        assert re.search(rf"^    (class )?{name}\b", shown, re.M), name
    assert "__getattr__" not in shown
    table = {line.split()[0].rstrip(",") for line in rlvid.__doc__.splitlines() if line.startswith("    ")}
    assert {name for name in FUNCTIONS if not name.startswith(("write", "download"))} <= table


def test_the_package_is_typed_and_completes():
    assert (Path(rlvid.__file__).parent / "py.typed").is_file()
    assert set(rlvid.__all__) <= set(dir(rlvid)) and re.fullmatch(r"\d+\.\d+\.\d+", rlvid.__version__)
    source = inspect.getsource(rlvid)
    for name in rlvid.__all__:  # imported for type checkers, or a checker sees Any
        assert re.search(rf"^ {{4,8}}(from .* import .*\b)?{name}\b", source.partition("__all__")[0], re.M), name
    for name in FUNCTIONS:
        function = getattr(rlvid, name)
        signature = inspect.signature(function)
        assert inspect.getdoc(function) and signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values()), name


def test_one_override_may_be_a_string(tmp_path, kitchen):
    assert rlvid.check_config("nano", "train.max_steps=7").train.max_steps == 7
    *several, last = TINY
    preset = tmp_path / "tiny.toml"
    preset.write_text(rlvid.check_config("nano", several).to_toml())
    assert rlvid.train(preset, last, out=tmp_path / "run")["step"] == 1
    with pytest.raises(rlvid.UserError, match=r"train.max_steps must be int, not '1 seed=2'"):
        rlvid.train("nano", "train.max_steps=1 seed=2")


def test_functions_return_what_the_commands_print(capsys):
    assert isinstance(rlvid.check_config("nano"), Config)
    (row,) = rlvid.list_names("algorithms", "grpo")
    assert row.fields["epsilon"].default == "0.2" and row.source.startswith("algorithms/grpo.py:")
    assert len(rlvid.list_names("views")) == 8
    with pytest.raises(rlvid.UserError, match=r"no list 'algoritms'\. Did you mean 'algorithms'\?"):
        rlvid.list_names("algoritms")
    estimate = rlvid.estimate_memory("nano")
    assert estimate.peak()[1] > 0 and "GB" in capsys.readouterr().out
