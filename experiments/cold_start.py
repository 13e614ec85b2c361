"""Does RL reach a higher accuracy from a base that is first fine-tuned on reasoning?

SFT on some reasoned answers, then GRPO, compared with GRPO from the base and with SFT alone.

rlvid grid experiments/cold_start.py --jobs 2
"""

from rlvid.grids import Grid

GRID = Grid(
    name="cold_start",
    question="Does RL reach a higher accuracy from a base that is first fine-tuned on reasoning?",
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
