"""Shared folders of runs with known answers."""

import numpy as np
import pytest

from tests.helpers.reports import write_grid, write_run


@pytest.fixture
def study_folder(tmp_path):
    """A grid of a base and of grpo with two seeds, on 100 questions of L1 and of L2.

    Right answers on L1: base 40, grpo 60 and 64, and base's are among them. On L2 all runs have the same 50 right.
    """
    half = "10" * 50
    base_id = write_run(tmp_path / "b", "train.max_steps=0", right=("1" * 40 + "0" * 60, half))
    cells = [("base", 0, "b", base_id)]
    for seed, count in enumerate((60, 64)):
        right = ("1" * count + "0" * (100 - count), half)
        id = write_run(tmp_path / f"a{seed}", f"seed={seed}", right=right, rewards=np.linspace(0.4, 0.6, 60))
        cells.append(("grpo", seed, f"a{seed}", id))
    write_grid(tmp_path, cells, [("grpo", "base")], unseeded=["base"])
    return tmp_path
