"""Compare methods under noise: their accuracies under one noise, and what the noise costs each of them.

Every method is compared with the first one, on all levels together. Each function returns one family of comparisons,
whose intervals hold all together with 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rlvid.study.comparison import Comparison, comparison_row, cost_row, exact_p, within_reach
from rlvid.study.contrasts import SHARE, Family, Result, Weights, difference, difference_of_slopes, interaction
from rlvid.study.noise_response import NoiseCell, NoiseResponse
from rlvid.study.power import ALPHA
from rlvid.study.seed_model import ALL_LEVELS, SeedModel
from rlvid.study.study import Study

SLOPE = "slope over J"

Names = tuple[str, str]  # a method, and a noise or `SLOPE`


def compare_under_noise(study: Study, model: SeedModel, responses: Sequence[NoiseResponse]) -> list[Comparison]:
    """Every method against the first one under the same noise."""
    if not responses:
        return []
    arms = {(response.method, cell.noise): (cell.arm, other.arm) for response, cell, other in _pairs(responses, model)}
    contrasts = {name: difference(*pair) for name, pair in arms.items()}
    results = _results(model, contrasts, study.equivalence_margin)
    rows = []
    for (method, noise), result in results.items():
        p_these_runs = exact_p(study, *arms[method, noise], ALL_LEVELS)
        row = comparison_row(model, result, method, responses[0].method, noise, p_these_runs)
        rows.append(within_reach(study, row, 1.0))
    return rows


def compare_noise_costs(study: Study, model: SeedModel, responses: Sequence[NoiseResponse]) -> list[Comparison]:
    """What noise costs every method, less what it costs the first one: slopes over J, then each noise.

    A slope is accuracy per unit of J; what a noise costs is the accuracy of the clean cell less that of the noisy one.
    Half of the error rate is for slopes, half for single noises.
    """
    if not responses:
        return []
    slopes, noises = _slopes(responses), _interactions(responses, model)
    slopes, noises = ({n: w for n, w in c.items() if model.by_runs(w)} for c in (slopes, noises))
    shares = (SHARE, 1 - SHARE) if slopes and noises else (1.0, 1.0)
    results = _results(model, slopes, None, shares[0] * ALPHA)
    results |= _results(model, noises, study.equivalence_margin, shares[1] * ALPHA)
    first = responses[0].method
    return [
        cost_row(model, result, method, first, condition)
        for response in responses[1:]
        for (method, condition), result in results.items()
        if method == response.method
    ]


def _pairs(responses: Sequence[NoiseResponse], model: SeedModel) -> list[tuple[NoiseResponse, NoiseCell, NoiseCell]]:
    """Each method but the first, its cells, and the first method's cell under the same noise, if both are finished.

    Cells that are one run for both methods are left out.
    """
    reference = {cell.noise: cell for cell in responses[0].cells}
    return [
        (response, cell, other)
        for response in responses[1:]
        for cell in response.cells
        if (other := reference.get(cell.noise)) and {cell.arm, other.arm} <= model.cells.keys()
        if model.by_runs(difference(cell.arm, other.arm))
    ]


def _slopes(responses: Sequence[NoiseResponse]) -> dict[Names, Weights]:
    first = responses[0]
    if not first.measurable:
        return {}
    return {
        (response.method, SLOPE): difference_of_slopes(response.weighted_points, first.weighted_points)
        for response in responses[1:]
        if response.measurable
    }


def _interactions(responses: Sequence[NoiseResponse], model: SeedModel) -> dict[Names, Weights]:
    """What each noise costs a method more than the first one, where both have a finished clean cell."""
    clean = responses[0].clean_cell
    if clean is None or clean.arm not in model.cells:
        return {}
    return {
        (response.method, cell.noise): interaction(own.arm, cell.arm, clean.arm, other.arm)
        for response, cell, other in _pairs(responses, model)
        if not cell.is_clean and (own := response.clean_cell) and own.arm in model.cells
    }


def _results(
    model: SeedModel, contrasts: Mapping[Names, Weights], margin: float | None, alpha: float = ALPHA
) -> dict[Names, Result]:
    """One family on all levels together; p is adjusted so that it is below .05 where the interval excludes 0."""
    names = {str(name): name for name in contrasts}  # with quotes, so that no two are alike
    family = Family(
        model, {str(n): weights for n, weights in contrasts.items()}, margin, alpha, on_all_levels_only=names
    )
    results = family.results() if names else []
    return {names[r.name]: replace(r, p=min(1.0, r.contrast.p_value() * ALPHA / r.alpha)) for r in results}
