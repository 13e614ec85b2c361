"""Find noise corrections that correct nothing on the configured reward mix, or other errors, before the first step.

The verdicts of a verifier that errs at constant rates are an affine function of the right ones. Group z-scores cancel a
correction of them, and other group baselines leave a constant factor of it. An algorithm with a correction names its
`twin`, the same algorithm without the correction. Here both give credit to every pattern of verdicts that a group can
have, with random patterns of the other rewards. If the two credits are equal up to one factor, so are the two runs:
AdamW divides each gradient by its running size. Only terms that do not have the factor, the KL and the entropy bonus,
and a gradient that `train.max_grad_norm` clips in one run and not in the other, make a difference.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.data.benchmark import EMBEDDED
from rlvid.errors import UserError
from rlvid.noise.base import Noise
from rlvid.noise.verdicts import VerdictNoise
from rlvid.types import Batch, Step

TOLERANCE = 1e-3  # relative to the largest credit: constants that guard a division may differ that much
ALL_PATTERNS_UP_TO = 10  # completions per group; beyond, patterns are drawn at random
RANDOM_PATTERNS = 1024
REPEATS = 3  # of each pattern of verdicts, with other random rewards


def noop_warning(algorithm: Algorithm, mix: Mapping[str, float], num_generations: int) -> str | None:
    """A warning if the algorithm's credit on this mix is that of its twin; None if it is not, or without a twin.

    Raises UserError if the algorithm cannot work on this mix.
    """
    twin: Algorithm | None = getattr(algorithm, "twin", None)
    if twin is None or (factor := credit_ratio(algorithm, twin, mix, num_generations)) is None:
        return None
    same = (
        f"algorithm {algorithm_name(algorithm)!r} is a no-op here: "
        f"whatever the verdicts, its credit is that of {algorithm_name(twin)!r}"
    )
    if math.isclose(factor, 1, rel_tol=TOLERANCE):
        return same
    size = "the counted 1 / J" if getattr(algorithm, "estimate", False) else f"{factor:.3g}"
    regularizers = " and ".join(key for key in ("beta", "entropy_coef") if getattr(algorithm, key))
    gain = f"{same} times {size}: AdamW cancels a constant gain of the gradient unless it is clipped"
    change = "lowers" if factor > 1 else "raises"
    return f"{gain}; it only {change} the relative weight of {regularizers}" if regularizers else gain


def check_rewards(algorithm: Algorithm, weights: Mapping[str, float]) -> None:
    """Raise UserError if the algorithm says that what sets it apart has no effect on a mix, name -> weight."""
    try:
        algorithm.check_rewards(weights)
    except ValueError as error:
        raise UserError(f"algorithm {algorithm_name(algorithm)!r}: {error}") from error


def refuse_idle_correction(algorithm: Algorithm, noise_kind: str, data: str) -> None:
    """Raise UserError for a correction of errors where there are none: no noise, and labels that are right.

    The labels of the embedded benchmarks are right by construction; those of other data may be noisy by themselves.
    """
    rates = {name: getattr(algorithm, name, 0) for name in ("false_positives", "false_negatives")}
    given = [f"algorithm.{name} = {rate:g}" for name, rate in rates.items() if rate]
    if given and not noise_kind and data in EMBEDDED:
        raise UserError(
            f"{' and '.join(given)} correct errors that {data!r} does not have without noise: set noise.kind "
            f"(`rlvid list noise`), or choose the algorithm without the correction"
        )


def channel_warning(algorithm: Algorithm, noise: Noise, kind: str) -> str | None:
    """A warning if the algorithm corrects another kind of errors than the noise of this `kind` makes; else None.

    Errors that are independent for each completion and errors that are the same for a whole group need different
    corrections. None without noise in the verdicts, and for algorithms without an assumption about them.
    """
    assumed = getattr(algorithm, "assumed_errors", None)
    if assumed is None or noise.noisy_reward != getattr(algorithm, "outcome", ""):
        return None
    name = algorithm_name(algorithm)
    if assumed == "verdicts" and noise.errs_for_whole_groups:
        fix = "set algorithm.wrong_labels" if hasattr(algorithm, "wrong_labels") else "use s_grpo with wrong_labels"
        return (
            f"algorithm {name!r} corrects verdicts that err independently, but noise {kind!r} errs for whole groups: "
            f"{fix}, or use soft_label, or noise.kind = 'verifier' with noise.fresh"
        )
    if assumed == "labels" and not noise.errs_for_whole_groups:
        return (
            f"algorithm {name!r} with wrong_labels corrects labels that are wrong for whole groups, but noise {kind!r} "
            "errs for each completion: set false_positives and false_negatives instead"
        )
    return None


def noise_warning(noise: Noise, kind: str, changed: int, split: str, evidence: Collection[str]) -> str | None:
    """A warning if the noise of this `kind` has no effect on a run; else None.

    Args:
        noise: the noise.
        kind: its name; "" without noise.
        changed: the number of training samples that it changed or left out.
        split: the training split.
        evidence: what the rewards need.
    """
    if not kind or isinstance(noise, VerdictNoise):
        return None
    if not changed:
        hint = "" if split == "train_cot" else "; demonstrations are those of the split train_cot, which sft reads"
        hint = hint if kind == "reasoning" else "; see its fields in `rlvid list noise`"
        return f"noise {kind!r} changes none of the training samples, so that this run is one on clean data{hint}"
    if kind == "narrations" and not {"narrations"} & {need.partition(":")[0] for need in evidence}:
        return "noise 'narrations' has no effect: no reward of this run reads narrations (`rlvid list rewards`)"
    return None


def credit_ratio(algorithm: Any, twin: Algorithm, mix: Mapping[str, float], num_generations: int) -> float | None:
    """The factor between the algorithm's credit and its twin's, or None if it depends on the verdicts."""
    options = min(4, getattr(algorithm, "options", 4))
    step = enumerate_verdicts(algorithm.outcome, mix, num_generations, options)
    try:
        algorithm.observe(step)  # algorithms that count rates have now counted them
        credit, twin_credit = algorithm.credit(step).advantages, twin.credit(step).advantages
    except ValueError as error:
        raise UserError(f"algorithm {algorithm_name(algorithm)!r}: {error}") from error
    factor = ((credit * twin_credit).sum() / twin_credit.square().sum()).item()
    difference = (credit - factor * twin_credit).abs().max()
    return factor if difference <= TOLERANCE * credit.abs().max() else None


def enumerate_verdicts(outcome: str, mix: Mapping[str, float], num_generations: int, options: int = 4) -> Step:
    """A step whose groups have every pattern of verdicts, or 1,024 random ones, each with 3 sets of other rewards."""
    generator = torch.Generator().manual_seed(0)
    if num_generations <= ALL_PATTERNS_UP_TO:
        patterns = torch.tensor(list(product((0.0, 1.0), repeat=num_generations)), dtype=torch.float64)
    else:
        patterns = torch.randint(2, (RANDOM_PATTERNS, num_generations), generator=generator).double()
    verdicts = patterns.repeat(REPEATS, 1)  # (P, G)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    shape, rows = verdicts.shape, verdicts.numel()
    labels = torch.arange(shape[0])[:, None] % options
    is_guess = uniform(*shape) < torch.where(verdicts > 0, 0.3, 0.9)  # what was accepted mostly names the label
    zeros, letters = torch.zeros(rows, 1), torch.where(is_guess, (uniform(*shape) * options).long(), labels).tolist()
    return Step(
        columns={reward: verdicts if reward == outcome else uniform(*shape) for reward in mix},
        reward_weights=mix,
        batch=Batch(
            torch.ones(rows, 1),
            zeros,
            zeros,
            sampled_logps=-uniform(rows, 1).float(),
            ref_logps=-uniform(rows, 1).float(),
            old_values=uniform(rows, 1).float(),
        ),
        ids=[str(i) for i in range(shape[0])],
        labels=["ABCD"[label] for label in labels.flatten().tolist()],
        answers=[["ABCD"[letter] for letter in row] for row in letters],
        finished=torch.ones(shape, dtype=torch.bool),
    )


def algorithm_name(algorithm: Algorithm) -> str:
    """The name of an algorithm in a config, that of its module; of one from another folder the name of its class."""
    folder, _, name = type(algorithm).__module__.rpartition(".")
    return name if folder == "algorithms" else type(algorithm).__name__
