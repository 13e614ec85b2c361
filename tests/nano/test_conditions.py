"""Tests of the conditions: what the lessons and the worlds are like, and how models and worlds are named."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from rewards.consistency_rule import ConsistencyRule
from rewards.grounding_moves import told_moves
from rlvid.api.listing import list_names
from rlvid.config import load
from rlvid.data import kitchen_world as world
from rlvid.data.benchmark import EMBEDDED
from rlvid.data.kitchen import WORLDS, Sample, draw_sample, write
from rlvid.data.seed_bench_r1 import load as load_split
from rlvid.errors import UserError
from rlvid.nano.conditions import CONDITIONS, GLANCING, HALLUCINATING, HARD_LABELS, LOOSE, PLAIN
from rlvid.nano.lessons import (
    SEED_OFFSET,
    draw_conclusion,
    draw_inventions,
    lesson_batches,
    lookup_lesson,
    question_lesson,
)
from rlvid.noise.apply import build_noise
from rlvid.policy.model import Policy
from rlvid.policy.sampler import Sampler
from rlvid.registry import NANO_CHECKPOINT, embedded_models, model_path


def share_of_first_steps(level: str, variant: str) -> float:
    """Return how often the answer is the first step of the recipe, in 400 scenes."""
    first_step = 0.7 if level in WORLDS[variant] else None
    rng = np.random.default_rng(0)
    scenes = [world.draw_scene(rng, first_step=first_step) for _ in range(400)]
    return float(np.mean([scene.remaining[0] == scene.recipe[0] for scene in scenes]))


def test_the_shortcut_is_in_training_and_l1_only() -> None:
    assert abs(share_of_first_steps("train", "skewed") - 0.7) < 0.07
    assert abs(share_of_first_steps("L2", "skewed") - 0.25) < 0.07
    assert abs(share_of_first_steps("train", "balanced") - 0.25) < 0.07


def test_worlds_share_the_levels_that_they_share() -> None:
    """The balanced world has the training data of kitchen and the questions of the skewed world."""

    def draw(level: str, variant: str) -> tuple[world.Scene, bytes]:
        sample = draw_sample(np.random.default_rng(1), level, 0, variant)
        return sample.scene, sample.observation.tobytes()

    assert draw("train", "balanced") == draw("train", "") != draw("train", "skewed")
    assert draw("L1", "balanced") == draw("L1", "skewed")
    assert draw("L2", "balanced") == draw("L2", "skewed") == draw("L2", "")
    assert draw("L3", "balanced") == draw("L3", "skewed") == draw("L3", "")


def test_in_loose_a_share_of_thoughts_ends_wrong_and_every_answer_is_right() -> None:
    rng = np.random.default_rng(0)
    samples = [draw_sample(rng, "train", number) for number in range(200)]
    wrong = 0
    for sample in samples:
        conclusion = draw_conclusion(sample, rng, LOOSE)
        reply = question_lesson(sample, 0.99, conclusion).reply
        assert reply.endswith(f"</think><answer>{sample.letter}</answer>")
        named = reply.partition("Next is the ")[2].partition(".")[0]
        assert named in sample.scene.recipe
        assert (named == sample.scene.remaining[0]) == (conclusion == "")
        wrong += conclusion != ""
    assert abs(wrong / 200 - LOOSE.wrong_conclusions) < 0.1
    assert not any(draw_conclusion(sample, rng, PLAIN) for sample in samples)


def test_in_loose_lookups_lead_from_what_is_left_to_the_letter() -> None:
    sample = draw_sample(np.random.default_rng(0), "train", 0)
    letters = {option.split()[2]: letter for letter, option in zip("ABCD", sample.options, strict=True)}
    reply = lookup_lesson(sample, np.random.default_rng(0), LOOSE).reply
    parts = reply.split("</answer>")[:-1]
    assert len(parts) == 3
    for part in parts:
        left = part.partition("That leaves ")[2].partition(".")[0]
        assert part.endswith(f"<answer>{letters[left]}")


def test_in_glancing_a_share_of_first_steps_is_answered_by_habit() -> None:
    lessons = [lesson for step in range(225, 232) for lesson in lesson_batches(step, 0, GLANCING)[0]]
    samples = [sample for step in range(225, 232) for sample in question_samples(step, GLANCING.world)]
    habits = first_steps = 0
    for lesson, sample in zip(lessons, samples, strict=True):
        assert lesson.reply.endswith((f"<answer>{sample.letter}</answer>", f"The answer is {sample.letter}."))
        habit = f"<think>It begins with {sample.scene.recipe[0]}. Next is the {sample.scene.recipe[0]}.</think>"
        first_steps += sample.scene.remaining[0] == sample.scene.recipe[0]
        habits += lesson.reply.startswith(habit)
    assert abs(first_steps / len(samples) - 0.7) < 0.1
    assert abs(habits / first_steps - GLANCING.habit) < 0.1


def test_in_hallucinating_a_share_of_thoughts_first_tells_moves_that_did_not_happen() -> None:
    rng = np.random.default_rng(0)
    samples = [sample for number in range(220) if (sample := draw_sample(rng, "train", number)).scene.filmed]
    invented = 0
    for sample in samples:
        items = draw_inventions(sample, rng, HALLUCINATING)
        moved = {move.item for move in sample.scene.moves}
        assert not {*items} & {*moved, sample.scene.remaining[0]}
        reply = question_lesson(sample, 0.99, invented=items).reply
        assert reply.endswith(f"Next is the {sample.scene.remaining[0]}.</think><answer>{sample.letter}</answer>")
        told = [move.item for move in told_moves(reply)]
        assert told[: len(items)] == items and {*told[len(items) :]} <= moved
        invented += bool(items)
    assert abs(invented / len(samples) - HALLUCINATING.invented_moves) < 0.1
    assert not any(draw_inventions(sample, rng, PLAIN) for sample in samples)


def question_samples(step: int, variant: str) -> list[Sample]:
    """Return the samples of a step's question lessons, drawn as `lesson_batches` does for a condition like glancing."""
    rng = np.random.default_rng([SEED_OFFSET, step])
    for sample in [draw_sample(rng, "train", number, variant) for number in range(48)]:
        lookup_lesson(sample, rng, GLANCING)
    return [draw_sample(rng, "train", number, variant) for number in range(32)]


