"""Does the remedy for a habit that pays depend on the base that was pretrained?

`grounding.py` on two bases of the condition "glancing", which differ in the seed of their pretraining alone: the
shipped one, and one that the first command below makes. Each has its own arms, comparisons and controls. The primary
endpoint is accuracy on L2 and L3, the first 200 questions of each.

Named before the runs: on the second base, too, the balanced world must be better than accuracy + format (the positive
control) and the random reward must not (the negative one); the question is whether narrations of weight 3 are better on
both bases. The margin of equivalence is 5 points. Steps, prompts and learning rate are those of `grounding.py`. The
report gives the rank correlation of the four effects on the two bases.

python -m rlvid.nano.model runs/glancing_seed1 --condition glancing --seed 1
rlvid grid experiments/grounding_bases.py --until decided --max-seeds 3 --jobs 2
"""

from dataclasses import replace

from experiments import grounding

FIRST, SECOND = "first base", "second base"
CONTROL = grounding.CONTROL
ARMS = {arm: grounding.GRID.arms[arm] for arm in ("base", CONTROL, "balanced world", "+ narrations 3", "+ random")}
OTHERS = [arm for arm in ARMS if arm != CONTROL]

GRID = replace(
    grounding.GRID,
    name="grounding_bases",
    question="Does the remedy for a habit that pays depend on the base that was pretrained?",
    axes={
        "reward": ARMS,
        "base": {FIRST: {"model": "nano/glancing"}, SECOND: {"model": "runs/glancing_seed1"}},
    },
    arms={},
    unseeded=(f"base, {FIRST}", f"base, {SECOND}"),
    seeds=(0, 1),
    control=f"{CONTROL}, {FIRST}",
    comparisons=tuple((f"{arm}, {base}", f"{CONTROL}, {base}") for base in (FIRST, SECOND) for arm in OTHERS),
    effect_order=tuple(
        (f"{arm}, {FIRST}", f"{CONTROL}, {FIRST}", f"{arm}, {SECOND}", f"{CONTROL}, {SECOND}") for arm in OTHERS
    ),
    positive_controls=tuple((f"balanced world, {base}", f"{CONTROL}, {base}") for base in (FIRST, SECOND)),
    negative_controls=tuple((f"+ random, {base}", f"{CONTROL}, {base}") for base in (FIRST, SECOND)),
    equivalence_margin=0.05,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
