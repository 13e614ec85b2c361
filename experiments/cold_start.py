"""Does RL go further from a base that was taught to reason first?

Supervised fine-tuning on a few reasoned answers, then GRPO, against GRPO from the base and against SFT alone.

rlvid grid experiments/cold_start.py --jobs 2
"""

from rlvid.grids import Grid

GRID = Grid(
    name="cold_start",
    question="Does RL go further from a base that was taught to reason first?",
    arms={
        "base": {"train.max_steps": 0},
        "sft": {"preset": "{preset}_sft"},
        "grpo": {},
        "sft, then grpo": {"cold_start.max_steps": 30},
        "a little sft, then grpo": {"cold_start.max_steps": 10},
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="grpo",
    comparisons=(
        ("sft", "base"),
        ("grpo", "base"),
        ("sft, then grpo", "grpo"),
        ("sft, then grpo", "sft"),
        ("a little sft, then grpo", "grpo"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
