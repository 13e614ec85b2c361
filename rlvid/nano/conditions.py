"""Conditions: base models with a known weakness, and the worlds in which a remedy can be tested.

A condition is for an experiment what a model organism is for a drug: in it, an effect is there to be found. Each names
a base model, `model`, and a benchmark, `data`, as a config does. `rlvid list conditions` shows them.

    plain        the model "nano": reasons consistently, so a reward for consistency has little to improve
    loose        the model "nano/loose": answers follow from what was seen, the conclusions of thoughts often do not
    glancing     the world "kitchen/skewed": a habit pays in training and on L1; the model "nano/glancing" has it
    hard_labels  the same model in the world "kitchen", where only wrong labels pay the habit
    hallucinating  the model "nano/hallucinating": most thoughts first tell moves that did not happen

A condition may set further keys of a config, its `overrides`. Each base is pretrained by
`python -m rlvid.nano.model OUT --condition NAME --seed SEED`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Condition:
    """A base model and a world.

    Args:
        name: of the condition.
        purpose: what it is for, in one line.
        model: the config's `model`.
        data: the config's `data`.
        overrides: further config keys, as on the command line: "noise.kind=first_named".
        steps: of pretraining.
        world: of the lessons, one of `rlvid.data.kitchen.WORLDS`.
        wrong_conclusions: the share of lessons whose thought ends in a wrong conclusion before the right answer.
        habit: the share of lessons, among those whose answer is the first step of the recipe, whose thought names this
            step without a look at the video.
        start: the embedded model that pretraining continues; "" for random weights.
        invented_moves: the share of lessons whose thought first tells moves that did not happen.
        accuracy: per cent of L1, L2 and L3 that the base answers right (400 questions each).
        consistency: per cent of L1, L2 and L3 where its thought ends with the option that it chooses, by
            `consistency_rule`.
    """

    name: str
    purpose: str
    model: str
    data: str = "kitchen"
    overrides: tuple[str, ...] = ()
    steps: int = 380
    world: str = ""
    wrong_conclusions: float = 0.0
    habit: float = 0.0
    start: str = ""
    invented_moves: float = 0.0
    accuracy: tuple[float, ...] = ()
    consistency: tuple[float, ...] = ()

    @property
    def figures(self) -> str:
        """The base model's figures on L1 / L2 / L3 in words, "" if there are none."""
        if not self.accuracy:
            return ""
        right, consistent = (" / ".join(map(str, row)) for row in (self.accuracy, self.consistency))
        return f"{right} % right, {consistent} % consistent"


PLAIN = Condition(
    "plain",
    "negative control: rewards for consistency and grounding have little to improve",
    "nano",
    accuracy=(52.0, 47.2, 45.2),
    consistency=(95.2, 94.0, 91.5),
)
LOOSE = Condition(
    "loose",
    "rewards for consistency: answers follow what was seen, conclusions often not",
    "nano/loose",
    steps=500,
    wrong_conclusions=0.45,
    accuracy=(47.5, 41.5, 38.0),
    consistency=(31.8, 36.2, 38.5),
)
GLANCING = Condition(
    "glancing",
    "rewards for grounding: a habit pays in training and on L1 only",
    "nano/glancing",
    data="kitchen/skewed",
    steps=440,
    world="skewed",
    habit=0.85,
    accuracy=(69.2, 27.5, 27.5),
    consistency=(94.8, 93.8, 90.8),
)
HARD_LABELS = replace(
    GLANCING,
    name="hard_labels",
    purpose="corrections for wrong labels: 30 % are wrong, and all of these pay the habit",
    data="kitchen",
    overrides=("noise.kind=first_named", "noise.rate=0.4"),
    accuracy=(27.5, 27.5, 27.5),
    consistency=(93.0, 93.8, 90.8),
)
HALLUCINATING = Condition(
    "hallucinating",
    "rewards for perception: thoughts first tell moves that did not happen",
    "nano/hallucinating",
    steps=40,
    start="nano",
    invented_moves=0.6,
    accuracy=(53.5, 49.2, 44.2),
    consistency=(88.2, 88.2, 83.2),
)
CONDITIONS = {condition.name: condition for condition in (PLAIN, LOOSE, GLANCING, HARD_LABELS, HALLUCINATING)}
