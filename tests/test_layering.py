"""Imports go one way: who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from rlvid.registry import available
from tests.helpers.sources import (
    PACKAGES,
    ROOT,
    imported_modules,
    imported_names,
    module_name,
    outside,
    parse,
    tracked_files,
)

pytestmark = pytest.mark.fast
FILES = tracked_files(*PACKAGES)

# A room is a module or a package directly in rlvid/. A room may import rooms of the lines above it, and no others.
LAYERS = (
    ("errors",),
    ("utils",),
    ("answer", "registry"),
    ("protocols",),
    ("types",),
    ("config",),
    ("reward", "algorithm", "distributed"),
    ("judges", "scoring"),
    ("video",),
    ("noise",),
    ("data",),
    ("policy",),
    ("nano",),
    ("trainer",),
    ("study",),
    ("interop",),
    ("grids", "bench", "probes"),
    ("api",),
    ("rlvid",),  # rlvid/__init__.py
    ("cli",),
    ("__main__",),
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}


def room_of(module: str) -> str:
    """Return the room of a module: that of rlvid.data.hub is data, that of rlvid itself is rlvid."""
    return [*module.split("."), "rlvid"][1]


@cache
def program() -> Mapping[str, ast.Module]:
    """Return the syntax tree of every module of rlvid/."""
    return {module_name(path): parse(path) for path in FILES if path.startswith("rlvid/")}


def backward_imports(trees: Mapping[str, ast.Module]) -> list[str]:
    """Return the imports of a room by another one that is not above it, lazy ones too, as "importer -> imported"."""
    return sorted(
        f"{module} -> {imported}"
        for module, tree in trees.items()
        for imported in imported_modules(tree, trees, lazy=True)
        if room_of(imported) != room_of(module) and LAYER[room_of(imported)] >= LAYER[room_of(module)]
    )


def import_cycle(trees: Mapping[str, ast.Module]) -> list[str]:
    """Return modules that import each other in a circle at import time, or []."""
    imports = {module: imported_modules(tree, trees, lazy=False) - {module} for module, tree in trees.items()}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_room_has_a_layer() -> None:
    assert {room_of(module) for module in program()} == set(LAYER)


def test_a_room_imports_only_lower_rooms() -> None:
    assert backward_imports(program()) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert import_cycle(program()) == []


@pytest.mark.parametrize(
    "planted",
    [
        "from rlvid.trainer.loop import train",
        "from rlvid.trainer import loop",
        "import rlvid.trainer.loop",
        "def f():\n    from rlvid.trainer.loop import train",
        "class A:\n    def f(self):\n        import rlvid.trainer.loop",
    ],
)
def test_a_planted_backward_import_is_noticed(planted: str) -> None:
    trees = {**program(), "rlvid.video.resize": ast.parse(planted)}
    assert backward_imports(trees) == ["rlvid.video.resize -> rlvid.trainer.loop"]


def test_an_import_for_type_checking_alone_is_allowed() -> None:
    trees = {**program(), "rlvid.errors": ast.parse("if TYPE_CHECKING:\n    from rlvid.trainer.loop import train")}
    assert backward_imports(trees) == []


def test_a_planted_import_between_rooms_of_one_layer_is_noticed() -> None:
    trees = {"rlvid.reward": ast.parse("import rlvid.algorithm"), "rlvid.algorithm": ast.parse("")}
    assert backward_imports(trees) == ["rlvid.reward -> rlvid.algorithm"]


def test_a_planted_circle_is_noticed_unless_it_is_lazy() -> None:
    a, b = ast.parse("import rlvid.data.b"), ast.parse("from rlvid.data import a")
    assert set(import_cycle({"rlvid.data.a": a, "rlvid.data.b": b})) == {"rlvid.data.a", "rlvid.data.b"}
    lazy = ast.parse("def f():\n    from rlvid.data import a")
    assert import_cycle({"rlvid.data.a": a, "rlvid.data.b": lazy}) == []


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("rewards/")])
def test_a_reward_imports_only_the_shared_types_and_other_rewards(path: str) -> None:
    allowed = ("rlvid.types", "rlvid.reward", "rlvid.answer", "rlvid.errors", "rlvid.judges.prompts", "rewards")
    tree = parse(path)
    heavy = outside(imported_names(tree, lazy=False), *allowed)
    assert not heavy, "heavy libraries are imported inside the function that uses them"
    assert not outside({name for name in imported_names(tree) if name.split(".")[0] in PACKAGES}, *allowed)


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("algorithms/")])
def test_an_algorithm_imports_only_torch_and_other_algorithms(path: str) -> None:
    allowed = ("rlvid.algorithm", "rlvid.types", "rlvid.utils.hashing", "torch", "algorithms")
    assert not outside(imported_names(parse(path)), *allowed)


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("rlvid/")])
def test_the_program_imports_no_plugin_and_decides_nothing_by_an_algorithms_name(path: str) -> None:
    tree = parse(path)
    assert not {name for name in imported_names(tree) if name.split(".")[0] in ("rewards", "algorithms", "experiments")}
    compared: list[ast.AST] = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    compared += [node.pattern for node in ast.walk(tree) if isinstance(node, ast.match_case)]
    constants = {leaf.value for node in compared for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
    assert not constants & {*available("algorithms")}


def test_modules_that_must_start_fast_do_not_import_torch() -> None:
    modules = ["config", "registry", "reward", "answer", "api", "__main__", "study.stats", "study.report", "grids"]
    code = f"""import importlib, sys
for name in {modules}:
    importlib.import_module("rlvid." + name)
    assert "torch" not in sys.modules, name"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
