"""Error rates of a verifier from verdicts that disagree, by EM on a mixture of two binomials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from functools import lru_cache

import torch

MIN_COUNTS = 100  # estimated error rates are used from more counted verdicts than this on
MIN_VOTERS = 3  # completions that must share a letter: two binomials cannot be told apart by fewer verdicts each
MIN_J = 0.1  # the least J that an estimate may have: a correction multiplies credit by 1 / J
MAX_ITERATIONS = 1000
TOLERANCE = 1e-6  # EM ends when no acceptance rate moves by more

Counts = Mapping[str, int]  # "size,accepted" -> how many letters of a group had `size` verdicts, `accepted` of them 1


def count_verdicts(counts: MutableMapping[str, int], letters: Sequence[str | None], verdicts: Sequence[float]) -> None:
    """Add the letters of a group to `counts`, for (G,) letters that its completions name and (G,) verdicts on them."""
    accepted = Counter(letter for letter, verdict in zip(letters, verdicts, strict=True) if verdict)
    for letter, size in Counter(letters).items():
        if letter is not None and size >= MIN_VOTERS:
            key = f"{size},{accepted[letter]}"
            counts[key] = counts.get(key, 0) + 1


def estimate_rates(counts: Sequence[Counts], false_positives: float, false_negatives: float) -> tuple[float, float]:
    """Return both error rates as estimated from counts; the given ones where there are too few.

    One rate is also the given one if no verdicts belong to it: without a wrong letter there is no false positive.
    """
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    table = tuple(sorted((*map(int, key.split(",")), number) for key, number in total.items()))
    if sum(size * number for size, _, number in table) <= MIN_COUNTS:
        return false_positives, false_negatives
    fitted_positives, fitted_negatives, right, wrong = fit_channel(table)
    rates = fitted_positives if wrong >= 1 else false_positives, fitted_negatives if right >= 1 else false_negatives
    shrink = min(1.0, (1 - MIN_J) / max(sum(rates), 1e-12))
    return rates[0] * shrink, rates[1] * shrink


@lru_cache(maxsize=64)
def fit_channel(table: tuple[tuple[int, int, int], ...]) -> tuple[float, float, float, float]:
    """Return fp, fn, and the expected numbers of verdicts on right and on wrong letters, by maximum likelihood.

    A letter of a group has `size` verdicts, of which `accepted` are 1. If it is right, accepted ~ Binomial(size,
    1 - fn), else Binomial(size, fp), independently given the letter. The share of right letters is free for each size,
    because frequent letters are more often right. EM starts from the majority of each letter's verdicts. The letters
    that are accepted more often are the right ones.

    Args:
        table: rows (size, accepted, number of such letters).
    """
    size, accepted, number = torch.tensor(table, dtype=torch.float64).T  # (N,) each
    sizes, index = size.unique(return_inverse=True)
    letters_of_size = torch.zeros_like(sizes).index_add(0, index, number)
    is_right = (2 * accepted > size).double() + 0.5 * (2 * accepted == size).double()  # P(right | accepted)
    previous = torch.zeros(2, dtype=torch.float64)
    for _ in range(MAX_ITERATIONS):
        verdicts = torch.stack([1 - is_right, is_right]) * number * size  # (2, N): on wrong and on right letters
        acceptance = (verdicts * accepted / size).sum(-1) / verdicts.sum(-1).clamp(min=1e-12)
        acceptance = acceptance.clamp(1e-6, 1 - 1e-6)  # (2,): of wrong letters, of right letters
        if (acceptance - previous).abs().max() < TOLERANCE:
            break
        previous = acceptance
        right_share = torch.zeros_like(sizes).index_add(0, index, number * is_right) / letters_of_size
        if_wrong, if_right = (accepted * a.log() + (size - accepted) * (1 - a).log() for a in acceptance)
        is_right = (right_share[index].clamp(1e-6, 1 - 1e-6).logit() + if_right - if_wrong).sigmoid()
    (low, wrong), (high, right) = sorted(zip(acceptance.tolist(), verdicts.sum(-1).tolist(), strict=True))
    return low, 1 - high, right, wrong
