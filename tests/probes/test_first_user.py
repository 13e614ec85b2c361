"""Three rewards of a new user, as the documentation teaches them: unit-tested, probed, and trained with."""

from dataclasses import replace

import pytest

from rlvid import Prompt, UserError, api, probe, score
from rlvid.config import load
from rlvid.probes.replies import shipped_replies
from rlvid.types import Group
from tests.helpers.runs import TINY

HEDGING = '''
"""Hedging words: 1 without one, less with each."""

from rlvid.reward import each
from rlvid.types import Completion, Prompt

HEDGES = ("maybe", "perhaps", "might", "could", "possibly", "probably")


@each
def hedging(completion: Completion, prompt: Prompt, *, price: float = 0.25) -> float | None:
    if completion.thought is None:
        return None
    words = completion.thought.lower().replace(".", " ").split()
    return max(0.0, 1 - price * sum(words.count(hedge) for hedge in HEDGES))
'''
RARITY = '''
"""The rarer of the right reasonings in a group earns more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class Rarity:
    needs: ClassVar[frozenset[str]] = frozenset({"column:accuracy"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        return [self.score(group) for group in groups]

    def score(self, group: Group) -> list[float]:
        thoughts = [completion.thought for completion in group]
        return [
            accuracy * (1 - (thoughts.count(thought) - 1) / len(group)) if accuracy else 0.0
            for accuracy, thought in zip(group["accuracy"], thoughts, strict=True)
        ]
'''
OWN = '''
"""Reads what only the prompts of one data set have."""
from rlvid.reward import each


@each
def own(completion, prompt) -> float:
    return len(set(completion.text.split()) & set(prompt.meta["narration"].split())) + len(completion.text) % 7
'''
NAMES = '''
"""Narrated objects that the thought names, if the answer changes when frames are shuffled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Completion, Group


@dataclass(frozen=True)
class Names:
    needs: ClassVar[frozenset[str]] = frozenset({"narrations", "view:shuffled"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        return [self.score(group) for group in groups]

    def score(self, group: Group) -> list[float | None]:
        objects = {narration.split()[2] for narration in group.evidence["narrations"]}
        shuffled = {completion.answer for completion in group.evidence["view:shuffled"]}
        return [self.share(completion, objects, shuffled) if objects else None for completion in group]

    def share(self, completion: Completion, objects: set[str], shuffled: set[str | None]) -> float:
        named = objects & set((completion.thought or "").replace(",", " ").split())
        return len(named) / len(objects) * (completion.answer not in shuffled)
'''
QUESTION = Prompt(
    "q1", "Which?", ("a pan", "a cup"), "B", video="clip.mp4", narrations=("put the corn in the pot", "take the pan")
)
RIGHT, WRONG = "<think>The corn went in.</think><answer>B</answer>", "<think>It might be.</think><answer>A</answer>"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The three files, in the working directory."""
    for name, text in {"hedging": HEDGING, "rarity": RARITY, "names": NAMES}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_they_are_unit_tested_in_a_line_each(written):
    assert score("./hedging.py:hedging", QUESTION, [RIGHT, WRONG, "B"], price=0.5) == [1.0, 0.5, None]
    assert score("./rarity.py:rarity", QUESTION, [RIGHT, RIGHT, f"{RIGHT}", WRONG]) == [0.5, 0.5, 0.5, 0.0]
    assert score("./names.py:names", QUESTION, [RIGHT, WRONG], views={"shuffled": [WRONG]}) == [0.5, 0.0]


def test_they_are_probed_and_each_gets_its_diagnosis(written):
    hedging = probe("./hedging.py:hedging")
    assert hedging["value"].text.startswith("every reply earns 1"), "nano never hedges"
    rarity = probe("./rarity.py:rarity")
    assert rarity["tricks"].numbers["compares"] and rarity["information"].numbers["auroc"] > 0.95
    assert rarity["groups"].failed[0].threshold == "groups.min_share", "nearly all right thoughts of nano differ"
    names = probe("./names.py:names")
    assert names.replies == 192 and names["video"].numbers["conditions"]["twin"]["moved"] > 0.1
    assert names["tricks"].numbers["edits"]["drop the evidence"]["gain"] < 0


def test_a_reward_that_reads_what_only_own_prompts_have_is_probed_on_own_replies(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"own\.py:8: .*KeyError"):
        probe("./own.py:own")
    monkeypatch.setattr("rlvid.api.probing._replies_and_config", lambda *_: (own_replies(), load("nano")))
    result = probe("./own.py:own", on="runs/own")
    assert result["value"].numbers["distinct"] > 1 and result["groups"].verdict != "skipped"
    assert result["tricks"].verdict == "skipped"
    assert "not scored" in result["tricks"].text and "own.py:8" in result["tricks"].text
    assert "coherence not scored" in result["information"].text


def own_replies():
    """The first shipped groups as if they were the user's own, whose prompts have a narration."""
    shipped = shipped_replies()
    groups = [
        Group(replace(group.prompt, meta={"narration": "a cup"}), group.completions) for group in shipped.groups[:12]
    ]
    return replace(shipped, groups=tuple(groups), source="12 groups of runs/own")


def test_they_train(written, kitchen):
    rewards = [
        'rewards."./hedging.py:hedging"=0.1',
        'rewards."./rarity.py:rarity"=0.2',
        'rewards."./names.py:names"=0.3',
    ]
    metrics = api.train("nano", [*TINY, *rewards, "eval.splits=[]", "eval.transfer=[]"], "run")
    assert metrics["rewards/./hedging.py:hedging/mean"] == 1.0
    assert 0 <= metrics["rewards/./names.py:names/mean"] <= 1
    assert "advantage_share/./rarity.py:rarity" in metrics
    assert probe("./rarity.py:rarity", on="run").source.endswith("4 groups of run")
    with pytest.raises(UserError, match="no such run or file"):
        probe("./rarity.py:rarity", on="other")
