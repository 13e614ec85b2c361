"""Running out of memory: for real, where the run's algorithm lowers the process's memory limit, and simulated."""

import sys

import pytest

from rlvid.errors import UserError
from rlvid.policy.oom import OOMBackoff, advice_if_out_of_memory
from rlvid.utils.files import read_jsonl
from tests.helpers.processes import Child, finish, several
from tests.helpers.runs import train

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")

OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"
ONE_LARGE_STEP = [
    "data=kitchen",
    "train.max_steps=1",
    "train.prompts_per_step=24",
    "train.num_generations=8",
    "train.max_tokens_per_forward=1000000",
]

# GRPO that may allocate {more} bytes from credit to the end of the step.
LOW_MEMORY_LEARNING = """
import os, resource
from dataclasses import dataclass
from pathlib import Path
import torch
from algorithms.grpo import GRPO

@dataclass(frozen=True)
class LowMemory(GRPO):
    def credit(self, step):
        torch.backends.mkldnn.set_flags(False)  # oneDNN has other messages when memory runs out
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + {more}, resource.RLIM_INFINITY))
        return super().credit(step)

    def extra_metrics(self, batch):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return super().extra_metrics(batch)
"""

# GRPO whose rank 1 has 8 MB left from the end of a step to the credit of the next.
LOW_MEMORY_SAMPLING = """
import ctypes, os, resource
from dataclasses import dataclass
from pathlib import Path
import torch
from algorithms.grpo import GRPO

ctypes.CDLL(None).mallopt(-3, 1 << 16)  # large blocks are mapped from the system, and returned to it

@dataclass(frozen=True)
class LowMemory(GRPO):
    taken = []

    def extra_metrics(self, batch):
        if os.environ.get("RANK") == "1":
            torch.backends.mkldnn.set_flags(False)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
            try:
                while True:
                    self.taken.append(bytearray(1 << 18))
            except MemoryError:
                del self.taken[-32:]  # 8 MB are left
        return super().extra_metrics(batch)

    def credit(self, step):
        self.taken.clear()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return super().credit(step)
"""

# GRPO whose {fails}-th loss runs out of memory, on rank {rank} or on any.
FAILING_LOSS = """
import os
from dataclasses import dataclass
from algorithms.grpo import GRPO

@dataclass(frozen=True)
class Failing(GRPO):
    calls = []

    def loss(self, logps, batch):
        self.calls.append(1)
        if len(self.calls) == {fails} and os.environ.get("RANK", "{rank}") == "{rank}":
            raise RuntimeError("{message}")
        return super().loss(logps, batch)
"""


def failing_loss(path, fails, rank=0):
    """Write the algorithm to a file; returns the override that selects it."""
    path.write_text(FAILING_LOSS.format(fails=fails, rank=rank, message=OUT_OF_MEMORY))
    return f"algorithm={path}:Failing"


def assert_same_metrics(run, expected, rel=1e-4, abs_=2e-5):
    """Metrics are equal up to the order of summation."""
    for row, expected_row in zip(*(read_jsonl(out / "metrics.jsonl") for out in (run, expected)), strict=True):
        assert row == pytest.approx(expected_row, rel=rel, abs=abs_)


def test_a_step_that_does_not_fit_is_learnt_in_smaller_micro_batches(kitchen, tmp_path):
    for name, more in (("ample", 1 << 40), ("low", 100 << 20)):
        (tmp_path / "low_memory.py").write_text(LOW_MEMORY_LEARNING.format(more=more))
        (log,) = finish(Child(tmp_path / name, *ONE_LARGE_STEP, f"algorithm={tmp_path}/low_memory.py"))
    assert "out of memory; from now on" in log and "tokens at a time" in log
    assert_same_metrics(tmp_path / "low", tmp_path / "ample")


def test_under_ddp_both_ranks_repeat_a_step_that_does_not_fit_on_one(kitchen, tmp_path):
    """Rank 1 has 50 MB, less than its half of the step takes, and continues with fewer tokens at a time."""
    more = '(50 << 20 if os.environ.get("RANK") == "1" else 1 << 40)'
    (tmp_path / "low_memory.py").write_text(LOW_MEMORY_LEARNING.format(more=more))
    settings = [*ONE_LARGE_STEP, f"algorithm={tmp_path}/low_memory.py"]
    logs = finish(Child(tmp_path / "one", *settings), *several(tmp_path / "two", *settings))
    assert ["tokens at a time" in log for log in logs] == [False, False, True]
    assert_same_metrics(tmp_path / "two", tmp_path / "one")


