"""Batches of an evaluation."""

from types import SimpleNamespace

import pytest

from rlvid.config import EvalConfig
from rlvid.trainer.evaluation import Evaluation


@pytest.mark.parametrize("processes", [1, 8])
def test_every_process_answers_a_whole_batch_at_a_time(processes):
    folder = SimpleNamespace(world_size=processes)
    evaluation = Evaluation(EvalConfig(batch_size=4), *[None] * 3, folder, *[None] * 3)
    assert evaluation.questions_at_once == 4 * processes
