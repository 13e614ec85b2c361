"""Which algorithms survive wrong labels and wrong verifiers?

Paired by seed: all algorithms see the same prompts with the same flips, and those wrong at 20 % are wrong at 40 %, too.
What corrects is told the true rates of its cell. Youden's J says how much of the clean gradient a cell leaves; within
each cell the report holds every algorithm against GRPO.

rlvid grid experiments/noise_robustness.py --jobs 2
"""

from collections.abc import Callable, Mapping
from functools import partial

from rlvid.config import load
from rlvid.grids.grid import Grid, Settings

CLEAN = "clean"
NOISE: dict[str, Settings] = {
    CLEAN: {},
    "symmetric 20 %": {"noise.kind": "symmetric", "noise.rate": 0.2},
    "symmetric 40 %": {"noise.kind": "symmetric", "noise.rate": 0.4},
    "confusable 20 %": {"noise.kind": "confusable", "noise.rate": 0.2},
    "false positives 20 %": {"noise.kind": "verifier", "noise.false_positives": 0.2},
    "false negatives 20 %": {"noise.kind": "verifier", "noise.false_negatives": 0.2},
}


def rates(noise: str) -> tuple[float, float]:
    """P(accepted | wrong), P(rejected | right). A flip rejects what is right, and accepts one wrong option in three."""
    cell = NOISE[noise]
    flips = cell.get("noise.rate", 0.0)
    return cell.get("noise.false_positives", flips / 3), cell.get("noise.false_negatives", flips)


FREE: Settings = {"algorithm.beta": 0.0}  # no pull towards the reference, in any arm: GRPO's own default has one


def told(algorithm: str, twin: str, levels: Mapping[str, str]) -> Settings:
    """A correction that knows its cell's rates; where both are 0 it is its twin, and their cells are one run."""
    if levels["noise"] == CLEAN:
        return {"algorithm": twin} if twin != "grpo" else {}
    positives, negatives = rates(levels["noise"])
    fields = {"algorithm.false_positives": positives, "algorithm.false_negatives": negatives}
    return {"algorithm": algorithm, **FREE, **fields}


def faster(levels: Mapping[str, str]) -> Settings:
    """What a correction by a constant amounts to: the learning rate over J."""
    information, rate = 1 - sum(rates(levels["noise"])), load(levels["preset"]).train.learning_rate
    return {"algorithm": "dr_grpo", **({"train.learning_rate": rate / information} if information < 1 else {})}


def cleaned(levels: Mapping[str, str]) -> Settings | None:
    """An oracle that leaves the wrong labels out; it has nothing to say of verifiers."""
    if levels["noise"] == CLEAN:
        return {}
    return {"noise.drop": True} if "noise.rate" in NOISE[levels["noise"]] else None


def deaf(settings: Settings, levels: Mapping[str, str]) -> Settings | None:
    """What reads neither labels nor verdicts is the same in every cell."""
    return settings if levels["noise"] == CLEAN else None


ALGORITHMS: dict[str, Settings | Callable[[Mapping[str, str]], Settings | None]] = {
    "grpo": {},
    "dr_grpo": {"algorithm": "dr_grpo"},
    "rloo": {"algorithm": "rloo"},
    "ppo": {"algorithm": "ppo", **FREE, "algorithm.num_iterations": 2},
    "dpo": {"algorithm": "dpo"},
    "s_grpo": partial(told, "s_grpo", "grpo"),
    "noise_corrected_grpo": partial(told, "noise_corrected_grpo", "grpo"),
    "backward": partial(told, "backward", "dr_grpo"),
    "forward": partial(told, "forward", "forward"),
    "olr": {"algorithm": "olr", **FREE},
    "dr_grpo, lr / J": faster,
    "oracle": cleaned,
    "majority vote": partial(deaf, {"algorithm": "ttrl", **FREE}),
    "random reward": partial(deaf, {"rewards.random": 1.0, "rewards.accuracy": 0.0}),
    "format only": partial(deaf, {"rewards.accuracy": 0.0}),
}

GRID = Grid(
    name="noise_robustness",
    question="Which algorithms survive wrong labels and wrong verifiers?",
    axes={"algorithm": ALGORITHMS, "noise": NOISE},
    arms={"base": {"train.max_steps": 0}},
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="base",
    comparisons=tuple((f"grpo, {noise}", f"grpo, {CLEAN}") for noise in NOISE if noise != CLEAN),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
