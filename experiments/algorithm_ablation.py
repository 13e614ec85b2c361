"""Which algorithm learns most from the same prompts and the same random numbers?

All RL arms have the same prompts, 40 steps of them; SFT has 40 steps, too. All have the preset's learning rate, which
was not chosen for 40 steps, nor for each arm. `rlvid tune` chooses it on the level dev, from two candidates for each
arm; then name its file as Grid(tuned=...). Arms differ in the number of updates: "gspo" makes four per batch and "grpo,
2 iterations" two; the others make one. The primary endpoint is accuracy on all levels, the first 400 questions of each;
--set eval.limit=0 asks all.

rlvid tune experiments/algorithm_ablation.py --jobs 2       # two learning rates for each arm, on dev
rlvid grid experiments/algorithm_ablation.py --jobs 2 --until decided --max-seeds 5
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
    settings={"train.max_steps": 40, "eval.limit": 400},
    tune={"train.learning_rate": (1e-4, 3e-4)},
    comparisons=(("grpo", "base"), ("sft", "grpo"), *((name, "grpo") for name in FAMILY)),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
