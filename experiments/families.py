"""Does an algorithm's verdict carry over from one model family to another?

The same arms with the same prompts and random numbers for the embedded models of three families, which were pretrained
by one script on the same lessons: Qwen2-VL, Qwen2.5-VL and Qwen3-VL. They differ in how a video is written and placed
and in their vision towers, and they start from other accuracies. So the gain of each arm is compared within its family,
and the gains of two families by interactions: grpo over base, and sft and dr_grpo over grpo. A verdict carries over if
it is the same in each family and no interaction is certain.

Named before the first run: the primary endpoint is accuracy on all levels, the first 300 questions of each; a gain is
the same in two families if it is certainly less than 5 points apart. The random reward is the negative control. All
arms have the preset's learning rate and 40 steps; neither was chosen for a family or an arm. A visual token has 32
pixels a side for Qwen3-VL and 28 for the others, so its frames are 64x64 and theirs 56x56, with equally many tokens.

rlvid grid experiments/families.py --jobs 2
"""

from rlvid.grids import Grid

FAMILIES = {"Qwen2-VL": "nano", "Qwen2.5-VL": "nano/qwen2_5_vl", "Qwen3-VL": "nano/qwen3_vl"}
FIRST, *OTHERS = FAMILIES
GAINS = (("grpo", "base"), ("sft", "grpo"), ("dr_grpo", "grpo"))  # arm, what it is compared with
RANDOM = ("random reward", "base")

GRID = Grid(
    name="families",
    question="Does an algorithm's verdict carry over from one model family to another?",
    axes={
        "algorithm": {
            "base": {"train.max_steps": 0},
            "sft": {"preset": "{preset}_sft"},
            "grpo": {},
            "dr_grpo": {"algorithm": "dr_grpo"},
            "random reward": {"rewards.random": 1.0, "rewards.accuracy": 0.0, "rewards.format": 0.0},
        },
        "family": {family: {"model": model} for family, model in FAMILIES.items()},
    },
    unseeded=tuple(f"base, {family}" for family in FAMILIES),
    seeds=(0, 1),
    control=f"base, {FIRST}",
    settings={"train.max_steps": 40, "eval.limit": 300, "eval.transfer": []},
    equivalence_margin=0.05,
    comparisons=tuple(
        (f"{arm}, {family}", f"{other}, {family}") for family in FAMILIES for arm, other in (*GAINS, RANDOM)
    ),
    interactions=tuple(
        (f"{arm}, {FIRST}", f"{other}, {FIRST}", f"{arm}, {family}", f"{other}, {family}")
        for family in OTHERS
        for arm, other in GAINS
    ),
    negative_controls=tuple((f"random reward, {family}", f"base, {family}") for family in FAMILIES),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
