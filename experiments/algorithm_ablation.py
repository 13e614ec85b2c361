"""Which algorithm learns most from the same prompts and the same random numbers?

All RL arms have the same prompts and the learning rate that was chosen for GRPO. They differ in the number of updates:
"gspo" makes four per batch and "grpo, 2 iterations" two; the others make one.

rlvid grid experiments/algorithm_ablation.py --jobs 2
"""

from rlvid.grids import Grid

FAMILY = ("reinforce", "rloo", "reinforce_pp", "dr_grpo", "dapo", "gspo", "cispo", "sapo", "max_rl")

GRID = Grid(
    name="algorithm_ablation",
    question="Which algorithm learns most from the same prompts and the same random numbers?",
    arms={
        "base": {"train.max_steps": 0},
        "sft": {"preset": "{preset}_sft"},
        "grpo": {"algorithm": "grpo", "algorithm.beta": 0.0},
        "grpo, beta 0.04": {"algorithm": "grpo", "algorithm.beta": 0.04},
        "grpo, 2 iterations": {"algorithm": "grpo", "algorithm.beta": 0.0, "algorithm.num_iterations": 2},
        **{name: {"algorithm": name} for name in FAMILY},
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="grpo",
    comparisons=(("grpo", "base"), ("sft", "grpo"), *((name, "grpo") for name in FAMILY)),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
