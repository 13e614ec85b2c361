"""Fixtures for tests that run a grid script."""

from functools import partial

import pytest

from tests.helpers.grids import start_grid_in


@pytest.fixture
def start_grid(tmp_path):
    """A function that starts the grid script in the test's folder, see `start_grid_in`."""
    return partial(start_grid_in, tmp_path)


@pytest.fixture
def grid_folder(tmp_path):
    """The folder of that grid's runs."""
    return tmp_path / "runs" / "counting"
