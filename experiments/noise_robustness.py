"""How much accuracy does each algorithm lose to wrong labels and wrong verifiers?

The comparisons are paired by seed: all algorithms see the same prompts with the same wrong labels, and labels that are
wrong at 20 % are also wrong at 40 %. Corrections get the true error rates of their cell. Youden's J is the share of the
clean gradient that the noise leaves. Within each cell, the report compares every algorithm with GRPO.

Known limits: corrections with error rates assume that each verdict errs independently, as in "fresh errors". A wrong
label (symmetric, confusable) is wrong for the whole group; "s_grpo, labels" and "backward, labels" weigh groups by the
probability that their label is right. With `accuracy` alone, `backward` multiplies the gradient by 1 / J, and AdamW
cancels that; beside `format`, as here, it lowers that reward's relative weight.

rlvid grid experiments/noise_robustness.py --jobs 2
"""

from collections.abc import Callable, Mapping
from functools import partial

from rlvid.grids import Grid, Settings

CLEAN = "clean"
NOISE: dict[str, Settings] = {
    CLEAN: {},
    "symmetric 20 %": {"noise.kind": "symmetric", "noise.rate": 0.2},
    "symmetric 40 %": {"noise.kind": "symmetric", "noise.rate": 0.4},
    "confusable 20 %": {"noise.kind": "confusable", "noise.rate": 0.2},
    "false positives 20 %": {"noise.kind": "verifier", "noise.false_positives": 0.2},
    "false negatives 20 %": {"noise.kind": "verifier", "noise.false_negatives": 0.2},
    "fresh errors": {  # as symmetric 40 %, but drawn anew for each completion
        "noise.kind": "verifier",
        "noise.fresh": True,
        "noise.false_positives": 0.133,
        "noise.false_negatives": 0.4,
    },
}


def rates(noise: str) -> tuple[float, float]:
    """Return P(accepted | wrong) and P(rejected | right). A wrong label accepts one of the three wrong options."""
    cell = NOISE[noise]
    flips = cell.get("noise.rate", 0.0)
    return cell.get("noise.false_positives", flips / 3), cell.get("noise.false_negatives", flips)


NO_KL: Settings = {"algorithm.beta": 0.0}  # as in the preset, which an arm with `algorithm` would otherwise lose


def with_true_rates(algorithm: str, twin: str, levels: Mapping[str, str]) -> Settings:
    """Return a correction with the true rates of its cell. The clean cell is the twin's: the two are one run."""
    if levels["noise"] == CLEAN:
        return {"algorithm": twin} if twin != "grpo" else {}
    positives, negatives = rates(levels["noise"])
    fields = {"algorithm.false_positives": positives, "algorithm.false_negatives": negatives}
    if algorithm == "forward":  # does not read it, and refuses it
        del fields["algorithm.false_positives"]
    return {"algorithm": algorithm, **NO_KL, **fields}


def with_label_posterior(algorithm: str, twin: str, levels: Mapping[str, str]) -> Settings | None:
    """Return a correction with the true rate of wrong labels: its twin in the clean cell, None for verifier noise."""
    if levels["noise"] == CLEAN:
        return with_true_rates(algorithm, twin, levels)
    rate = NOISE[levels["noise"]].get("noise.rate")
    return {"algorithm": algorithm, **NO_KL, "algorithm.wrong_labels": rate} if rate else None


def without_wrong_labels(levels: Mapping[str, str]) -> Settings | None:
    """Return an oracle that leaves out the samples with wrong labels, or None for verifier noise."""
    if levels["noise"] == CLEAN:
        return {}
    return {"noise.drop": True} if "noise.rate" in NOISE[levels["noise"]] else None


def clean_only(settings: Settings, levels: Mapping[str, str]) -> Settings | None:
    """Return the settings in the clean cell only, for an arm that reads no labels: it is the same in every cell."""
    return settings if levels["noise"] == CLEAN else None


ALGORITHMS: dict[str, Settings | Callable[[Mapping[str, str]], Settings | None]] = {
    "grpo": {},
    "dr_grpo": {"algorithm": "dr_grpo"},
    "rloo": {"algorithm": "rloo"},
    "ppo": {"algorithm": "ppo", **NO_KL, "algorithm.num_iterations": 2},
    "dpo": {"algorithm": "dpo"},
    "s_grpo": partial(with_true_rates, "s_grpo", "grpo"),
    "noise_corrected_grpo": partial(with_true_rates, "noise_corrected_grpo", "grpo"),
    "backward": partial(with_true_rates, "backward", "dr_grpo"),
    "forward": partial(with_true_rates, "forward", "forward"),
    "s_grpo, labels": partial(with_label_posterior, "s_grpo", "grpo"),
    "backward, labels": partial(with_label_posterior, "backward", "dr_grpo"),
    "olr": {"algorithm": "olr", **NO_KL},
    "oracle": without_wrong_labels,
    "majority vote": partial(clean_only, {"algorithm": "ttrl", **NO_KL}),
    "random reward": partial(clean_only, {"rewards.random": 1.0, "rewards.accuracy": 0.0}),
    "format only": partial(clean_only, {"rewards.accuracy": 0.0}),
}

GRID = Grid(
    name="noise_robustness",
    question="How much accuracy does each algorithm lose to wrong labels and wrong verifiers?",
    axes={"algorithm": ALGORITHMS, "noise": NOISE},
    arms={"base": {"train.max_steps": 0}},
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="base",
    comparisons=tuple((f"grpo, {noise}", f"grpo, {CLEAN}") for noise in NOISE if noise != CLEAN),
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
