"""Does credit that favours rare successes lose more where wrong labels name any option?

In `rare_successes.py` the credit of the best of four (`pass_at_k`) survived wrong labels that name a habit. But a wrong
label that names any option makes rare successes of wrong answers, and these are what it favours. So this is the other
side: the same base, settings and length, with 30 and 45 % of the labels wrong, each wrong option as likely.

Computed before the runs, from the 480 groups that `rare_successes.py` describes, with labels drawn anew: what share of
all credit, in percent, goes to right answers, and to replies that look at the video.

    wrong labels       0 %    15 %    30 %    45 %
    grpo               40, 10  34, 9   28, 8   21, 7
    pass_at_k 4        46, 27  39, 25  31, 24  22, 23

So both point to right answers, by as much, and pass_at_k 4 points to looking more. Predicted: pass_at_k 4 is equivalent
to grpo at both shares, and at least as many of its runs learn.

Named before the runs: seeds 60 to 71, fixed, with no look before the last has ended. The family are the two comparisons
of pass_at_k 4 with grpo at the same share of wrong labels and the positive control, grpo with right labels against the
base. The endpoints are accuracy on the first 200 questions of each of L1, L2 and L3 together, with a margin of
equivalence of 5 points, and the number of runs above 36 %, each with its own 5 %.

It takes about 15 minutes on two cores: rlvid grid experiments/rare_successes_any.py --jobs 2
"""

from dataclasses import replace

from experiments import dose_response
from experiments.rare_successes import CREDITS, arm
from rlvid.grids import Settings


def symmetric(percent: int) -> Settings:
    """Return the settings for this share of wrong labels."""
    return {"noise.kind": "symmetric", "noise.rate": percent / 100}


TRIED = ("grpo", "pass_at_k 4")
LEARNS = (arm("grpo", 0), "base")

GRID = replace(
    dose_response.GRID,
    name="rare_successes_any",
    question="Does credit that favours rare successes lose more where wrong labels name any option?",
    axes={},
    arms={
        "base": {"train.max_steps": 0},
        arm("grpo", 0): {},
        **{arm(credit, percent): {**CREDITS[credit], **symmetric(percent)} for percent in (30, 45) for credit in TRIED},
    },
    seeds=tuple(range(60, 72)),
    success_threshold=0.36,
    comparisons=(LEARNS, *((arm("pass_at_k 4", percent), arm("grpo", percent)) for percent in (30, 45))),
    positive_controls=(LEARNS,),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
