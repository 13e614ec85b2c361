"""Shared fixtures: the embedded benchmark on disk and the embedded model. At the end: what was skipped."""

import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.helpers.skips import skip_lines

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=60)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise DeepSpeed warns at every start
# A test run in the background ignores SIGINT, and its child processes inherit that: restore the default.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
def policy(kitchen):
    """The embedded base model, in float32."""
    from tests.helpers.policies import load_policy

    return load_policy()


@pytest.fixture(scope="session")
def prompts(kitchen):
    """Seven training prompts: five with a video and an image, two with an image only."""
    from rlvid.data.seed_bench_r1 import load

    rows = load(kitchen, "train")
    return [p for p in rows if p.video][:5] + [p for p in rows if not p.video][:2]
