"""Does a reward for consistency help a second base that reasons loosely, too?

`consistency_again.py` found that the embedding makes the reasoning of the base `nano/loose` more consistent, by 15.4
points. This is the same on a base of another pretraining seed. It is step 560 of seed 1, chosen on dev before this
script was written, and less loose: 57.5, 54.2 and 56.2 % of its replies on L1, L2 and L3 are consistent by the rule,
where those of `nano/loose` are 31.8, 36.2 and 38.5 %. So there is less to mend, and smaller differences are expected.

Named before the runs: seeds 30 to 33, fixed, with no look at the endpoint before the last run has ended; the endpoint,
the margin (5 points) and all settings but the base are those of `consistency.py`. The oracle must be better than
accuracy + format, the random reward must not be; the question is whether the embedding is better.

python -m rlvid.nano.model runs/loose_seed1 --condition loose --seed 1 --steps 560
rlvid grid experiments/consistency_second_base.py --jobs 2
"""

from dataclasses import replace

from experiments import consistency

CONTROL = consistency.CONTROL
REPEATED = ("+ oracle", "+ embedding", "+ random")

GRID = replace(
    consistency.GRID,
    name="consistency_second_base",
    question="Does a reward for consistency help a second base that reasons loosely, too?",
    arms={arm: consistency.GRID.arms[arm] for arm in ("base", CONTROL, *REPEATED)},
    seeds=(30, 31, 32, 33),
    comparisons=tuple((arm, CONTROL) for arm in REPEATED),
    settings={**consistency.GRID.settings, "model": "runs/loose_seed1"},
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
