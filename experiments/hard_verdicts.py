"""Does a verifier that pays a habit harm GRPO more than one that errs at random as often?

The base of the condition "hard_labels", with right labels and a verifier whose errors are drawn anew for each
completion. Under "grpo" it pays 70 % of the wrong answers that name the first step of the recipe, the base's habit, and
no other wrong one, and rejects 13 % of the right ones. On the base's replies these are 41 % false positives and 13 %
false negatives, J = .46. Under "grpo, at random" any wrong answer is paid with these rates.

Computed before the first run, from 300 groups that the base sampled: GRPO's advantages favour the habit under the rule,
and looking under errors at random. Under the rule the two corrections, which are told both rates as counted on the
base, favour the habit too: `s_grpo` less than GRPO, `noise_corrected_grpo` more.

Named before the first run: the primary endpoint is accuracy on all levels, the first 200 questions of each of L1, L2
and L3. The family are the five comparisons below. The effect at stake is 5 points, the margin of equivalence 3. The
positive control has the right verdicts, the negative control a random reward. Settings are those of `hard_labels.py`.

rlvid grid experiments/hard_verdicts.py --until decided --max-seeds 4
"""

from rlvid.grids import Grid, Settings

RATES: Settings = {"noise.kind": "verifier", "noise.fresh": True, "noise.false_negatives": 0.13}
RULE: Settings = {**RATES, "noise.false_positives": 0.7, "noise.first_named": True}
RANDOM: Settings = {**RATES, "noise.false_positives": 0.41}
COUNTED: Settings = {"algorithm.beta": 0.0, "algorithm.false_positives": 0.41, "algorithm.false_negatives": 0.13}

GRID = Grid(
    name="hard_verdicts",
    question="Does a verifier that pays a habit harm GRPO more than one that errs at random as often?",
    settings={
        "model": "nano/glancing",
        "data": "kitchen",
        "train.max_steps": 40,
        "train.prompts_per_step": 12,
        "train.data_fraction": 0.08,
        "train.learning_rate": 1.5e-4,
        "eval.limit": 200,
        "eval.transfer": [],
    },
    arms={
        "base": {"train.max_steps": 0},
        "grpo": RULE,
        "grpo, right verdicts": {},
        "grpo, at random": RANDOM,
        "random reward": {"rewards.random": 1.0, "rewards.accuracy": 0.0},
        "s_grpo": {**RULE, "algorithm": "s_grpo", **COUNTED},
        "noise_corrected_grpo": {**RULE, "algorithm": "noise_corrected_grpo", **COUNTED},
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="grpo",
    comparisons=(
        ("grpo, right verdicts", "grpo"),
        ("grpo, at random", "grpo"),
        ("random reward", "grpo"),
        ("s_grpo", "grpo"),
        ("noise_corrected_grpo", "grpo"),
    ),
    positive_controls=(("grpo, right verdicts", "grpo"),),
    negative_controls=(("random reward", "grpo"),),
    effect_at_stake=0.05,
    equivalence_margin=0.03,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
