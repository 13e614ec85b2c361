"""Does RL beat SFT at every level and on transfer, and how much data does either need? The paper's table and figures.

There are two SFT arms: one with the steps of its preset, and one with as many steps as it takes to see as many prompts
as GRPO. The transfer benchmark is the preset's, an embedded one; with real data, name the folder of LongVideoBench.

The primary endpoint is accuracy on all levels, the two of the transfer benchmark included; the family are the seven
comparisons below. The effect at stake is what SFT and GRPO gain over the base in the demo, 8 points, and the margin of
equivalence is a third of it. Named before the run of 2026-11-29, except that this text then named L1, L2 and L3 alone.

rlvid grid experiments/paper.py --until decided --max-seeds 5
rlvid grid experiments/paper.py --preset qwen2_vl_7b --set data=SEED-Bench-R1 --set 'eval.transfer=["LongVideoBench"]'
"""

from collections.abc import Mapping

from rlvid.config import load
from rlvid.grids import Grid, Settings

SHARES = ("6 % of data", "25 % of data", "100 % of data")
ALL = SHARES[-1]


def as_many_prompts(levels: Mapping[str, str]) -> Settings:
    """Return the settings for SFT on as many prompts as GRPO sees."""
    grpo, sft = load(levels["preset"]).train, load(f"{levels['preset']}_sft").train
    steps = grpo.max_steps * grpo.prompts_per_step // sft.prompts_per_step
    return {"preset": "{preset}_sft", "train.max_steps": steps}


GRID = Grid(
    name="paper",
    question="Does RL beat SFT at every level and on transfer, and how much data does either need?",
    axes={
        "algorithm": {"sft": {"preset": "{preset}_sft"}, "sft, as many prompts": as_many_prompts, "grpo": {}},
        "data": {share: {"train.data_fraction": int(share.split()[0]) / 100} for share in SHARES},
    },
    arms={"base": {"train.max_steps": 0}},
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="base",
    comparisons=(
        *((f"{method}, {ALL}", "base") for method in ("sft", "sft, as many prompts", "grpo")),
        *((f"grpo, {share}", f"sft, as many prompts, {share}") for share in reversed(SHARES)),
        (f"grpo, {ALL}", f"sft, {ALL}"),
    ),
    effect_at_stake=0.08,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
