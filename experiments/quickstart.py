"""The demo: do SFT and GRPO improve the base at each level, and what do wrong labels cost them?

Each level is asked the first 400 of its 1,000 questions, so that the demo takes minutes; --set eval.limit=0 asks all.
Learning rates were chosen on the level dev, three candidates for each arm (tuned/quickstart-nano.toml); the arms with
wrong labels take the clean arms' choice.

rlvid grid experiments/quickstart.py --jobs 2      # or: make demo
rlvid tune experiments/quickstart.py --jobs 2      # choose the learning rates again
"""

from pathlib import Path

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
    settings={"eval.limit": 400},
    tune={"train.learning_rate": (3e-5, 1e-4, 3e-4)},
    tuned=Path(__file__).parent / "tuned/quickstart-{preset}.toml",
    tune_as={"sft, 30 % flipped": "sft, clean", "grpo, 30 % flipped": "grpo, clean"},
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
