"""Demonstrations that reason badly keep their answers."""

import pytest

from rlvid.answer import extract_thought, parse
from rlvid.config import NoiseConfig
from rlvid.errors import UserError
from rlvid.noise import apply
from rlvid.noise.reasoning import HOW
from rlvid.types import Prompt

OPTIONS = ("open tap", "close tap", "cut onion", "wash pan")


def shown(i):
    said = f"The tap runs {i}. The onion is whole. So close it."
    return Prompt(f"s{i}", "?", OPTIONS, "B", demonstration=f"<think>{said}</think><answer>B</answer>")


CLEAN = [shown(i) for i in range(400)]


def spoilt(how, rate=1.0, clean=CLEAN):
    return apply.apply_noise(clean, apply.build_noise(NoiseConfig("reasoning", 0, {"how": how, "rate": rate})))


@pytest.mark.parametrize("how", HOW)
def test_only_the_thought_changes_and_by_hash_of_the_sample(how):
    noisy, manifest = spoilt(how, 0.4)
    changed = [n for c, n in zip(CLEAN, noisy, strict=True) if c != n]
    assert len(changed) == len(manifest) and 120 < len(changed) < 200
    for prompt in noisy:
        assert parse(prompt.demonstration, OPTIONS) == "B" == prompt.answer
    backwards, _ = spoilt(how, 0.4, CLEAN[::-1])
    assert backwards[::-1] == noisy
    more, _ = spoilt(how, 0.7)
    assert {n.id for n in changed} < {n.id for c, n in zip(CLEAN, more, strict=True) if c != n}


def test_what_each_way_does_to_a_thought():
    said = {how: extract_thought(spoilt(how)[0][7].demonstration) for how in HOW}
    assert said["terse"] == "So close it." and said["none"] == ""
    parts = ["The tap runs 7.", "The onion is whole.", "So close it."]
    assert said["shuffled"] != " ".join(parts) and all(part in said["shuffled"] for part in parts)
    assert said["wrong"] != " ".join(parts) and said["wrong"] in {extract_thought(p.demonstration) for p in CLEAN}


def test_without_demonstrations_there_is_nothing_to_spoil():
    bare = [Prompt("q", "?", OPTIONS, "A")]
    assert spoilt("wrong", clean=bare) == (bare, [])


def test_what_cannot_be_spoilt_is_refused():
    with pytest.raises(UserError, match=r"no way 'wrogn' to reason badly\. Did you mean 'wrong'"):
        spoilt("wrogn")
    with pytest.raises(UserError, match="all demonstrations think the same"):
        spoilt("wrong", clean=[CLEAN[0]])
    with pytest.raises(UserError, match="sample x has no one <think> block"):
        spoilt("terse", clean=[Prompt("x", "?", OPTIONS, "A", demonstration="A")])
