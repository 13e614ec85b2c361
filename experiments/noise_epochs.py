"""Do corrections win back what wrong labels cost GRPO, on prompts that recur?

Each run trains on 288 of the prompts for 5 epochs (24 prompts a step, 60 steps), so that a method can learn from the
answers that it saw before, as `soft_label` does. Runs with the same seed have the same prompts and wrong labels. The
oracle leaves out the samples with wrong labels, so it goes 8 to 9 times through those that remain. Both noises leave
J of about .47: labels that are wrong for the whole group, which `s_grpo` and `soft_label` are told, and errors drawn
anew for each completion, which is what `s_grpo` was made for.

Named before the first run: the primary endpoint is accuracy on all levels together, L1, L2 and L3 with 1,000 questions
each. The family are the five comparisons below. The effect at stake is what the oracle won back in an earlier grid, 3.6
points, and the margin of equivalence is a third of it. All arms have the preset's learning rate.

rlvid grid experiments/noise_epochs.py --until decided
"""

from rlvid.grids import Grid, Settings

LABELS: Settings = {"noise.kind": "symmetric", "noise.rate": 0.4}
VERDICTS: Settings = {
    "noise.kind": "verifier",
    "noise.fresh": True,
    "noise.false_positives": 0.133,
    "noise.false_negatives": 0.4,
}
NO_KL: Settings = {"algorithm.beta": 0.0}  # as in the preset, which an arm with `algorithm` would otherwise lose
S_GRPO: Settings = {"algorithm": "s_grpo", **NO_KL}

GRID = Grid(
    name="noise_epochs",
    question="Do corrections win back what wrong labels cost GRPO, on prompts that recur?",
    settings={"train.max_steps": 60, "train.data_fraction": 0.24, "eval.transfer": []},
    arms={
        "base": {"train.max_steps": 0},
        "grpo, clean": {},
        "grpo, wrong labels": LABELS,
        "oracle, wrong labels": {**LABELS, "noise.drop": True},
        "s_grpo, wrong labels": {**LABELS, **S_GRPO, "algorithm.wrong_labels": 0.4},
        "soft_label, wrong labels": {**LABELS, "algorithm": "soft_label", **NO_KL, "algorithm.eta": 0.4},
        "grpo, wrong verdicts": VERDICTS,
        "s_grpo, wrong verdicts": {
            **VERDICTS,
            **S_GRPO,
            "algorithm.false_positives": 0.133,
            "algorithm.false_negatives": 0.4,
        },
    },
    unseeded=("base",),
    seeds=(0, 1, 2),
    control="base",
    comparisons=(
        ("grpo, wrong labels", "grpo, clean"),
        ("oracle, wrong labels", "grpo, wrong labels"),
        ("s_grpo, wrong labels", "grpo, wrong labels"),
        ("soft_label, wrong labels", "grpo, wrong labels"),
        ("s_grpo, wrong verdicts", "grpo, wrong verdicts"),
    ),
    effect_at_stake=0.036,
)

if __name__ == "__main__":
    raise SystemExit(GRID.main())