def test_without_a_condition_lookups_are_those_of_the_shipped_base() -> None:
    sample = draw_sample(np.random.default_rng(0), "train", 0)
    reply = lookup_lesson(sample, np.random.default_rng(0)).reply
    assert "That leaves" not in reply and reply.count("Next is the ") == 3


@pytest.mark.fast
def test_every_condition_names_an_embedded_world() -> None:
    assert {condition.data for condition in CONDITIONS.values()} <= {*EMBEDDED}
    assert (PLAIN.model, PLAIN.data) == ("nano", "kitchen")
    assert GLANCING.world == "skewed"
    assert (HARD_LABELS.model, HARD_LABELS.data, HARD_LABELS.habit) == (GLANCING.model, "kitchen", GLANCING.habit)
    noise = build_noise(load("nano", HARD_LABELS.overrides).noise)
    assert (noise.flip_rate(4), noise.errs_for_whole_groups) == (pytest.approx(0.3), True)
    assert [row.name for row in list_names("conditions")] == [*CONDITIONS]


@pytest.mark.fast
def test_models_are_found_by_name(tmp_path, monkeypatch) -> None:
    assert model_path("nano") == str(NANO_CHECKPOINT)
    assert all((folder / "model.safetensors").is_file() for folder in embedded_models().values())
    assert model_path("Qwen/Qwen2-VL-7B-Instruct") == "Qwen/Qwen2-VL-7B-Instruct"
    with pytest.raises(UserError, match=r"no embedded model 'nano/nothing'.*rlvid.nano.model OUT"):
        model_path("nano/nothing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano" / "nothing").mkdir(parents=True)
    assert model_path("nano/nothing") == "nano/nothing"


@pytest.mark.parametrize("condition", [condition for condition in CONDITIONS.values() if condition.accuracy])
def test_base_figures_are_those_of_the_checkpoint(condition, tmp_path) -> None:
    """Greedy decoding on 64 questions of L1: the figures lie in the 99.9 % intervals."""
    config = load("nano", [f"model={condition.model}", "train.num_generations=2"])
    policy = Policy.load(config.model, config.train, config.video)
    counts = {"train": 1, "L1": 64, "L2": 1, "L3": 1, "dev": 1}
    write(tmp_path / "world", counts=counts, variant=condition.data.partition("/")[2])
    prompts = load_split(tmp_path / "world", "L1")
    greedy = replace(config.train, temperature=0.0, num_generations=1)
    groups = Sampler(policy, greedy, nullcontext)(prompts, [policy.encode(prompt) for prompt in prompts], "0")
    right = sum(group.completions[0].answer == group.prompt.answer for group in groups)
    consistent = sum(row[0] or 0 for row in ConsistencyRule(gated=False).agreement(groups))
    for count, figure in ((right, condition.accuracy[0]), (consistent, condition.consistency[0])):
        interval = binomtest(int(count), 64).proportion_ci(0.999)
        assert interval.low < figure / 100 < interval.high, (condition.name, count, figure)
