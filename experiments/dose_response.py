"""How many wrong labels does GRPO survive, and does it matter which option they name?

Wrong labels of two kinds, each in several doses, on the base that answers most questions by a habit (`nano/glancing`):
"name the habit" are labels that name the first step of the recipe, as an annotator would who skips the video;
"name any option" are as many, each wrong option as likely. Both cells at 0 % are the same run.

Predicted from 300 groups that the base sampled, before any run of this file: GRPO's advantages favour the habit from
13 % of the first kind on, and look at the video at 30 % of the second. (45 % was not computed.)

Named before the runs: the primary endpoint is accuracy on the first 200 questions of each of L1, L2 and L3 together.
The family are the comparisons of each dose with 0 %. The effect at stake is 20 points, what 30 % of the first kind cost
in `hard_labels.py`, and the margin of equivalence a quarter of it. Prediction: 20 and 30 % of the first kind are worse;
5 % of it, and every dose of the second kind, are not.

The picture `sweep.png` of the report shows accuracy against dose. Six minutes on two cores:

rlvid grid experiments/dose_response.py --jobs 2 && rlvid report runs/dose_response
"""

from collections.abc import Mapping
from functools import partial

from rlvid.grids import Grid, Settings

HABIT, ANY = "name the habit", "name any option"
DOSES = {HABIT: (5, 10, 15, 20, 30), ANY: (15, 30, 45)}  # %
CAN_NAME_IT = 0.75  # of four labels, three name another option than the habit's, so only these can become wrong
CLEAN = "0 % wrong labels"


def wrong_labels(percent: int, levels: Mapping[str, str]) -> Settings | None:
    """Return the settings for this share of wrong labels, or None if their kind is not tried in this dose."""
    kind = levels["wrong labels"]
    if percent not in DOSES[kind]:
        return None
    if kind == ANY:
        return {"noise.kind": "symmetric", "noise.rate": percent / 100}
    return {"noise.kind": "first_named", "noise.rate": round(percent / 100 / CAN_NAME_IT, 4)}


GRID = Grid(
    name="dose_response",
    question="How many wrong labels does GRPO survive, and does it matter which option they name?",
    settings={
        "model": "nano/glancing",
        "data": "kitchen",
        "train.max_steps": 40,
        "train.prompts_per_step": 12,
        "train.data_fraction": 0.08,  # 96 prompts, 5 epochs
        "train.learning_rate": 1.5e-4,
        "eval.limit": 200,
        "eval.transfer": [],
    },
    axes={
        "wrong labels": {HABIT: {}, ANY: {}},
        "dose": {
            CLEAN: {},
            **{
                f"{percent} % wrong labels": partial(wrong_labels, percent)
                for percent in sorted({*DOSES[HABIT], *DOSES[ANY]})
            },
        },
    },
    arms={"base": {"train.max_steps": 0}},
    unseeded=("base",),
    seeds=(0, 1),
    control="base",
    comparisons=tuple(
        (f"{kind}, {percent} % wrong labels", f"{kind}, {CLEAN}") for kind, doses in DOSES.items() for percent in doses
    ),
    effect_at_stake=0.2,
    equivalence_margin=0.05,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
