"""Memory that runs out, for real: the run's algorithm lowers the process's limit."""

import sys

import pytest

from rlvid.errors import UserError
from rlvid.policy.oom import OOMBackoff
from rlvid.utils.files import read_jsonl
from tests.helpers.processes import Child, several
from tests.helpers.runs import train

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on address space are Linux's")

TIGHT = """
import os, resource
from dataclasses import dataclass
from pathlib import Path
import torch
from algorithms.grpo import GRPO

@dataclass(frozen=True)
class Tight(GRPO):
    def credit(self, step):
        torch.backends.mkldnn.set_flags(False)  # oneDNN has other words for want of memory
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + {more}, resource.RLIM_INFINITY))
        return super().credit(step)

    def extra_metrics(self, batch):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return super().extra_metrics(batch)
"""
WIDE = [
    "train.max_steps=1",
    "train.prompts_per_step=24",
    "train.num_generations=8",
    "train.max_tokens_per_forward=1000000",
]


def test_a_step_that_does_not_fit_is_learnt_in_halves(kitchen, tmp_path):
    runs = {}
    for name, more in (("roomy", 1 << 40), ("tight", 300 << 20)):
        (tmp_path / "tight.py").write_text(TIGHT.format(more=more))
        code, said = Child(tmp_path / name, *WIDE, f"algorithm={tmp_path}/tight.py").end()
        assert code == 0, said
        runs[name] = read_jsonl(tmp_path / name / "metrics.jsonl"), said
    (roomy, _), (tight, said) = runs["roomy"], runs["tight"]
    assert "out of memory; from now on" in said and "tokens at a time" in said
    assert tight[0] == pytest.approx(roomy[0], rel=1e-4, abs=2e-5)


def test_what_does_not_fit_in_one_process_of_two_is_learnt_again_by_both(kitchen, tmp_path):
    """One of them has 200 MB left to learn from its half of the step in, and goes on with fewer tokens at a time."""
    (tmp_path / "tight.py").write_text(TIGHT.format(more='(200 << 20 if os.environ.get("RANK") == "1" else 1 << 40)'))
    settings = [*WIDE, f"algorithm={tmp_path}/tight.py"]
    said = []
    for child in (Child(tmp_path / "one", *settings), *several(tmp_path / "two", *settings)):
        code, words = child.end()
        assert code == 0, words
        said.append("tokens at a time" in words)
    assert said == [False, False, True]
    one, two = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert two[0] == pytest.approx(one[0], rel=1e-4, abs=2e-5)


CRAMPED = """
import ctypes, os, resource
from dataclasses import dataclass
from pathlib import Path
import torch
from algorithms.grpo import GRPO

ctypes.CDLL(None).mallopt(-3, 1 << 16)  # what is large comes from the system and goes back there

@dataclass(frozen=True)
class Cramped(GRPO):
    eaten = []

    def extra_metrics(self, batch):
        if os.environ.get("RANK") == "1":
            torch.backends.mkldnn.set_flags(False)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
            try:
                while True:
                    self.eaten.append(bytearray(1 << 18))
            except MemoryError:
                del self.eaten[-48:]  # 12 MB are left
        return super().extra_metrics(batch)

    def credit(self, step):
        self.eaten.clear()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return super().credit(step)
"""


def test_one_process_of_two_samples_and_compares_in_halves_by_itself(kitchen, tmp_path):
    """From the end of the first step to the second one's credit, one of them has 12 MB left."""
    (tmp_path / "cramped.py").write_text(CRAMPED)
    settings = [*WIDE, "train.max_steps=2", "eval.splits=[]", "train.lr_scheduler_type=constant"]
    settings += [f"algorithm={tmp_path}/cramped.py", "algorithm.beta=0.04"]
    said = []
    for child in (Child(tmp_path / "one", *settings), *several(tmp_path / "two", *settings)):
        code, words = child.end()
        assert code == 0, words
        said.append([f"{what} at a time" in words for what in ("prompts", "tokens")])
    assert said == [[False, False], [False, False], [True, True]]
    one, two = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    for row, other in zip(one, two, strict=True):
        assert other == pytest.approx(row, rel=2e-3, abs=2e-4)


SHORT = """
import os
from dataclasses import dataclass
from algorithms.grpo import GRPO

@dataclass(frozen=True)
class Short(GRPO):
    fails: int = 0
    calls = []

    def loss(self, logps, batch):
        self.calls.append(1)
        if len(self.calls) == self.fails:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes")
        return super().loss(logps, batch)
"""


@pytest.mark.parametrize("fails", [2, 4])
def test_what_was_added_before_it_ran_out_is_taken_back(kitchen, tmp_path, fails):
    """Four forwards; memory runs out in a middle one, and in the last."""
    (tmp_path / "short.py").write_text(SHORT)
    runs = []
    for name, call in (("whole", 0), ("short", fails)):
        settings = [
            "train.max_steps=2",
            "train.max_tokens_per_forward=450",
            f"algorithm.fails={call}",
            "eval.splits=[]",
        ]
        runs.append(train(tmp_path / name, f"algorithm={tmp_path}/short.py", *settings, "train.prompts_per_step=8"))
    whole, short = (read_jsonl(run / "metrics.jsonl") for run in runs)
    for row, other in zip(whole, short, strict=True):
        assert other == pytest.approx(row, rel=1e-4, abs=2e-5)


def test_under_zero_a_process_that_cannot_go_back_says_so_and_nobody_waits_for_ever(kitchen, tmp_path):
    (tmp_path / "short.py").write_text(SHORT.replace("self.fails:", 'self.fails and os.environ["RANK"] == "1":'))
    settings = [
        f"algorithm={tmp_path}/short.py",
        "algorithm.fails=2",
        "train.max_steps=3",
        "train.max_tokens_per_forward=200",
    ]
    first, second = several(tmp_path / "run", *settings, "train.ddp_timeout=30", "eval.splits=[]", zero=2)
    code, words = second.end()
    assert code == 2 and "out of memory in one of several processes, which under ZeRO cannot go back" in words
    code, words = first.end()
    assert code == 2 and "waited for the other processes" in words


def attempt(backoff, work, limit, smallest=1):
    """The size that `work` succeeds with, as callers of `OOMBackoff` find it."""
    for size in backoff.sizes(limit, smallest):
        with backoff.attempt(size):
            return work(size)


def test_sizes_are_halved_for_good_and_other_errors_pass_through():
    backoff, tried = OOMBackoff("prompts"), []

    def work(size):
        tried.append(size)
        if size > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes")
        return size

    assert attempt(backoff, work, 12) == 3 and tried == [12, 6, 3]
    assert attempt(backoff, work, 12) == 3 and tried[3:] == [3], "the smaller size is kept"
    assert attempt(backoff, work, 2) == 2
    with pytest.raises(UserError, match=r"out of memory with 8 tokens at a time: DefaultCPU.*Try train"):
        attempt(OOMBackoff("tokens", 8), work, 100, smallest=5)
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(backoff, lambda size: (_ for _ in ()).throw(RuntimeError("shapes do not fit")), 2)


def test_a_size_that_worked_is_tried_again_for_a_rank_that_ran_out():
    sizes = (backoff := OOMBackoff("tokens", 8)).sizes(100)
    for _ in range(2):
        with backoff.attempt(next(sizes)):
            pass
        assert not backoff.failed
    assert next(sizes) == 8
