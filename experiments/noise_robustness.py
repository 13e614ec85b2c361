"""How much accuracy do wrong labels cost, and does it depend on the algorithm?

Labels are flipped by a hash of the sample's id: those wrong at 10 % are wrong at 20 %, too, and for every algorithm.

rlvid grid experiments/noise_robustness.py --jobs 2
"""

from rlvid.study.grid import Grid

RATES = (0.1, 0.2, 0.3, 0.4)

GRID = Grid(
    name="noise_robustness",
    question="How much accuracy do wrong labels cost, and does it depend on the algorithm?",
    axes={
        "algorithm": {
            "sft": {"preset": "{preset}_sft"},
            "grpo": {},
        },
        "labels": {
            "clean": {},
            **{f"{rate:.0%} flipped": {"noise.kind": "symmetric", "noise.rate": rate} for rate in RATES},
        },
    },
    arms={"base": {"train.steps": 0}},
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="base",
    comparisons=tuple(
        (f"{algorithm}, {rate:.0%} flipped", f"{algorithm}, clean") for algorithm in ("sft", "grpo") for rate in RATES
    ),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
