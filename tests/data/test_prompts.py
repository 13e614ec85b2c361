"""Which samples a run learns from."""

import pytest

from rlvid.config import load
from rlvid.data import benchmark
from rlvid.data.prompts import subset
from rlvid.errors import UserError


def chosen(fraction, seed=0, split="train"):
    config = load("nano", [f"train.data_fraction={fraction}", f"seed={seed}"])
    return [prompt.id for prompt in subset(benchmark.level("kitchen", split), config.train.data_fraction, config.seed)]


def test_a_fraction_of_the_data_is_the_seeds_choice_nested_and_in_the_files_order():
    every = chosen(1.0)
    few, more = chosen(0.06), chosen(0.25)
    assert [len(few), len(more), len(every)] == [72, 300, 1200]
    assert set(few) < set(more) < set(every)
    assert more == [id for id in every if id in more]
    assert chosen(0.06, seed=1) != few
    assert len(chosen(0.0001)) == 1


def test_imitation_gets_the_samples_that_rl_gets():
    assert sorted(chosen(0.06, split="train_cot")) == sorted(chosen(0.06))


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_what_is_no_fraction_is_refused(fraction):
    with pytest.raises(UserError, match=r"data_fraction must be in \(0, 1\]"):
        load("nano", [f"train.data_fraction={fraction}"])
