"""pass@k: the probability that k completions of a question contain a right one."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln


def pass_at_k(correct: np.ndarray, n: int, k: int) -> np.ndarray:
    """Return (Q,) unbiased estimates of pass@k, the probability that k completions contain a right one.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374).

    Args:
        correct: (Q,) c, the number of right completions of each question.
        n: the number of completions of each question.
        k: 1 <= k <= n, else ValueError.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} completions")
    wrong = n - np.asarray(correct, dtype=float)
    at_least_k = np.maximum(wrong, k)  # with fewer wrong ones the result is 1, whatever stands here
    log_ratio = gammaln(at_least_k + 1) - gammaln(at_least_k - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(wrong < k, 1.0, 1 - np.exp(log_ratio))