def test_one_rank_samples_and_scores_in_smaller_batches_by_itself(kitchen, tmp_path):
    """From the end of the first step to the credit of the second, rank 1 has 8 MB left."""
    (tmp_path / "low_memory.py").write_text(LOW_MEMORY_SAMPLING)
    settings = [*ONE_LARGE_STEP, "train.max_steps=2", "eval.splits=[]", "train.lr_scheduler_type=constant"]
    settings += [f"algorithm={tmp_path}/low_memory.py", "algorithm.beta=0.04"]
    settings += ["train.reward_timeout=0"]  # whose watchdog would need a thread, and memory for its stack
    logs = finish(Child(tmp_path / "one", *settings), *several(tmp_path / "two", *settings))
    halved = [[f"{unit} at a time" in log for unit in ("prompts", "tokens")] for log in logs]
    assert halved == [[False, False], [False, False], [True, True]]
    assert_same_metrics(tmp_path / "two", tmp_path / "one", rel=2e-3, abs_=2e-4)


# Two of the eight groups of the first step have equal rewards, one of them on rank 1. The losses of a step are those of
# a look at what can be known before the forward pass, of the groups without gradient, and of two micro-batches.
SOME_WITHOUT_GRADIENT = [
    "train.max_tokens_per_forward=450", "train.prompts_per_step=8", "eval.splits=[]", "algorithm.beta=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(kitchen, tmp_path_factory):
    """A run in which no memory is short."""
    folder = tmp_path_factory.mktemp("oom")
    algorithm = failing_loss(folder / "never.py", fails=0)
    return train(folder / "undisturbed", algorithm, "train.max_steps=2", *SOME_WITHOUT_GRADIENT)


@pytest.mark.parametrize("fails", [2, 4])
def test_gradients_from_before_memory_ran_out_are_discarded(undisturbed, tmp_path, fails):
    """The groups without gradient run out of memory, or the last micro-batch of the others."""
    algorithm = failing_loss(tmp_path / "failing.py", fails)
    run = train(tmp_path / "failing", algorithm, "train.max_steps=2", *SOME_WITHOUT_GRADIENT)
    assert_same_metrics(run, undisturbed)


@pytest.mark.parametrize("fails", [2, 3])
def test_under_ddp_memory_may_run_out_in_any_micro_batch_of_one_rank(undisturbed, tmp_path, fails):
    """Rank 1 fails in groups without gradient or in others, rank 0 finishes them; then both ranks repeat these."""
    algorithm = failing_loss(tmp_path / "failing.py", fails, rank=1)
    settings = [*SOME_WITHOUT_GRADIENT, "train.max_steps=2", "train.ddp_timeout=60"]
    logs = finish(*several(tmp_path / "two", algorithm, *settings))
    assert ["rlvid: out of memory; " in log for log in logs] == [False, True]
    assert_same_metrics(tmp_path / "two", undisturbed)


def test_under_zero_a_rank_without_memory_ends_the_run_with_advice(kitchen, tmp_path):
    settings = [failing_loss(tmp_path / "failing.py", fails=2, rank=1), "train.max_steps=3"]
    settings += ["train.max_tokens_per_forward=200", "train.ddp_timeout=30", "eval.splits=[]"]
    first, second = several(tmp_path / "run", *settings, zero=2)
    code, log = second.end()
    assert code == 2 and "out of memory on one rank; under ZeRO a step cannot be repeated. Try train." in log
    code, log = first.end()
    assert code == 2 and "waited for the other processes" in log


def attempt(backoff, work, limit, smallest=1):
    """Call `work` as users of `OOMBackoff` do; returns its result."""
    for size in backoff.sizes(limit, smallest):
        with backoff.attempt():
            return work(size)


def test_smaller_sizes_are_kept_and_other_errors_pass_through():
    backoff, attempted = OOMBackoff("prompts"), []

    def work(size):
        attempted.append(size)
        if size > 3:
            raise RuntimeError(OUT_OF_MEMORY)
        return size

    def fail(size):
        raise RuntimeError("shapes do not fit")

    assert attempt(backoff, work, 12) == 3 and attempted == [12, 6, 3]
    assert attempt(backoff, work, 12) == 3 and attempted[3:] == [3], "the smaller size is kept"
    assert attempt(backoff, work, 2) == 2
    with pytest.raises(UserError, match=r"out of memory with 8 tokens at a time: DefaultCPU.*Try train"):
        attempt(OOMBackoff("tokens", 8), work, 100, smallest=5)
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(backoff, fail, 2)


def test_a_size_that_succeeded_is_attempted_again_if_another_rank_ran_out():
    backoff = OOMBackoff("tokens", 8)
    sizes = backoff.sizes(100)
    for _ in range(2):
        assert next(sizes) == 8
        with backoff.attempt():
            pass
        assert not backoff.failed
    assert next(sizes) == 8


def test_without_memory_for_the_optimizer_step_a_run_ends_with_advice():
    with (
        pytest.raises(UserError, match=r"out of memory while taking the optimizer step, which no smaller.*Try train"),
        advice_if_out_of_memory("taking the optimizer step"),
    ):
        raise RuntimeError(OUT_OF_MEMORY)
    with pytest.raises(RuntimeError, match="shapes"), advice_if_out_of_memory("taking the optimizer step"):
        raise RuntimeError("shapes do not fit")
