"""Which algorithm learns most from the same prompts and the same random numbers?

All RL arms have the same prompts, 40 steps of them; SFT has 40 steps, too. The learning rate of each arm was chosen on
the level dev, from two candidates with one run each (tuned/algorithm_ablation-nano.toml). Arms differ in the number of
updates: "gspo" makes four per batch and "grpo, 2 iterations" two; the others make one.

Named before the first run: the primary endpoint is accuracy on all levels, the first 400 questions of each (--set
eval.limit=0 asks all). The effect at stake is what GRPO won over the base in the demo, 8 points.

rlvid tune experiments/algorithm_ablation.py --jobs 2       # chose the learning rates
rlvid grid experiments/algorithm_ablation.py --jobs 2 --until decided --max-seeds 5
"""

from pathlib import Path

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
    tuned=Path(__file__).parent / "tuned/algorithm_ablation-{preset}.toml",
    comparisons=(("grpo", "base"), ("sft", "grpo"), *((name, "grpo") for name in FAMILY)),
    effect_at_stake=0.08,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
