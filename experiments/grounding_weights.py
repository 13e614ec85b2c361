"""Does a grounding reward undo a habit that pays, at another weight?

`grounding.py` ran narrations at three weights, the counterfactual reward at two, the temporal one at one, and the share
of attention on pixels at none. This script adds the others, on the same base ("glancing") and with the same primary
endpoint: accuracy on L2 and L3, the first 200 questions of each.

Named before the runs: the balanced world must be better than accuracy + format (the positive control) and the random
reward must not (the negative one). From what each reward paid in `grounding.py` (the counterfactual and the temporal
reward pay the habit more than looking) no weight of these two should be better. For attention there is no prediction:
a policy can attend to pixels that it makes no use of, and rlvid offers this reward as a diagnostic of weight 0. The
margin of equivalence is 5 points. The temporal reward's weight 0.3 is a bonus of 0.09.

The arm "+ attention 10" was added after the other 19 runs: in their steps 1 to 10 replies that tell of the video were
paid .39 by attention and those by habit .34, so that looking pays more in total from a weight of about 5.6. If what is
paid in total decides, this arm leaves the habit. After its first run, which kept it: that mean is over questions, and
GRPO compares the replies to one question. Within groups that have both, looking is paid .027 more by attention and .32
less by accuracy, so it pays more from a weight of about 12: "+ attention 30" was added to test this.

rlvid grid experiments/grounding_weights.py --jobs 2
"""

from dataclasses import replace

from experiments import grounding
from rlvid.grids import Settings

CONTROL = grounding.CONTROL
ADDED: dict[str, Settings] = {
    "+ counterfactual 3": {"rewards.grounding_counterfactual": 3.0},
    "+ temporal 0.3": {"rewards.grounding_temporal": 0.3},
    "+ temporal 3": {"rewards.grounding_temporal": 3.0},
    "+ attention 0.3": {"rewards.grounding_attention": 0.3},
    "+ attention 1": {"rewards.grounding_attention": 1.0},
    "+ attention 3": {"rewards.grounding_attention": 3.0},
    "+ attention 10": {"rewards.grounding_attention": 10.0},
    "+ attention 30": {"rewards.grounding_attention": 30.0},
    "+ random": {"rewards.random": 0.5},
}

GRID = replace(
    grounding.GRID,
    name="grounding_weights",
    question="Does a grounding reward undo a habit that pays, at another weight?",
    arms={
        **{arm: grounding.GRID.arms[arm] for arm in ("base", CONTROL, "balanced world")},
        **{name: {**settings, **grounding.MEASURES} for name, settings in ADDED.items()},
    },
    seeds=(0, 1),
    comparisons=((CONTROL, "base"), ("balanced world", CONTROL), *((name, CONTROL) for name in ADDED)),
    equivalence_margin=0.05,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
