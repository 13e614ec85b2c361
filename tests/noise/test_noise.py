"""Noise depends on the sample only, is nested across rates, and never touches evaluation data."""

from collections import Counter
from math import isclose

import pytest

from rlvid.answer import parse
from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise.apply import apply_noise, build_noise
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash

OPTIONS = ("open tap", "close tap", "cut onion", "wash pan")


def corrupt(prompts, kind, rate, seed=0):
    """The prompts under one kind of noise, and the manifest."""
    return apply_noise(prompts, build_noise(NoiseConfig(kind, seed, {"rate": rate})))


def make_prompts(count=2000, **fields):
    return [Prompt(f"s{i}", "?", OPTIONS, "ABCD"[i % 4], **fields) for i in range(count)]


@pytest.mark.parametrize(
    ("kind", "hashed_name"),
    [
        ("symmetric", "symmetric"),
        ("confusable", "confusable"),
        ("class_dependent", "classdependent"),
        ("unproducible", "unproducible"),
        ("frames", "frames"),
        ("wrong_clip", "wrongclip"),
        ("reasoning", "reasoning"),
    ],
)
def test_the_threshold_of_a_sample_never_changes(kind, hashed_name):
    """It is hashed from the name of the noise's class, so a renamed class would corrupt other samples."""
    fields = {"to": "A"} if kind == "class_dependent" else {}
    noise = build_noise(NoiseConfig(kind, 3, fields))
    assert noise.corruption_threshold(Prompt("s1", "?")) == uniform_hash(3, hashed_name, "s1")


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_the_rate_is_kept_and_every_wrong_option_is_equally_likely(rate):
    clean = make_prompts()
    noisy, manifest = corrupt(clean, "symmetric", rate)
    flipped = [(p, q) for p, q in zip(clean, noisy, strict=True) if p.answer != q.answer]
    assert abs(len(flipped) / 2000 - rate) < 4 * (rate * (1 - rate) / 2000) ** 0.5
    steps = Counter(("ABCD".index(q.answer) - "ABCD".index(p.answer)) % 4 for p, q in flipped)
    assert set(steps) == {1, 2, 3} and max(steps.values()) < 1.5 * min(steps.values())
    assert manifest == [
        {"id": p.id, "answer": {"clean": p.answer, "noisy": q.answer}, "u": uniform_hash(0, "symmetric", p.id)}
        for p, q in flipped
    ]
    assert all(row["u"] < rate for row in manifest)


def test_rates_are_nested_and_the_order_of_the_prompts_does_not_matter():
    low, high = (
        {row["id"]: row for row in corrupt(prompts, "symmetric", rate)[1]}
        for prompts, rate in ((make_prompts(), 0.2), (make_prompts()[::-1], 0.4))
    )
    assert low.items() <= high.items() and len(low) < len(high)
    other_seed = {row["id"] for row in corrupt(make_prompts(), "symmetric", 0.2, seed=1)[1]}
    assert isclose(len(other_seed & set(low)) / 2000, 0.04, abs_tol=0.02)  # independent: 0.2 * 0.2


def test_rate_zero_changes_nothing_and_rate_one_everything():
    assert corrupt(make_prompts(), "symmetric", 0.0) == (make_prompts(), [])
    noisy, manifest = corrupt(make_prompts(), "symmetric", 1.0)
    assert len(manifest) == 2000 and all(p.answer != q.answer for p, q in zip(make_prompts(), noisy, strict=True))


def test_the_clean_answer_is_kept_for_diagnostics_and_nothing_else_changes():
    [clean] = make_prompts(1, meta={"task_goal": "tea"})
    [noisy], _ = corrupt([clean], "symmetric", 1.0)
    assert noisy.meta == {"task_goal": "tea", "clean_answer": "A"} and clean.meta == {"task_goal": "tea"}
    assert (noisy.id, noisy.question, noisy.options, noisy.level) == (clean.id, "?", OPTIONS, "train")


def test_a_demonstration_answers_with_the_noisy_letter_and_keeps_its_reasoning():
    demonstration = "<think>The tap runs,\nso close it.</think>\n<answer>\nB. close tap</answer>"
    clean = [Prompt(f"s{i}", "?", OPTIONS, "B", demonstration=demonstration) for i in range(20)]
    for noisy in corrupt(clean, "symmetric", 1.0)[0]:
        assert parse(noisy.demonstration, OPTIONS) == noisy.answer != "B"
        assert noisy.demonstration.startswith("<think>The tap runs,\nso close it.</think>\n<answer>")
    assert corrupt(clean, "symmetric", 0.0)[0] == clean


def test_a_label_never_flips_to_an_option_with_the_same_text():
    prompts = [Prompt(f"s{i}", "?", ("Open  tap", "open tap", "cut onion", "open tap "), "A") for i in range(50)]
    assert {p.answer for p in corrupt(prompts, "symmetric", 1.0)[0]} == {"C"}
    with pytest.raises(UserError, match="sample x: every option means 'A'"):
        corrupt([Prompt("x", "?", ("a", "A"), "B")], "symmetric", 1.0)


@pytest.mark.parametrize("answer", [None, "E", ""])
def test_a_sample_without_a_right_option_cannot_be_flipped(answer):
    with pytest.raises(UserError, match="sample x has no right option"):
        corrupt([Prompt("x", "?", OPTIONS, answer)], "symmetric", 1.0)


@pytest.mark.parametrize("level", ["L1", "L2", "L3", ""])
def test_evaluation_data_is_refused_at_any_rate(level):
    for rate in (0.0, 1.0):
        with pytest.raises(UserError, match=f"sample s0 is of level '{level}'"):
            corrupt(make_prompts(3, level=level), "symmetric", rate)


def test_unknown_kinds_and_impossible_rates_are_refused():
    with pytest.raises(UserError, match=r"no kind of noise 'symetric'\. Did you mean 'symmetric'\?"):
        corrupt(make_prompts(1), "symetric", 0.1)
    for rate, says in ((-0.1, "must be in"), (1.1, "must be in"), (float("nan"), "must be a finite number, not nan")):
        with pytest.raises(UserError, match=says):
            corrupt(make_prompts(1), "symmetric", rate)
