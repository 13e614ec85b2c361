"""Verdicts on published counts: by hand and against scipy."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from rlvid.study.power import EQUIVALENCE_MARGIN, classify_difference, needed_questions
from rlvid.study.stats import Interval


@pytest.mark.parametrize(
    ("interval", "p", "verdict"),
    [
        (Interval(0.1, 0.02, 0.2), 0.01, "better"),
        (Interval(-0.1, -0.2, -0.02), 0.01, "worse"),
        (Interval(0.1, 0.02, 0.2), 0.06, "undecided"),
        (Interval(0.1, -0.02, 0.2), 0.01, "undecided"),
        (Interval(0.01, -0.02, 0.029), 0.6, "equivalent within 3"),
        (Interval(0.01, 0.005, 0.015), 0.2, "equivalent within 3"),
        (Interval(0.01, 0.005, 0.015), 0.01, "better"),
        (Interval(0.01, -0.01, 0.031), 0.6, "undecided"),
    ],
)
def test_a_verdict_needs_the_test_and_the_interval(interval, p, verdict):
    assert classify_difference(interval, p) == verdict


def test_equivalence_is_two_one_sided_tests():
    """Of paired differences, each at half of .05, against scipy's t-tests."""
    rng, agreed, equivalent = np.random.default_rng(3), 0, 0
    for discordance in rng.uniform(0.01, 0.3, 100):
        a = (rng.random((1, 1500)) < 0.5).astype(float)
        b = np.where(rng.random((1, 1500)) < discordance, 1 - a, a)
        above = ttest_1samp((a - b)[0], -EQUIVALENCE_MARGIN, alternative="greater").pvalue
        below = ttest_1samp((a - b)[0], EQUIVALENCE_MARGIN, alternative="less").pvalue
        low, high = ttest_1samp((a - b)[0], 0).confidence_interval(0.95)
        ours = classify_difference(Interval((a - b).mean(), low, high), 1.0).startswith("equivalent")
        agreed += (max(above, below) < 0.025) == ours
        equivalent += ours
    assert agreed == 100 and 20 < equivalent < 90, (agreed, equivalent)


def test_the_needed_questions_follow_from_the_binomial_variances():
    """50 of 100 against 40 of 100: (2.80 / .1)^2 (.25 + .24) / 100."""
    assert needed_questions(50, 100, 40, 100) == pytest.approx((2.8016 / 0.1) ** 2 * 0.49 / 100, rel=1e-4)
    assert needed_questions(50, 100, 50, 100) == float("inf")
