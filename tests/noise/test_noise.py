"""Noise is a property of the data set, nested across rates, and never of evaluation data."""

from collections import Counter
from math import isclose

import pytest

from rlvid.answer import parse
from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise import apply
from rlvid.types import Prompt
from rlvid.utils.hashing import uniform_hash

OPTIONS = ("open tap", "close tap", "cut onion", "wash pan")


def corrupt(prompts, kind, rate, seed):
    """The prompts under one kind of noise, and the manifest."""
    return apply.apply_noise(prompts, apply.build_noise(NoiseConfig(kind, seed, {"rate": rate})))


def prompts(count=2000, **fields):
    return [Prompt(f"s{i}", "?", OPTIONS, "ABCD"[i % 4], **fields) for i in range(count)]


def test_hash01_is_fixed_for_ever_and_uniform():
    assert uniform_hash(0, "symmetric", "s1") == 0.46769183501434797
    assert uniform_hash("a") == uniform_hash("a") != uniform_hash("b")
    values = sorted(uniform_hash("u", i) for i in range(4000))
    assert all(abs(v - i / 4000) < 0.04 for i, v in enumerate(values))  # Kolmogorov-Smirnov: 0.04 is p < 1e-5
    assert values[0] >= 0 and values[-1] < 1


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_the_rate_is_kept_and_every_wrong_option_is_as_likely(rate):
    clean = prompts()
    noisy, manifest = corrupt(clean, "symmetric", rate, seed=0)
    flipped = [(p, q) for p, q in zip(clean, noisy, strict=True) if p.answer != q.answer]
    assert abs(len(flipped) / 2000 - rate) < 4 * (rate * (1 - rate) / 2000) ** 0.5
    steps = Counter(("ABCD".index(q.answer) - "ABCD".index(p.answer)) % 4 for p, q in flipped)
    assert set(steps) == {1, 2, 3} and max(steps.values()) < 1.5 * min(steps.values())
    assert manifest == [
        {"id": p.id, "answer": {"clean": p.answer, "noisy": q.answer}, "u": uniform_hash(0, "symmetric", p.id)}
        for p, q in flipped
    ]
    assert all(row["u"] < rate for row in manifest)


def test_rates_are_nested_and_order_does_not_matter():
    low, high = (
        {row["id"]: row for row in corrupt(data, "symmetric", rate, seed=0)[1]}
        for data, rate in ((prompts(), 0.2), (prompts()[::-1], 0.4))
    )
    assert low.items() <= high.items() and len(low) < len(high)
    other = {row["id"] for row in corrupt(prompts(), "symmetric", 0.2, seed=1)[1]}
    assert isclose(len(other & set(low)) / 2000, 0.04, abs_tol=0.02)  # another seed: independent


def test_rate_zero_and_one():
    assert corrupt(prompts(), "symmetric", 0.0, seed=0) == (prompts(), [])
    noisy, manifest = corrupt(prompts(), "symmetric", 1.0, seed=0)
    assert len(manifest) == 2000 and all(p.answer != q.answer for p, q in zip(prompts(), noisy, strict=True))


def test_the_clean_answer_stays_as_a_diagnostic_and_nothing_else_changes():
    [clean] = prompts(1, meta={"task_goal": "tea"})
    [noisy], _ = corrupt([clean], "symmetric", 1.0, seed=0)
    assert noisy.meta == {"task_goal": "tea", "clean_answer": "A"} and clean.meta == {"task_goal": "tea"}
    assert (noisy.id, noisy.question, noisy.options, noisy.level) == (clean.id, "?", OPTIONS, "train")


def test_a_demonstration_answers_with_the_noisy_letter_and_keeps_its_reasoning():
    shown = "<think>The tap runs,\nso close it.</think>\n<answer>\nB. close tap</answer>"
    clean = [Prompt(f"s{i}", "?", OPTIONS, "B", demonstration=shown) for i in range(20)]
    for noisy in corrupt(clean, "symmetric", 1.0, seed=0)[0]:
        assert parse(noisy.demonstration, OPTIONS) == noisy.answer != "B"
        assert noisy.demonstration.startswith("<think>The tap runs,\nso close it.</think>\n<answer>")
    assert corrupt(clean, "symmetric", 0.0, seed=0)[0] == clean


def test_a_flip_never_goes_to_an_option_that_says_the_same():
    data = [Prompt(f"s{i}", "?", ("Open  tap", "open tap", "cut onion", "open tap "), "A") for i in range(50)]
    assert {p.answer for p in corrupt(data, "symmetric", 1.0, seed=0)[0]} == {"C"}
    with pytest.raises(UserError, match="sample x: every option says 'A'"):
        corrupt([Prompt("x", "?", ("a", "A"), "B")], "symmetric", 1.0, seed=0)


@pytest.mark.parametrize("answer", [None, "E", ""])
def test_a_sample_without_a_right_option_cannot_be_flipped(answer):
    with pytest.raises(UserError, match="sample x has no right option"):
        corrupt([Prompt("x", "?", OPTIONS, answer)], "symmetric", 1.0, seed=0)


@pytest.mark.parametrize("level", ["L1", "L2", "L3", ""])
def test_evaluation_data_cannot_be_touched_at_any_rate(level):
    for rate in (0.0, 1.0):
        with pytest.raises(UserError, match=f"sample s0 is of level '{level}'"):
            corrupt(prompts(3, level=level), "symmetric", rate, seed=0)


def test_unknown_kinds_and_impossible_rates_are_refused():
    with pytest.raises(UserError, match=r"no kind of noise 'symetric'\. Did you mean 'symmetric'\?"):
        corrupt(prompts(1), "symetric", 0.1, seed=0)
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="must be in"):
            corrupt(prompts(1), "symmetric", rate, seed=0)
