"""Does credit that favours rare successes survive more wrong labels that name a habit?

GRPO compares the completions of a group. How much a group counts beside others follows from its divisor, and so does
which replies are paid more over all groups: where wrong labels name the habit, groups in which nearly all completions
succeed by habit stand against groups in which one of eight looks at the video and is right. Algorithms that differ in
this weight alone, from the least to the most for rare successes:

    qae          the weight of grpo, another baseline: negative control
    grpo         1 / standard deviation of the group
    pass_at_k 2  by the best of two completions
    max_rl       1 / mean of the group
    pass_at_k 4  by the best of four

Computed before any run of this file, from 480 groups that the base sampled (`train.learning_rate=0`, seed 1000, 61 % of
the replies by habit): the share of labels, wrong and naming the habit, from which the credit of a group's replies that
look at the video is below 0 on average, with the middle 95 % of 500 resamples of the groups.

    qae, grpo    16 % (12 to 20)
    pass_at_k 2  24 % (21 to 27)
    max_rl       28 % (24 to 32)
    pass_at_k 4  47 % (43 to 50)

That this share exists for GRPO, between 10 and 15 %, was seen in `dose_response_again.py`, whose settings are used here
with other seeds.

Named before the runs: seeds 40 to 51, fixed, with no look before the last has ended. A run learns if its accuracy on
the first 200 questions of each of L1, L2 and L3 together is above 36 %. The family are the comparisons below, with two
endpoints, each with its own 5 %:

- the number of runs that learn. Predicted at 20 %: grpo and qae none, pass_at_k 2 some, max_rl and pass_at_k 4 nearly
  all. At 30 %: grpo none, max_rl few or none, pass_at_k 4 nearly all;
- accuracy, with a margin of equivalence of 5 points. With right labels, max_rl and pass_at_k 4 are predicted to be
  equivalent to grpo. The positive control is grpo with right labels against grpo at 20 %.

max_rl weighs tokens as published, by 1 / tokens of the minibatch; the others weigh completions. The learning rate is
the same for all: AdamW divides each gradient by its running size.

It takes about 40 minutes on two cores: rlvid grid experiments/rare_successes.py --jobs 2
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from experiments import dose_response
from rlvid.grids import Settings

NO_KL: Settings = {"algorithm.beta": 0.0}  # as in the preset, which an arm with `algorithm` would otherwise lose
CREDITS: dict[str, Settings] = {
    "grpo": {},
    "qae": {"algorithm": "qae", **NO_KL},
    "pass_at_k 2": {"algorithm": "pass_at_k", **NO_KL, "algorithm.k": 2},
    "max_rl": {"algorithm": "max_rl", **NO_KL},
    "pass_at_k 4": {"algorithm": "pass_at_k", **NO_KL, "algorithm.k": 4},
}
TRIED = {  # % of the labels that are wrong -> credits
    0: ("grpo", "max_rl", "pass_at_k 4"),
    20: ("grpo", "qae", "pass_at_k 2", "max_rl", "pass_at_k 4"),
    30: ("grpo", "max_rl", "pass_at_k 4"),
}


def wrong_labels(percent: int, levels: Mapping[str, str]) -> Settings | None:
    """Return the settings for this share of wrong labels, or None if this credit is not tried with it."""
    if levels["credit"] not in TRIED[percent]:
        return None
    if not percent:
        return {}
    return {"noise.kind": "first_named", "noise.rate": round(percent / 100 / dose_response.CAN_NAME_IT, 4)}


def arm(credit: str, percent: int) -> str:
    """Return the name of an arm.

    >>> arm("grpo", 20)
    'grpo, 20 % wrong labels'
    """
    return f"{credit}, {percent} % wrong labels"


LEARNS = (arm("grpo", 0), arm("grpo", 20))
OTHER_BASELINE = (arm("qae", 20), arm("grpo", 20))

GRID = replace(
    dose_response.GRID,
    name="rare_successes",
    question="Does credit that favours rare successes survive more wrong labels that name a habit?",
    axes={
        "credit": CREDITS,
        "dose": {f"{percent} % wrong labels": partial(wrong_labels, percent) for percent in TRIED},
    },
    seeds=tuple(range(40, 52)),
    success_threshold=0.36,
    comparisons=(
        LEARNS,
        *(
            (arm(credit, percent), arm("grpo", percent))
            for percent, credits in TRIED.items()
            for credit in credits
            if credit != "grpo"
        ),
    ),
    positive_controls=(LEARNS,),
    negative_controls=(OTHER_BASELINE,),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
