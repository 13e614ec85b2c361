"""The demo: do SFT and GRPO improve the base at each level, and what do wrong labels cost them?

rlvid grid experiments/quickstart.py --jobs 2      # or: make demo
"""

from rlvid.grids import Grid

GRID = Grid(
    name="quickstart",
    question="Do SFT and GRPO improve the base at each level, and what do wrong labels cost them?",
    axes={
        "algorithm": {
            "sft": {"preset": "{preset}_sft"},
            "grpo": {},
        },
        "labels": {
            "clean": {},
            "30 % flipped": {"noise.kind": "symmetric", "noise.rate": 0.3},
        },
    },
    arms={"base": {"train.max_steps": 0}},
    unseeded=("base",),
    seeds=(0, 1),
    control="base",
    comparisons=(
        ("sft, clean", "base"),
        ("grpo, clean", "base"),
        ("grpo, clean", "sft, clean"),
        ("sft, 30 % flipped", "sft, clean"),
        ("grpo, 30 % flipped", "grpo, clean"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
