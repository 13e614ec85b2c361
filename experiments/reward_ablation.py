"""Do rewards for consistent reasoning and for using the video raise accuracy, and what they reward?

Each reward is added to accuracy and format. All arms are measured by the same ungated rewards. For an arm that is
trained on one of these, rely on the others.

The pair "embedding + narrations" was chosen before any run, not from results: one reward of each kind, because tricks
that earn much of the one earn little of the other (rewards/README.md). No arm is trained on `consistency_nli` or
`consistency_judge`, because rlvid comes with neither a language model nor a ready cross-encoder (`python -m
rlvid.probes.cross_encoder` trains one). To measure all arms with a judge of your own, add
--set eval.rewards.consistency_judge.gated=false --set judge.url=URL --set judge.model=NAME.

rlvid grid experiments/reward_ablation.py --jobs 2
"""

from rlvid.grids import Grid, Settings

MEASURES: Settings = {
    "eval.rewards.consistency_embedding.gated": False,
    "eval.rewards.consistency_reanswer.gated": False,
    "eval.rewards.grounding_narrations.weight": 1.0,
}
ADDED: dict[str, Settings] = {
    "likelihood (GRPO-CARE)": {"rewards.consistency_likelihood": 1.0},
    "likelihood gain": {"rewards.consistency_likelihood": 1.0, "rewards.consistency_likelihood.gain": True},
    "embedding": {"rewards.consistency_embedding": 0.5},
    "reanswer": {"rewards.consistency_reanswer": 0.5},
    "narrations": {"rewards.grounding_narrations": 0.5},
    "temporal (T-GRPO)": {"rewards.grounding_temporal": 1.0},
    "temporal margin": {"rewards.grounding_temporal": 1.0, "rewards.grounding_temporal.margin": True},
    "counterfactual": {"rewards.grounding_counterfactual": 0.3},
    "embedding + narrations": {"rewards.consistency_embedding": 0.5, "rewards.grounding_narrations": 0.5},
}

GRID = Grid(
    name="reward_ablation",
    question="Do rewards for consistent reasoning and for using the video raise accuracy, and what they reward?",
    arms={
        "base": {"train.max_steps": 0, **MEASURES},
        "accuracy": {"rewards.format": 0.0, **MEASURES},
        "accuracy + format": MEASURES,
        **{f"+ {name}": {**settings, **MEASURES} for name, settings in ADDED.items()},
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="accuracy + format",
    comparisons=(
        ("accuracy", "base"),
        ("accuracy + format", "accuracy"),
        *((f"+ {name}", "accuracy + format") for name in ADDED),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
