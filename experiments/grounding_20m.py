"""Does a habit that pays have the same remedy on a larger model?

`grounding.py` on a base of 21.5 M parameters, pretrained by the same script on the same lessons: in the training world
the answer is the first step of the recipe in 7 of 10 questions, on L2 and L3 in a quarter, and the base mostly answers
so. The primary endpoint is accuracy on L2 and L3. With 2.6 M parameters, against accuracy + format in points:

    balanced world  +21.2 [+9.0, +33.3]    the positive control: no shortcut in training
    narrations 3    +16.7 [+8.4, +25.0]    pays looking more than the habit
    random          -0.3 [-2.4, +1.7]      the negative control

Named before the runs: the balanced world must be better, the random reward must not, and the question is whether
narrations 3 is better here, too. The margin is 5 points. As there, a reward should undo the habit if looking earns more
than the habit in total, which the samples of the first ten steps show.

60 steps with 12 prompts, as there. The learning rate is half of the smaller model's, as in pretraining: the width is
twice as large (compare arXiv:2203.03466). It is not tuned. The base's number of steps is chosen
on dev: the first multiple of 20 from 340 on at which 60 % of 100 answers are right and 90 % well-formed (400).

OMP_NUM_THREADS=1 python -m rlvid.nano.model runs/glancing_20m --size 20m --condition glancing --steps STEPS
rlvid grid experiments/grounding_20m.py --until decided --max-seeds 3
"""

from dataclasses import replace

from experiments import grounding, grounding_bases

CONTROL, ARMS = grounding_bases.CONTROL, grounding_bases.ARMS

GRID = replace(
    grounding.GRID,
    name="grounding_20m",
    question="Does a habit that pays have the same remedy on a larger model?",
    arms=ARMS,
    seeds=(0, 1),
    comparisons=((CONTROL, "base"), *((arm, CONTROL) for arm in ARMS if arm not in ("base", CONTROL))),
    equivalence_margin=0.05,
    settings={**grounding.GRID.settings, "model": "runs/glancing_20m", "train.learning_rate": 5e-5},
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
