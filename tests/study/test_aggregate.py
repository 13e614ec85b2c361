"""pass@k against counting."""

from itertools import combinations

import numpy as np
import pytest

from rlvid.study.aggregate import pass_at_k


def test_pass_at_k_is_the_share_of_subsets_with_a_right_completion():
    for n, k in ((4, 1), (4, 3), (6, 2), (8, 8)):
        for correct in range(n + 1):
            marks = [1] * correct + [0] * (n - correct)
            share = np.mean([any(subset) for subset in combinations(marks, k)])
            assert pass_at_k(np.array([correct]), n, k)[0] == pytest.approx(share)
    with pytest.raises(ValueError, match="pass@5 of 4"):
        pass_at_k(np.array([1]), 4, 5)
