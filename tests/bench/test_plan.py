"""The line of a plan that counts what a run does."""

from rlvid.bench.memory_tables import work_line
from rlvid.config import load


def test_a_plan_counts_steps_and_calls_of_the_judge():
    config = load("nano", ["train.max_steps=3", "train.prompts_per_step=4", "train.num_generations=8"])
    assert work_line(config) == "3 steps of 4 prompts x 8 replies"
    judged = load("nano", ["train.max_steps=3", "train.prompts_per_step=4", "rewards.consistency_judge=0.1"])
    assert "at most 96 calls of the judge" in work_line(judged)
