"""Which rewards does GRPO need? The paper's final runs used accuracy alone.

rlvid grid experiments/reward_ablation.py --jobs 2
"""

from rlvid.study.grid import Grid

GRID = Grid(
    name="reward_ablation",
    question="Does a format reward help GRPO, and what does it teach on its own?",
    arms={
        "base": {"train.steps": 0},
        "accuracy": {"rewards.format": 0.0},
        "accuracy + format": {},
        "accuracy + partial format": {"rewards.format.partial": True},
        "format": {"rewards.accuracy": 0.0},
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="accuracy",
    comparisons=(
        ("accuracy", "base"),
        ("accuracy + format", "accuracy"),
        ("accuracy + partial format", "accuracy"),
        ("format", "base"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
