"""Does the remedy for a habit that pays hold on another base, if its looks lead to the answer?

`grounding_bases.py` had a second base whose looks were seldom right, so that looking hardly paid, and its positive
control did not come out. This script repeats that grid on a base of a third pretraining seed, chosen beforehand by a
rule: of the weights after 420, 440, ... 540 steps, the first whose sampled replies are by habit in 35 to 75 % and whose
looks are right in at least 34 % (the shipped base has 34 and 36 %), in 10 steps of accuracy + format at a learning rate
of 1e-12 (960 replies).

Named before the runs: the balanced world must be better than accuracy + format (the positive control) and the random
reward must not (the negative one); the question is whether narrations of weight 3 are better. The primary endpoint is
accuracy on L2 and L3, the first 200 questions of each; the margin of equivalence is 5 points.

python -m rlvid.nano.model runs/glancing_seed2 --condition glancing --seed 2 --steps 500
rlvid grid experiments/grounding_chosen_base.py --until decided --max-seeds 4 --jobs 2
"""

from dataclasses import replace

from experiments import grounding, grounding_bases

CONTROL, ARMS = grounding_bases.CONTROL, grounding_bases.ARMS

GRID = replace(
    grounding.GRID,
    name="grounding_chosen_base",
    question="Does the remedy for a habit that pays hold on another base, if its looks lead to the answer?",
    arms=ARMS,
    seeds=(0, 1),
    comparisons=tuple((arm, CONTROL) for arm in ARMS if arm != CONTROL),
    equivalence_margin=0.05,
    settings={**grounding.GRID.settings, "model": "runs/glancing_seed2"},
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
