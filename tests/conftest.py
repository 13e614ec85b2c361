"""What many tests share: the embedded benchmark on disk and the embedded model, in folders of pytest's own."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=60)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed, where installed, would warn on every start
signal.signal(signal.SIGINT, signal.default_int_handler)  # or a suite in the background has all its runs ignore Ctrl-C


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """One cache for all tests and their child processes: the kitchen is written, and its clips decoded, once."""
    shared = Path(tmp_path_factory.getbasetemp()).parent / "rlvid-cache"
    os.environ["RLVID_CACHE"] = str(shared)
    return shared


@pytest.fixture(scope="session")
def kitchen(cache):
    """The embedded benchmark's folder."""
    from rlvid.data.benchmark import root

    return root("kitchen")


@pytest.fixture(scope="session")
def policy(kitchen):
    """The embedded base model, in float32."""
    from rlvid.config import load
    from rlvid.policy.model import Policy

    return Policy.load(load("nano"))


@pytest.fixture(scope="session")
def prompts(kitchen):
    """A few training prompts: with a video and an image, and with an image only."""
    from rlvid.data.seed_bench_r1 import load

    rows = load(kitchen, "train")
    return [p for p in rows if p.video][:5] + [p for p in rows if not p.video][:2]
