"""How does the chance that GRPO learns fall with the share of wrong labels, and what do labels wrong at random cost?

`dose_response.py` had two seeds. It showed that a run under labels that name the habit either learns or keeps the
habit, but not how often, and it left losses of up to 9 points open where 30 % of the labels name any wrong option. This
run has the same arms, settings and comparisons with twelve new seeds. It was written before any of its runs.

Named before the runs: seeds 20 to 31, fixed, with no look before the last has ended. A run learns if its accuracy on
the first 200 questions of each of L1, L2 and L3 together is above 36 %, halfway between the base (26.2) and the two
runs with right labels there (45.5). There are two endpoints, each with its own 5 %:

- the number of runs that learn, each dose against 0 %. Predicted: all runs learn at 0 and 5 % and under labels that
  name any option, none at 20 and 30 % that name the habit, and some at 10 and 15 %;
- accuracy, each dose against 0 %, with the margin of equivalence of 5 points. The positive control is that right
  labels are better than the base. Predicted: 15 and 30 % that name any option are equivalent to 0 %, and 45 % are
  worse.

It takes about 40 minutes on two cores: rlvid grid experiments/dose_response_again.py --jobs 2
"""

from dataclasses import replace

from experiments import dose_response

LEARNS = (f"{dose_response.HABIT}, {dose_response.CLEAN}", "base")

GRID = replace(
    dose_response.GRID,
    name="dose_response_again",
    question="How does the chance that GRPO learns fall with the share of wrong labels, and what do random ones cost?",
    seeds=tuple(range(20, 32)),
    success_threshold=0.36,
    comparisons=(LEARNS, *dose_response.GRID.comparisons),
    positive_controls=(LEARNS,),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
