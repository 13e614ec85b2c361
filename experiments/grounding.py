"""What makes a policy look at the video where a habit pays?

The condition "glancing" (`rlvid list conditions`): in the training world the answer is the first step of the recipe in
7 of 10 questions, on L2 and L3 in a quarter, and the base mostly answers so, without a look at the video. The primary
endpoint is accuracy on L2 and L3. The positive control trains the same base in a world without the shortcut, and must
be better. A random reward is the negative control.

"answer gain" pays a right answer by the share of the policy's replies to the same clip with shuffled frames that are
wrong: little where the habit is right, because it is right there, too. All right answers of a group earn the same, so
GRPO's division by the standard deviation would cancel it; Dr. GRPO does not divide. So it weighs questions, as
debiasing losses for visual question answering do with an answer from the question alone (arXiv:1906.10169). Frames are
shuffled because a base of this size hardly answers without pixels.

"+ narrations 3" was added after 34 of the 37 runs, as the test of a prediction from them (experiments/README.md).

All arms have 60 steps with 12 prompts. Each level is asked its first 200 questions; --set eval.limit=0 asks all.

rlvid grid experiments/grounding.py
"""

from rlvid.grids import Grid, Settings

CONTROL = "accuracy + format"
MEASURES: Settings = {"eval.rewards.grounding_moves.weight": 1.0}
ADDED: dict[str, Settings] = {
    "+ narrations 0.3": {"rewards.grounding_narrations": 0.3},
    "+ narrations 1": {"rewards.grounding_narrations": 1.0},
    "+ narrations 3": {"rewards.grounding_narrations": 3.0},
    "+ counterfactual 0.3": {"rewards.grounding_counterfactual": 0.3},
    "+ counterfactual 1": {"rewards.grounding_counterfactual": 1.0},
    "+ temporal 1": {"rewards.grounding_temporal": 1.0},  # as in T-GRPO: a bonus of 0.3
    "+ told moves": {"rewards.grounding_moves": 0.5},  # an oracle: an exact rule for the kitchen's language
    "+ random": {"rewards.random": 0.5},
}
DR_GRPO: Settings = {"algorithm": "dr_grpo", "algorithm.beta": 0.0}
ANSWER_GAIN: Settings = {  # accuracy times the share of replies to shuffled frames that are wrong
    "rewards.accuracy": 0.0,
    "rewards.grounding_counterfactual.weight": 1.0,
    "rewards.grounding_counterfactual.view": "shuffled",
    "rewards.grounding_counterfactual.paired": False,
}

GRID = Grid(
    name="grounding",
    question="What makes a policy look at the video where a habit pays?",
    arms={
        "base": {"train.max_steps": 0, **MEASURES},
        CONTROL: MEASURES,
        "balanced world": {"data": "kitchen/balanced", **MEASURES},
        **{name: {**settings, **MEASURES} for name, settings in ADDED.items()},
        "dr_grpo": {**DR_GRPO, **MEASURES},
        "dr_grpo, answer gain": {**DR_GRPO, **ANSWER_GAIN, **MEASURES},
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control=CONTROL,
    comparisons=(
        (CONTROL, "base"),
        ("balanced world", CONTROL),
        *((name, CONTROL) for name in ADDED),
        ("dr_grpo, answer gain", "dr_grpo"),
    ),
    positive_controls=(("balanced world", CONTROL),),
    negative_controls=(("+ random", CONTROL),),
    effect_at_stake=0.15,  # between the skewed and the balanced world
    settings={
        "model": "nano/glancing",
        "data": "kitchen/skewed",
        "train.max_steps": 60,
        "train.prompts_per_step": 12,
        "eval.splits": ["L2", "L3"],
        "eval.limit": 200,
        "eval.transfer": [],
    },
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
