"""The alarm `mismatch` is silent where nothing is wrong, and finds each planted fault, in both precisions."""

import pytest
import torch
from rich.console import Console

from rlvid.bench.mismatch import StepMeans, differences, measure, one_step_ahead, table_of
from rlvid.policy.parity import SAMPLER_TOLERANCE
from rlvid.types import Completion, Group
from tests.helpers.policies import load_policy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_fault_raises_the_alarm_and_nothing_else_does(kitchen, dtype):
    result, limit = measure("nano", dtype, steps=1), SAMPLER_TOLERANCE[dtype == "bfloat16"]
    assert result.alarms("nothing", limit) == 0 < result.largest
    for fault in ("stale weights", "shuffled", "dropped"):
        assert result.alarms(fault, limit) == 1 == len(result.means[fault])


def test_the_weights_come_back(prompts):
    policy = load_policy()
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    groups = [Group(prompts[0], [Completion("", (11, 12, 13), (-1.0, -1.0, -1.0))])]
    see = lambda prompt, clip: clip  # noqa: E731
    there = differences(policy, prompts[:1], groups, see)
    with one_step_ahead(policy, prompts[:1], groups):
        assert (differences(policy, prompts[:1], groups, see) != there).all()
        moved = [(p - before[n]).abs().max() for n, p in policy.named_parameters()]
        assert torch.tensor(moved).max() == pytest.approx(1e-4, rel=1e-2)
    assert all(torch.equal(parameter, before[name]) for name, parameter in policy.named_parameters())


def test_the_table_counts_alarms(capsys):
    table = table_of({("nano", "float32"): StepMeans({"nothing": [1e-7, 2e-3]}, 3e-3)})
    Console(width=160).print(table)
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[:7] == ["nano", "float32", "nothing", "1.0e-07", "2.0e-03", "3.0e-03", "0.001"]
    assert row[7:] == ["1", "of", "2", "(9", "to", "91", "%)"]
