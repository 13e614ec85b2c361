"""Corrections that correct nothing on the configured mix, found before the first step.

Verdicts that a verifier gets wrong at constant rates are an affine image of the right ones: group z-scores cancel the
correction, and other group baselines leave its gain. An algorithm that corrects names its `twin`, the same without the
correction; here both give credit to every pattern of verdicts that a group can have, next to some patterns of the
other rewards. Where the credit is the same up to one factor, so is the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.errors import UserError
from rlvid.types import Batch, Step

CLOSE = 1e-3  # of the largest credit: what guards a division may differ


def noop_warning(algorithm: Algorithm, mix: Mapping[str, float], generations: int) -> str | None:
    """One line, if the algorithm's credit on this mix is its twin's; UserError if it cannot work on this mix."""
    twin: Algorithm | None = getattr(algorithm, "twin", None)
    if twin is None or (gain := credit_ratio(algorithm, twin, mix, generations)) is None:
        return None
    same = (
        f"algorithm {algorithm_name(algorithm)!r} is a no-op here: "
        f"whatever the verdicts, its credit is that of {algorithm_name(twin)!r}"
    )
    if math.isclose(gain, 1, rel_tol=CLOSE):
        return same
    size = "the 1 / J that is counted" if getattr(algorithm, "estimate", False) else f"{gain:.3g}"
    pulls = " and ".join(key for key in ("beta", "entropy_coef") if getattr(algorithm, key))
    return f"{same} times {size}, as from a larger learning rate" + (f" and a smaller {pulls}" if pulls else "")


def credit_ratio(algorithm: Any, twin: Algorithm, mix: Mapping[str, float], generations: int) -> float | None:
    """How many times the twin's credit the algorithm's is, whatever the verdicts; None where that varies."""
    step = enumerate_verdicts(algorithm.outcome, mix, generations)
    try:
        algorithm.observe(step)  # rates that are counted have now been counted, on coin flips
        ours, theirs = algorithm.credit(step).advantages, twin.credit(step).advantages
    except ValueError as error:
        raise UserError(f"algorithm {algorithm_name(algorithm)!r}: {error}") from error
    gain = ((ours * theirs).sum() / theirs.square().sum()).item()
    return gain if (ours - gain * theirs).abs().max() <= CLOSE * ours.abs().max() else None


def enumerate_verdicts(outcome: str, mix: Mapping[str, float], generations: int) -> Step:
    """A step of groups with every pattern of verdicts, or 1024 at random, each with 3 patterns of the other rewards."""
    random = torch.Generator().manual_seed(0)
    if generations <= 10:
        patterns = torch.tensor(list(product((0.0, 1.0), repeat=generations)), dtype=torch.float64)
    else:
        patterns = torch.randint(2, (1024, generations), generator=random).double()
    verdicts = patterns.repeat(3, 1)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    shape, rows = verdicts.shape, verdicts.numel()
    nothing, letters = torch.zeros(rows, 1), (drawn(*shape) * 4).long().tolist()
    return Step(
        columns={reward: verdicts if reward == outcome else drawn(*shape) for reward in mix},
        reward_weights=mix,
        batch=Batch(
            torch.ones(rows, 1), nothing, nothing,
            sampled_logps=-drawn(rows, 1).float(), ref_logps=-drawn(rows, 1).float(), old_values=drawn(rows, 1).float(),
        ),
        ids=[str(i) for i in range(shape[0])],
        labels=["ABCD"[i % 4] for i in range(shape[0])],
        answers=[["ABCD"[letter] for letter in row] for row in letters],
        finished=torch.ones(shape, dtype=torch.bool),
    )  # fmt: skip


def algorithm_name(algorithm: Algorithm) -> str:
    """As a config has it: the file that the algorithm is in."""
    return type(algorithm).__module__.rpartition(".")[2]
