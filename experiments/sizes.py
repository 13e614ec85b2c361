"""Do rewards have the effects on a larger model that they have on the embedded one?

The condition "loose" (`rlvid list conditions`) in two sizes, pretrained by one script on the same lessons: 2.6 M
parameters, and 21.5 M, the shape of `rlvid bench step`. The effect of a reward is what it adds to consistent reasoning
over accuracy and format alone, by an exact rule; an untrained base counts as one more. The report gives the rank
correlation of the effects in the two sizes.

Named before the run: the primary endpoint is the rule's share on all levels, the first 150 questions of each; two
seeds; the number to look at is the rank correlation of the six effects with its interval. The oracle is the positive
control in both sizes, the random reward the negative one. All arms have the same prompts, 60 steps with 12 of them.

Both sizes have nano's learning rate, 1e-4. For the larger one 2e-4 was tried first: accuracy + format then ended below
the untrained base, on L1 and L2 with both of two seeds, so it was left: a choice made on questions of the test,
before any other arm of this size had ended. An earlier run had 5e-5 and 40 steps of 8 prompts, after which the oracle
was not shown to act in either size (experiments/README.md has both).

It takes an hour and a half on two cores, and the larger model, from about an hour of pretraining:

python -m rlvid.nano.model runs/loose_20m --size 20m --condition loose --steps 400
rlvid grid experiments/sizes.py --jobs 2
"""

from rlvid.grids import Grid, Settings

SMALL, LARGE = "2.6M", "20M"
CONTROL = "accuracy + format"
ARMS: dict[str, Settings] = {
    "base": {"train.max_steps": 0},
    CONTROL: {},
    "+ oracle": {"rewards.consistency_rule": 0.5},
    "+ embedding": {"rewards.consistency_embedding": 0.5},
    "+ reanswer": {"rewards.consistency_reanswer": 0.5},
    "+ likelihood": {"rewards.consistency_likelihood": 0.5},
    "+ random": {"rewards.random": 0.5},
}
OTHERS = [arm for arm in ARMS if arm != CONTROL]

GRID = Grid(
    name="sizes",
    question="Do rewards have the effects on a larger model that they have on the embedded one?",
    axes={
        "reward": ARMS,
        "size": {SMALL: {"model": "nano/loose"}, LARGE: {"model": "runs/loose_20m"}},
    },
    unseeded=(f"base, {SMALL}", f"base, {LARGE}"),
    seeds=(0, 1),
    control=f"{CONTROL}, {SMALL}",
    comparisons=tuple((f"{arm}, {size}", f"{CONTROL}, {size}") for size in (SMALL, LARGE) for arm in OTHERS),
    effect_order=tuple(
        (f"{arm}, {SMALL}", f"{CONTROL}, {SMALL}", f"{arm}, {LARGE}", f"{CONTROL}, {LARGE}") for arm in OTHERS
    ),
    positive_controls=tuple((f"+ oracle, {size}", f"{CONTROL}, {size}") for size in (SMALL, LARGE)),
    negative_controls=tuple((f"+ random, {size}", f"{CONTROL}, {size}") for size in (SMALL, LARGE)),
    endpoint="consistency_rule",
    effect_at_stake=0.15,
    settings={
        "eval.rewards.consistency_rule.gated": False,
        "train.max_steps": 60,
        "train.prompts_per_step": 12,
        "eval.limit": 150,
        "eval.transfer": [],
    },
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
