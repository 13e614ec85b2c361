"""Fixtures for tests that run a grid script, here or on Slurm."""

import subprocess
from functools import partial

import pytest

from tests.helpers.grids import start_grid_in, wait_until
from tests.helpers.slurm import queued_jobs, slurm_cluster


@pytest.fixture
def start_grid(tmp_path):
    """A function that starts the grid script in the test's folder, see `start_grid_in`."""
    return partial(start_grid_in, tmp_path)


@pytest.fixture
def grid_folder(tmp_path):
    """The folder of that grid's runs."""
    return tmp_path / "runs" / "counting"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Slurm with two nodes."""
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def slurm(cluster):
    """Slurm with an empty queue; what a failed test leaves in it is cancelled, so that the next test can pass."""
    yield cluster
    if jobs := queued_jobs():
        subprocess.run(["scancel", *jobs], check=False)
        wait_until(lambda: not queued_jobs(), 240)
