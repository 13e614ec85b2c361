"""Which rewards keep thoughts to what was filmed, and what happens to the answers?

The condition "hallucinating" (`rlvid list conditions`): most thoughts of the base first tell moves that did not happen;
what follows, and the answer, do not depend on them. So accuracy has no reason to mend them. The primary endpoint is the
F1 of the told moves (`grounding_moves`), an exact rule for the kitchen's language on which inferences cost nothing.
Only the oracle is trained on it: it is the positive control, which must be better. A random reward is the negative
control, which must not be.

"narrations" compare words with the clip's annotations, but not the words that the question has: it sees an invented
ingredient that the recipe lacks, and not one of the recipe. "counterfactual" and "temporal" pay answers that fail when
the frames are missing or shuffled, and never look at what a thought tells.

Named before the runs: the endpoint on all levels; each comparison below; the effect at stake is 20 points, most of the
24 between this base and nano, and the margin of equivalence a quarter of it.

The first run (seeds 0 to 3) answered greedily, which turns a small preference for inventions into all or nothing, and
its controls did not come out. In its samples the rewards that read thoughts ended between 1 and 7 % of inventions in
every run, the others between 5 and 77 %. Named before the second run: new seeds from 10 on, and replies that are
sampled at temperature 1 in the evaluation, too; all else as before.

All arms have the same prompts: 60 steps with 12 of them. Each level is asked its first 150 questions;
--set eval.limit=0 asks all.

rlvid grid experiments/hallucination.py --until decided --max-seeds 4
"""

from rlvid.grids import Grid, Settings

CONTROL = "accuracy + format"
MEASURES: Settings = {"eval.rewards.grounding_moves.weight": 1.0}
ADDED: dict[str, Settings] = {
    "+ oracle": {"rewards.grounding_moves": 0.5},
    "+ narrations 0.5": {"rewards.grounding_narrations": 0.5},
    "+ narrations 3": {"rewards.grounding_narrations": 3.0},
    "+ counterfactual 1": {"rewards.grounding_counterfactual": 1.0},
    "+ temporal 1": {"rewards.grounding_temporal": 1.0},  # as in T-GRPO: a bonus of 0.3
    "+ random": {"rewards.random": 0.5},
}

GRID = Grid(
    name="hallucination",
    question="Which rewards keep thoughts to what was filmed, and what happens to the answers?",
    arms={
        "base": {"train.max_steps": 0, **MEASURES},
        CONTROL: MEASURES,
        **{name: {**settings, **MEASURES} for name, settings in ADDED.items()},
    },
    unseeded=("base",),
    seeds=(10, 11, 12),
    control=CONTROL,
    comparisons=((CONTROL, "base"), *((name, CONTROL) for name in ADDED)),
    positive_controls=(("+ oracle", CONTROL),),
    negative_controls=(("+ random", CONTROL),),
    endpoint="grounding_moves",
    effect_at_stake=0.2,
    equivalence_margin=0.05,
    settings={
        "model": "nano/hallucinating",
        "train.max_steps": 60,
        "train.prompts_per_step": 12,
        "eval.limit": 150,
        "eval.temperature": 1.0,
        "eval.transfer": [],
    },
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
