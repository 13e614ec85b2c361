"""Does credit for tokens that depend on the video change what a base learns that looks already?

The condition "plain" (`rlvid list conditions`): the base tells what it saw and answers from it. It is the
counterpart of visual_credit.py, whose base answers by habit, which no run with such a method left: where nothing has to
be mended, a method should cost nothing.

Named before any run:

- Primary endpoint: accuracy on all levels. Secondary: view sensitivity, the share of questions that are answered
  right, and wrong with shuffled frames (`grounding_counterfactual`); and the told moves (`grounding_moves`).
- Comparisons: every method with "grpo"; "video_ktr" also with "random selection", "vppo" and "pgpo" also with "dapo".
- "grpo" over the base is the positive control: the runs must be long enough to learn. "random selection" is the
  negative control: it must not be better.
- Margin of equivalence: 5 points, as in visual_credit.py.

The arms are those of visual_credit.py, without "narrations 3", in the world without a skew. Each level is asked its
first 200 questions; --set eval.limit=0 asks all.

The first run, of seeds 0 and 1, left the positive control undecided. Named before the second run, 2026-11-29: new seeds
from 10 on, added until decided, six at most; the same endpoint, comparisons, controls and margin.

rlvid grid experiments/visual_credit_plain.py --until decided --max-seeds 6 --margin 5
"""

from dataclasses import replace

from experiments import visual_credit

CONTROL = visual_credit.CONTROL

GRID = replace(
    visual_credit.GRID,
    name="visual_credit_plain",
    question="Does credit for tokens that depend on the video change what a base learns that looks already?",
    arms={arm: settings for arm, settings in visual_credit.GRID.arms.items() if arm != "narrations 3"},
    seeds=(10, 11),
    comparisons=tuple(pair for pair in visual_credit.GRID.comparisons if "narrations 3" not in pair),
    positive_controls=((CONTROL, "base"),),
    settings={**visual_credit.GRID.settings, "model": "nano", "data": "kitchen", "eval.splits": ["L1", "L2", "L3"]},
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
