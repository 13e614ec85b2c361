"""What must a base have been taught of reasoning before RL can build on it?

SFT on good, terse, shuffled, wrong or no reasoning, always with the right answers, and GRPO after it.

rlvid grid experiments/base_reasoning.py --jobs 2
"""

from rlvid.grids.grid import Grid, Settings

TAUGHT: dict[str, Settings] = {
    "good": {},
    **{how: {"noise.kind": "reasoning", "noise.how": how} for how in ("terse", "shuffled", "wrong", "none")},
}
MEASURES: Settings = {
    "eval.rewards.consistency_embedding.gated": False,
    "eval.rewards.grounding_narrations.weight": 1.0,
}

GRID = Grid(
    name="base_reasoning",
    question="What must a base have been taught of reasoning before RL can build on it?",
    axes={
        "reasoning": TAUGHT,
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
        *((f"{how}, sft", "good, sft") for how in TAUGHT if how != "good"),
        *((f"{how}, sft, then grpo", "grpo") for how in TAUGHT),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
