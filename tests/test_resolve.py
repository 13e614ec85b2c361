"""Names become objects, and a wrong name teaches."""

import inspect
from dataclasses import MISSING, fields

import pytest
import torch

from rlvid.cli.listing import list_plugins
from rlvid.errors import UserError
from rlvid.registry import available, build, resolve, suggest
from rlvid.types import Completion, Group, Prompt


def test_the_contracts_own_example():
    options = ("open tap", "close tap", "cut onion", "wash pan")
    prompt = Prompt(id="q1", question="What should I do next?", options=options, answer="B")
    replies = ["<think>The tap is running.</think><answer>B</answer>", "<answer>A or B</answer>"]
    assert build("rewards", "accuracy")([Group(prompt, [Completion(r) for r in replies])]) == [[1.0, 0.0]]
    credit = build("algorithms", "grpo").advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    assert credit.shape == (1, 4) and credit[0, 0] > 0 > credit[0, 1]


def test_the_folder_is_the_registry():
    assert {"accuracy", "format"} <= set(available("rewards")) and {"sft", "grpo"} <= set(available("algorithms"))
    for kind in ("rewards", "algorithms"):
        for name in available(kind):
            assert callable(resolve(kind, name))


def test_many_names_are_counted():
    assert suggest("q70", [f"q{i}" for i in range(70)]).endswith("? 70 are known.")
    assert suggest("grop", ["grpo", "sft"]) == " Did you mean 'grpo'? Known: grpo, sft."


@pytest.mark.parametrize(
    ("kind", "ref", "fields", "says"),
    [
        ("rewards", "acuracy", {}, "Did you mean 'accuracy'?"),
        ("algorithms", "grop", {}, "Did you mean 'grpo'?"),
        ("algorithms", "grpo", {"epsilom": 1}, "Did you mean 'epsilon'?"),
        ("rewards", "format", {"parital": True}, "Did you mean 'partial'?"),
        ("rewards", "./nowhere.py:thing", {}, "no such file"),
        ("rewards", "no.such:thing", {}, "no module"),
        ("rewards", "json:nothing", {}, "defines nothing callable"),
    ],
)
def test_a_wrong_name_is_one_clear_line(kind, ref, fields, says):
    with pytest.raises(UserError) as error:
        build(kind, ref, **fields)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_dotted_and_file_references(tmp_path):
    assert resolve("algorithms", "algorithms.grpo:GRPO") is resolve("algorithms", "grpo")
    (tmp_path / "half.py").write_text(
        "from rlvid.reward import each\n\n\n@each\ndef half(completion, prompt, *, of=1.0):\n    return of / 2\n"
    )
    group = Group(Prompt("q", "?"), [Completion("x")])
    assert build("rewards", f"{tmp_path}/half.py:half")([group]) == [[0.5]]
    assert build("rewards", f"{tmp_path}/half.py", of=3.0)([group]) == [[1.5]]


@pytest.mark.parametrize("kind", ["algorithms", "rewards"])
def test_what_is_listed_is_what_is_built(kind):
    """Read from the source without running it, through several parents, in the order of the class."""
    for row in list_plugins(kind):
        if inspect.isclass(built := resolve(kind, row.name)):
            defaults = {
                f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(built)
            }
            assert list(row.fields.items()) == [(key, repr(value)) for key, value in defaults.items()], row.name
