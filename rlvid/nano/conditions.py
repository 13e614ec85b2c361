"""Conditions: base models with a known weakness, and the worlds in which a remedy can be tested.

A condition is for an experiment what a model organism is for a drug: in it, an effect is there to be found. Each names
a base model, `model`, and a benchmark, `data`, as a config does. `rlvid list conditions` shows them.

    plain   the model "nano": reasons consistently, so a reward for consistency has little to improve
    loose   the model "nano/loose": the answer follows from what was seen, the conclusion of the thought often does not

Each base is pretrained by `python -m rlvid.nano.model OUT --condition NAME --seed SEED`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """A base model and a world.

    Args:
        name: of the condition.
        purpose: what it is for, in one line.
        model: the config's `model`.
        data: the config's `data`.
        steps: of pretraining.
        world: of the lessons, one of `rlvid.data.kitchen.WORLDS`.
        wrong_conclusions: the share of lessons whose thought ends in a wrong conclusion before the right answer.
        figures: what was measured of the base model.
    """

    name: str
    purpose: str
    model: str
    data: str = "kitchen"
    steps: int = 380
    world: str = ""
    wrong_conclusions: float = 0.0
    figures: str = ""


PLAIN = Condition(
    "plain",
    "negative control: rewards for consistency and grounding have little to improve",
    "nano",
)
LOOSE = Condition(
    "loose",
    "rewards for consistency: answers follow from what was seen, conclusions of thoughts are often wrong",
    "nano/loose",
    steps=500,
    wrong_conclusions=0.45,
)
GLANCING = Condition(
    "glancing",
    "rewards for grounding: answers follow a habit that holds in training and L1, and not in L2 and L3",
    "nano/glancing",
    data="kitchen/skewed",
    steps=440,
    world="skewed",
)
CONDITIONS = {condition.name: condition for condition in (PLAIN, LOOSE, GLANCING)}
