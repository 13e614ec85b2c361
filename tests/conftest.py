"""Shared fixtures: the embedded benchmark on disk and the embedded model. At the end: what was skipped."""

import gc
import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.helpers.skips import skip_lines

# Files whose tests mostly wait: for Slurm, for timeouts, for processes that wait for each other.
WAITING = ("test_slurm", "test_slurm_nodes", "test_deepspeed", "test_family_zero", "test_lora", "test_oom", "test_gpu")
WAITING += ("test_faults", "test_uneven", "test_view_rollouts", "test_tune", "test_sharding")

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=60)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("HF_HUB_OFFLINE", None)  # a test downloads from a server of its own
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise DeepSpeed warns at every start
# A test run in the background ignores SIGINT, and its child processes inherit that: restore the default.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage while torch and transformers are imported, nor later among their million objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Tests that wait for other processes come first: they leave the cores to other workers, not to nobody at the end.

    pytest-xdist gives each worker a stretch of this list and moves tests from its end to workers that have none left.
    """
    items.sort(key=lambda item: item.path.stem not in WAITING)


def pytest_terminal_summary(terminalreporter):
    """Print the number of skipped tests by reason, and how to enable them."""
    if lines := skip_lines(terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("skipped")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """One cache for all tests and their child processes, so that the benchmark is written and decoded once."""
    shared = Path(tmp_path_factory.getbasetemp()).parent / "rlvid-cache"
    os.environ["RLVID_CACHE"] = str(shared)
    return shared


@pytest.fixture(scope="session")
def kitchen(cache):
    """The folder of the embedded benchmark. One worker writes it, and the others wait for it."""
    from rlvid.data.benchmark import root

    cache.mkdir(exist_ok=True)
    with FileLock(cache / "kitchen.lock"):
        return root("kitchen")


@pytest.fixture(scope="session")
def policy(cache):
    """The embedded base model, in float32."""
    from tests.helpers.policies import load_policy

    return load_policy()


@pytest.fixture(scope="session")
def prompts(cache):
    """Seven training prompts: five with a video and an image, two with an image only."""
    from rlvid.data.benchmark import load_level

    rows = load_level("kitchen/small", "train")
    return [p for p in rows if p.video][:5] + [p for p in rows if not p.video][:2]


@pytest.fixture
def quick_runs():
    """Runs that start sooner, see `shared_by_runs`: for tests that start them through the API or the command line."""
    from tests.helpers.runs import shared_by_runs

    with shared_by_runs():
        yield
