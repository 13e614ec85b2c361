"""algorithms/README.md names every algorithm, and its example runs."""

import re
from pathlib import Path

import torch

import algorithms
from rlvid.config import load
from rlvid.registry import available, build
from rlvid.trainer.token_inputs import NEEDS, check_needs
from tests.helpers import toy

README = (Path(algorithms.__path__[0]) / "README.md").read_text()
SOURCES = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_tables_name_every_algorithm():
    tables = README.partition("\nAll algorithms have these fields")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", tables, re.M)) == available("algorithms")


def test_the_example_is_dr_grpo(tmp_path):
    (tmp_path / "my_grpo.py").write_text(SOURCES[0])
    example, dr_grpo = (build("algorithms", name, horizon=48) for name in (f"{tmp_path}/my_grpo.py", "dr_grpo"))
    rewards, mask = torch.rand(3, 4), torch.ones(12, 5)
    assert torch.equal(example.advantages(rewards), dr_grpo.advantages(rewards))
    assert torch.equal(example.weights(mask), dr_grpo.weights(mask))


def test_the_example_with_another_credit_learns_from_better_completions_only(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCES[1])
    mine = build("algorithms", f"{tmp_path}/mine.py")
    assert torch.allclose(mine.advantages(torch.tensor([[1.0, 0.0], [1.0, 1.0]])), torch.tensor([[0.5, 0.0], [0, 0]]))
    given, replaced = (load("qwen2_5_vl_7b", overrides).algorithm for overrides in ([], ["algorithm=dapo"]))
    assert given.fields["beta"] == 0.1 != replaced.build("algorithms").beta
    assert mine.beta == 0.04 and load("nano", []).algorithm.fields["beta"] == 0.0


def test_credit_by_a_view_takes_one_file_under_40_lines(tmp_path):
    (tmp_path / "seen_grpo.py").write_text(SOURCES[2])
    assert len(SOURCES[2].splitlines()) < 40
    seen = build("algorithms", f"{tmp_path}/seen_grpo.py", beta=0.0)
    assert seen.needs == {"old_logps", "view_logps:blank"}
    old_logps, view_logps = torch.zeros(2, 3), torch.tensor([[-3.0, 0.0, 0.0], [-1e-5, 0.0, 0.0]])
    batch = toy.make_batch(
        seen,
        torch.tensor([[1.0, 0.0]]).double(),
        torch.ones(2, 3),
        old_logps=old_logps,
        view_logps={"blank": view_logps},
    )
    advantage = build("algorithms", "grpo").advantages(torch.tensor([[1.0, 0.0]]))[0, 0]
    assert torch.allclose(batch.advantages, advantage * torch.tensor([[3.0, 0, 0], [-1, -1, -1]]))


def test_the_table_of_needs_is_that_of_the_trainer():
    table = README.partition("### Credit by token")[2].partition("```python")[0]
    assert sorted(re.findall(r"^\| `([\w:]+)` \|", table, re.M)) == sorted(NEEDS)
    check_needs("all", [need.replace("NAME", "blank") for need in NEEDS])
