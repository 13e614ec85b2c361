"""algorithms/README.md names every algorithm, and its example runs."""

import re
from pathlib import Path

import torch

import algorithms
from rlvid.registry import available, build

README = (Path(algorithms.__path__[0]) / "README.md").read_text()


def test_the_tables_name_every_algorithm():
    tables = README.partition("\nAll algorithms have these fields")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", tables, re.M)) == available("algorithms")


def test_the_example_is_dr_grpo(tmp_path):
    [source] = re.findall(r"```python\n(.*?)```", README, re.S)
    (tmp_path / "my_grpo.py").write_text(source)
    example, dr_grpo = (build("algorithms", name, horizon=48) for name in (f"{tmp_path}/my_grpo.py", "dr_grpo"))
    rewards, mask = torch.rand(3, 4), torch.ones(12, 5)
    assert torch.equal(example.advantages(rewards), dr_grpo.advantages(rewards))
    assert torch.equal(example.weights(mask), dr_grpo.weights(mask))
