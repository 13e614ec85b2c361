"""Does a larger weight of narrations, or a gate, end replies that name what they see and answer by habit?

On the base of `grounding_chosen_base.py` two of four runs with narrations of weight 3 found a reply that earns a part
of the narrations beside all the accuracy of the habit. This script was written after those runs, and before its own:

- In steps 51 to 60 of one of them, within groups, this reply was paid .32 more by accuracy than looking and .09 less by
  narrations, so looking is paid more in total from a weight of about 3.8. At weight 6, runs should look, and win.
- With `gated`, narrations pay only replies whose answer is right. In the skewed world the habit is right more often
  than looking, so the gate should help the reply that is paid twice, or the habit, and not looking.

The primary endpoint is accuracy on L2 and L3, the first 200 questions of each; the balanced world must be better than
accuracy + format (the positive control), the random reward must not (the negative one); the margin of equivalence is 5
points. The base is the one of `grounding_chosen_base.py`, and so are the seeds of the arms that it had, too.

python -m rlvid.nano.model runs/glancing_seed2 --condition glancing --seed 2 --steps 500
rlvid grid experiments/grounding_paid_twice.py --jobs 2
"""

from dataclasses import replace

from experiments import grounding, grounding_chosen_base
from rlvid.grids import Settings

CONTROL = grounding_chosen_base.CONTROL
NARRATIONS = "rewards.grounding_narrations"
ADDED: dict[str, Settings] = {
    "+ narrations 6": {NARRATIONS: 6.0},
    "+ narrations 6, gated": {f"{NARRATIONS}.weight": 6.0, f"{NARRATIONS}.gated": True},
}
ARMS = {
    **grounding_chosen_base.GRID.arms,
    **{name: {**settings, **grounding.MEASURES} for name, settings in ADDED.items()},
}

GRID = replace(
    grounding_chosen_base.GRID,
    name="grounding_paid_twice",
    question="Does a larger weight of narrations, or a gate, end replies that name what they see and answer by habit?",
    arms=ARMS,
    seeds=(0, 1, 2),
    comparisons=tuple((arm, CONTROL) for arm in ARMS if arm != CONTROL),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
