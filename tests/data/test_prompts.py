"""Tests of the choice and the order of prompts."""

import pytest

from rlvid.config import load
from rlvid.data.benchmark import load_level
from rlvid.data.prompts import prompts_of_step, replacement_prompts, subset
from rlvid.errors import UserError
from rlvid.types import Prompt

PROMPTS = [Prompt(str(number), "?") for number in range(10)]


def subset_ids(fraction, seed=0, split="train"):
    return [prompt.id for prompt in subset(load_level("kitchen", split), fraction, seed)]


def step_ids(step, count=4, seed=0):
    return [prompt.id for prompt in prompts_of_step(PROMPTS, step, count, seed)]


def test_a_subset_depends_on_the_seed_is_nested_and_keeps_the_order_of_the_file(kitchen):
    everything = subset_ids(1.0)
    small, large = subset_ids(0.06), subset_ids(0.25)
    assert [len(small), len(large), len(everything)] == [72, 300, 1200]
    assert set(small) < set(large) < set(everything)
    assert large == [sample_id for sample_id in everything if sample_id in large]
    assert subset_ids(0.06, seed=1) != small
    assert len(subset_ids(0.0001)) == 1


def test_demonstrations_are_of_the_samples_that_rl_gets(kitchen):
    assert sorted(subset_ids(0.06, split="train_cot")) == sorted(subset_ids(0.06))


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_a_fraction_outside_0_to_1_is_an_error(fraction):
    with pytest.raises(UserError, match=r"data_fraction must be in \(0, 1\]"):
        load("nano", [f"train.data_fraction={fraction}"])


def test_every_epoch_shows_each_prompt_once_in_an_order_of_its_own():
    shown = [sample_id for step in range(1, 6) for sample_id in step_ids(step)]  # 5 steps of 4 are 2 epochs of 10
    assert sorted(shown[:10]) == sorted(shown[10:]) == sorted(prompt.id for prompt in PROMPTS)
    assert shown[:10] != shown[10:]
    assert step_ids(3) == shown[8:12], "any step can be computed without the steps before it"
    assert step_ids(1, seed=1) != step_ids(1)


def test_spare_prompts_are_new_and_do_not_depend_on_how_many_are_taken():
    drawn = PROMPTS[:4]
    three = replacement_prompts(PROMPTS, drawn, 3, step=2, seed=0)
    assert len(three) == 3 and not {prompt.id for prompt in three} & {prompt.id for prompt in drawn}
    assert replacement_prompts(PROMPTS, drawn, 5, step=2, seed=0)[:3] == three
    assert len(replacement_prompts(PROMPTS, drawn, 100, step=2, seed=0)) == 6, "no prompt is given twice"
    assert replacement_prompts(PROMPTS, drawn, -1, step=2, seed=0) == []
