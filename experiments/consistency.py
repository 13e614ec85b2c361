"""Which rewards make reasoning consistent where it is not?

The condition "loose" (`rlvid list conditions`): the answers of the base follow from what it saw, the conclusions of its
thoughts often do not. The primary endpoint is the share of replies whose last sentence names the chosen option, by an
exact rule. Only the oracle is trained on it: it is the positive control, which must be better. A random reward is the
negative control, which must not be. A constant one would be the control again: GRPO's baseline cancels it.

All arms have the same prompts: 60 steps with 12 of them. Each level is asked its first 150 questions;
--set eval.limit=0 asks all.

The run of 2026-11-28, without "+ nli", had seeds 0, 1 and 2 and left most undecided. Named before the run of
2026-11-29: new seeds from 10 on, added until decided; the same endpoint and family, and "+ nli" with its comparison;
the effect at stake is the 15 points that the embedding had in the first run, and the margin of equivalence a third of
it. "+ nli" asks a cross-encoder that was trained on pairs of the kitchen's own sentences, not on replies. That run was
stopped after two seeds, and run again with three, fixed: experiments/README.md has both. `consistency_again.py` repeats
the arms that were better with six new seeds.

python -m rlvid.probes.cross_encoder runs/cross_encoder
rlvid grid experiments/consistency.py --jobs 2
"""

from rlvid.grids import Grid, Settings

CONTROL = "accuracy + format"
MEASURES: Settings = {
    "eval.rewards.consistency_rule.gated": False,
    "eval.rewards.consistency_embedding.gated": False,
    "eval.rewards.consistency_reanswer.gated": False,
    "eval.rewards.grounding_moves.weight": 1.0,
}
ADDED: dict[str, Settings] = {
    "+ oracle": {"rewards.consistency_rule": 0.5},
    "+ embedding": {"rewards.consistency_embedding": 0.5},
    "+ nli": {"rewards.consistency_nli": 0.5, "evidence.nli": "runs/cross_encoder"},
    "+ reanswer": {"rewards.consistency_reanswer": 0.5},
    "+ likelihood": {"rewards.consistency_likelihood": 0.5},
    "+ random": {"rewards.random": 0.5},
}

GRID = Grid(
    name="consistency",
    question="Which rewards make reasoning consistent where it is not?",
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
    endpoint="consistency_rule",
    effect_at_stake=0.15,
    settings={
        "model": "nano/loose",
        "train.max_steps": 60,
        "train.prompts_per_step": 12,
        "eval.limit": 150,
        "eval.transfer": [],
    },
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
