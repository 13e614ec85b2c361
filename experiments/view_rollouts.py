"""Do completions under altered views of the clip make a policy look where a habit pays?

The condition "glancing", as in grounding.py and visual_credit.py: in the training world the answer is the first step of
the recipe in 7 of 10 questions, on L2 and L3 in a quarter, and the base mostly answers so. There, rewards that read the
outcome alone keep the habit, and narrations at weight 3 undo it (experiments/README.md). Methods that sample part of a
group under noise or windows of the clip read the outcome alone, too, but change what a group contains: where noise
hides what the answer needs, looking and guessing earn different rewards.

Named before any run:

- Primary endpoint: accuracy on L2 and L3 together. Secondary: view sensitivity, the share of questions that are
  answered right, and wrong with shuffled frames (`grounding_counterfactual`); and the told moves (`grounding_moves`).
- Comparisons: every method with "grpo"; "noisy_rollout" also with "no noise"; "pa_grpo" also with "narrations 3".
- "grpo" samples as many completions of each prompt as every method, 8, all under the clip itself: a method's gain is
  not that of more samples.
- "narrations 3" is the positive control: it must be better than "grpo". "no noise" is the negative control: all of
  noisy_rollout, its entropy bonus and its mean over tokens included, but no completion under noise. It must not be
  better.
- "pa_grpo" pays the narrations of "narrations 3" at the tokens of the thought alone, and the outcome elsewhere.
- Margin of equivalence: 5 points, as in visual_credit.py: a third of the effect at stake in grounding.py.
- Whether the views act is read from the training metrics `views/reward` and `views/reward_clean`, and for strive from
  `views/variance_between`; if noise costs no reward, equivalence says little about noise that does.

`cora` is left out: it splits off rewards for consistency, and here nothing is inconsistent. No arm has a KL. All have
the same prompts: 60 steps with 12 of them. Two seeds. Settings of the methods are their defaults, and
learning rates that of the preset; nothing is tuned. Each level is asked its first 200 questions; --set eval.limit=0
asks all.

rlvid grid experiments/view_rollouts.py
"""

from experiments import grounding
from rlvid.grids import Grid, Settings

CONTROL = "grpo"
MEASURES: Settings = {
    "eval.rewards.grounding_moves.weight": 1.0,
    "eval.rewards.grounding_counterfactual.view": "shuffled",
}
NARRATIONS: Settings = {"rewards.grounding_narrations": 3.0}
METHODS: dict[str, Settings] = {
    "no noise": {"algorithm": "noisy_rollout", "algorithm.noisy_share": 0.0},
    "noisy_rollout": {"algorithm": "noisy_rollout"},
    "noisy_grpo": {"algorithm": "noisy_grpo", "algorithm.beta": 0.0},
    "strive": {"algorithm": "strive", "algorithm.beta": 0.0},
    "narrations 3": NARRATIONS,
    "pa_grpo": {"algorithm": "pa_grpo", "algorithm.tag": "think", "algorithm.beta": 0.0, **NARRATIONS},
}

GRID = Grid(
    name="view_rollouts",
    question="Do completions under altered views of the clip make a policy look where a habit pays?",
    arms={
        "base": {"train.max_steps": 0, **MEASURES},
        CONTROL: MEASURES,
        **{name: {**settings, **MEASURES} for name, settings in METHODS.items()},
    },
    unseeded=("base",),
    seeds=(0, 1),
    control=CONTROL,
    comparisons=(
        (CONTROL, "base"),
        *((name, CONTROL) for name in METHODS),
        ("noisy_rollout", "no noise"),
        ("pa_grpo", "narrations 3"),
    ),
    positive_controls=(("narrations 3", CONTROL),),
    negative_controls=(("no noise", CONTROL),),
    equivalence_margin=0.05,
    settings=grounding.GRID.settings,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
