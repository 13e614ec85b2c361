"""Does entropy in two stages, first up and then down, help against wrong labels?

The method is that of arXiv:2511.07738, after third-party notes: there it gains under label noise, also where all labels
are wrong. A gain there is learning without labels, from form or self-confidence. So the random reward is trained on,
too, with and without the two stages, and the format reward alone, which all arms have.

Named before any run:

- Primary endpoint: accuracy on L1, L2 and L3 together.
- Comparisons, in each of two cells, symmetric noise at 40 % and clean labels: two stages, minimize only, maximize only
  and reversed (down, then up), each with GRPO, and two stages with reversed. Besides, what noise costs GRPO.
- The random reward with GRPO is the negative control: it must not be better than format only. With two stages it is
  compared with GRPO on the random reward: what the stages gain there, they do not gain from labels.
- Margin of equivalence: 3 points.

The coefficients are ours, 0.01, and the switch at 80 % of the steps is from these notes; neither was tuned here. All
arms have 60 steps with 12 prompts and no KL. Each level is asked its first 200 questions; --set eval.limit=0 asks all.

rlvid grid experiments/noise_entropy.py --until decided --max-seeds 4
"""

from rlvid.grids import Grid, Settings

C = 0.01
CLEAN, NOISY = "clean", "symmetric 40 %"
NOISE: dict[str, Settings] = {CLEAN: {}, NOISY: {"noise.kind": "symmetric", "noise.rate": 0.4}}


def stages(first: float, second: float, switch: float = 0.8) -> Settings:
    """Return the settings of two stages with these coefficients of the entropy."""
    return {
        "algorithm": "two_stage_entropy",
        "algorithm.beta": 0.0,
        "algorithm.first_coef": first,
        "algorithm.second_coef": second,
        "algorithm.switch": switch,
    }


ALGORITHMS: dict[str, Settings] = {
    "grpo": {},
    "two stages": stages(C, -C),
    "minimize only": stages(0.0, -C, switch=0.0),
    "maximize only": stages(C, 0.0, switch=1.0),
    "reversed": stages(-C, C),
}
RANDOM: Settings = {"rewards.random": 1.0, "rewards.accuracy": 0.0}

GRID = Grid(
    name="noise_entropy",
    question="Does entropy in two stages, first up and then down, help against wrong labels?",
    axes={"algorithm": ALGORITHMS, "noise": NOISE},
    arms={
        "base": {"train.max_steps": 0},
        "format only": {"rewards.accuracy": 0.0},
        "random reward, grpo": RANDOM,
        "random reward, two stages": {**stages(C, -C), **RANDOM},
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="base",
    comparisons=(
        *((f"{name}, {noise}", f"grpo, {noise}") for noise in NOISE for name in ALGORITHMS if name != "grpo"),
        *((f"two stages, {noise}", f"reversed, {noise}") for noise in NOISE),
        (f"grpo, {NOISY}", f"grpo, {CLEAN}"),
        ("random reward, grpo", "format only"),
        ("random reward, two stages", "random reward, grpo"),
    ),
    negative_controls=(("random reward, grpo", "format only"),),
    equivalence_margin=0.03,
    settings={
        "train.max_steps": 60,
        "train.prompts_per_step": 12,
        "eval.limit": 200,
        "eval.transfer": [],
    },
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
