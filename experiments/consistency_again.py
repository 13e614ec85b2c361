"""Do two rewards that know no rule make loose reasoning consistent, with seeds that nobody has looked at?

`consistency.py` left two doubts. Its negative control was not known: the random reward could have gained up to 7.9
points. And two of its three seeds had been seen before its number of seeds was fixed. This run repeats the arms that it
found better, with both controls, and with six new seeds. It was written before any of its runs.

Named before the runs: seeds 20 to 25, fixed, with no look before the last has ended; the primary endpoint is the exact
rule on all levels, as there; the oracle must be better than accuracy + format (the positive control), and the random
reward must not be (the negative one, which comes out if its interval ends below 5 points, the margin). The questions
are whether the embedding is better, and whether the likelihood is. There are four comparisons in all; all settings but
the seeds are those of `consistency.py`, where in points

    oracle      +17.1 [+8.6, +25.6]
    embedding   +16.4 [+5.5, +27.3]
    likelihood  +10.4 [+2.1, +18.8]
    random       -1.6 [-11.0, +7.9]

It takes about 40 minutes on two cores: rlvid grid experiments/consistency_again.py --jobs 2
"""

from dataclasses import replace

from experiments import consistency

CONTROL = consistency.CONTROL
REPEATED = ("+ oracle", "+ embedding", "+ likelihood", "+ random")

GRID = replace(
    consistency.GRID,
    name="consistency_again",
    question="Do two rewards that know no rule make loose reasoning consistent, with seeds that nobody has looked at?",
    arms={arm: consistency.GRID.arms[arm] for arm in ("base", CONTROL, *REPEATED)},
    seeds=(20, 21, 22, 23, 24, 25),
    comparisons=tuple((arm, CONTROL) for arm in REPEATED),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
