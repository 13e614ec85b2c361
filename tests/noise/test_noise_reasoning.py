"""Demonstrations that reason badly keep their answers."""

import pytest

from rlvid.answer import extract_thought, parse
from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise.apply import apply_noise, build_noise
from rlvid.noise.reasoning import THOUGHT_CHANGES
from rlvid.types import Prompt

OPTIONS = ("open tap", "close tap", "cut onion", "wash pan")


def make_prompt(i):
    """A prompt whose demonstration has three sentences, the first of which differs from prompt to prompt."""
    thought = f"The tap runs {i}. The onion is whole. So close it."
    return Prompt(f"s{i}", "?", OPTIONS, "B", demonstration=f"<think>{thought}</think><answer>B</answer>")


CLEAN = [make_prompt(i) for i in range(400)]


def corrupt(how, rate=1.0, prompts=CLEAN):
    """The prompts under reasoning noise, and the manifest."""
    return apply_noise(prompts, build_noise(NoiseConfig("reasoning", 0, {"how": how, "rate": rate})))


def changed_ids(noisy):
    return {after.id for before, after in zip(CLEAN, noisy, strict=True) if before != after}


@pytest.mark.parametrize("how", THOUGHT_CHANGES)
def test_only_the_thought_changes_and_the_hash_decides_where(how):
    noisy, manifest = corrupt(how, 0.4)
    assert len(changed_ids(noisy)) == len(manifest) and 120 < len(manifest) < 200
    for prompt in noisy:
        assert parse(prompt.demonstration, OPTIONS) == "B" == prompt.answer
    reversed_noisy, _ = corrupt(how, 0.4, CLEAN[::-1])
    assert reversed_noisy[::-1] == noisy
    higher_rate, _ = corrupt(how, 0.7)
    assert changed_ids(noisy) < changed_ids(higher_rate)
    assert len(changed_ids(corrupt(how)[0])) == len(CLEAN), "at rate 1 every thought"


def test_how_each_kind_changes_a_thought():
    thoughts = {how: extract_thought(corrupt(how)[0][7].demonstration) for how in THOUGHT_CHANGES}
    assert thoughts["terse"] == "So close it." and thoughts["none"] == ""
    sentences = ["The tap runs 7.", "The onion is whole.", "So close it."]
    assert thoughts["shuffled"] != " ".join(sentences)
    assert all(sentence in thoughts["shuffled"] for sentence in sentences)
    shuffled = [extract_thought(prompt.demonstration) for prompt in corrupt("shuffled")[0]]
    places = [[thought.index(start) for start in ("The tap", "The onion", "So")] for thought in shuffled]
    assert len({tuple(sorted(range(3), key=row.__getitem__)) for row in places}) == 5, "all orders but the true one"
    assert thoughts["wrong"] != " ".join(sentences)
    assert thoughts["wrong"] in {extract_thought(prompt.demonstration) for prompt in CLEAN}


def test_prompts_without_demonstrations_do_not_change():
    prompts = [Prompt("q", "?", OPTIONS, "A")]
    assert corrupt("wrong", prompts=prompts) == (prompts, [])


def test_demonstrations_that_cannot_be_changed_are_refused():
    with pytest.raises(UserError, match=r"no way 'wrogn' to reason badly\. Did you mean 'wrong'"):
        corrupt("wrogn")
    with pytest.raises(UserError, match="all demonstrations have the same thought"):
        corrupt("wrong", prompts=[CLEAN[0]])
    with pytest.raises(UserError, match="sample x does not have exactly one <think> block"):
        corrupt("terse", prompts=[Prompt("x", "?", OPTIONS, "A", demonstration="A")])
