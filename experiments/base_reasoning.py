"""How must a base model have been taught to reason for RL to improve it?

SFT on good, terse, shuffled, wrong or no reasoning, always with the right answers, then GRPO. The ways to reason badly
are those of the noise "reasoning": `rlvid list noise`.

rlvid grid experiments/base_reasoning.py --jobs 2
"""

from rlvid.grids import Grid, Settings

DEMONSTRATIONS: dict[str, Settings] = {
    "good": {},
    **{how: {"noise.kind": "reasoning", "noise.how": how} for how in ("terse", "shuffled", "wrong", "none")},
}
MEASURES: Settings = {
    "eval.rewards.consistency_embedding.gated": False,
    "eval.rewards.grounding_narrations.weight": 1.0,
}

GRID = Grid(
    name="base_reasoning",
    question="How must a base model have been taught to reason for RL to improve it?",
    axes={
        "reasoning": DEMONSTRATIONS,
        "then": {
            "sft": {"preset": "{preset}_sft", **MEASURES},
            "sft, then grpo": {"cold_start.max_steps": 30, **MEASURES},
        },
    },
    arms={"base": {"train.max_steps": 0, **MEASURES}, "grpo": MEASURES},
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="grpo",
    comparisons=(
        ("grpo", "base"),
        *((f"{how}, sft", "good, sft") for how in DEMONSTRATIONS if how != "good"),
        *((f"{how}, sft, then grpo", "grpo") for how in DEMONSTRATIONS),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
