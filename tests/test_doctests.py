"""The examples in docstrings run and give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules_with_examples():
    """The dotted names of the modules whose source holds a `>>>`, found without importing anything."""
    files = (path for package in ("rlvid", "rewards", "algorithms") for path in sorted((ROOT / package).rglob("*.py")))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_in_docstrings_run(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted and not failed


def test_the_modules_that_teach_by_example_have_examples():
    assert {"rlvid.answer", "rlvid.reward", "rlvid.types", "algorithms.grpo"} <= {*modules_with_examples()}
