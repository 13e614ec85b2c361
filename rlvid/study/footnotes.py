"""The words under the tables of a report."""

from __future__ import annotations

from rlvid.study.noise_response import J_TOLERANCE

ACCURACIES = (
    "Each accuracy has its 95 % interval. With one seed it is Wilson's, which covers new questions only; with several "
    "seeds a bootstrap that also resamples seeds, which is rough with fewer than five. Questions about one video are "
    "resampled together: the effective sample size is their number divided by the design effect. Detectable with 80 % "
    "power: the smallest true difference of two runs that this many questions show four times in five."
)
AGGREGATES = (
    "IQM: interquartile mean, the mean of the middle half of all seeds' accuracies on all levels. Beats the control: "
    "the probability that a seed beats a seed of the control, mean over levels. Both intervals cover new seeds only "
    "(arXiv:2108.13264)."
)
NOISE_CELLS = (
    "FP and FN: the mean reward of a wrong answer, and the mean reward withheld from a right one, over the run's own "
    "completions. J = 1 - FP - FN is Youden's index, the share of the clean gradient that is left; where FP and FN are "
    "not counted, it is the noise's closed form."
)
NOISE_RESPONSES = (
    "Area: the mean over J, from the lowest J to 1, of accuracy / clean accuracy; 1 means that noise costs nothing. "
    "Slope: points of accuracy per unit of J, by least squares. Both use the seeds that all cells of a method have; "
    f"cells within {J_TOLERANCE} of J are one point."
)
COUNTED_ACCURACIES = "Each accuracy has Wilson's 95 % interval, which covers new questions only."

_PAIRED_TEST = (
    "p is exact: under the null hypothesis the arms could exchange their answers about a video, all at once (McNemar's "
    "test if there is one seed, and one question per video). It is adjusted for all {count} comparisons here (Holm). "
    "Better or worse needs p < .05 and an interval without 0; equivalent, an interval within {margin:g} points of 0, "
    "not adjusted."
)
_PAIRED_NEEDED = (
    " Times, seeds: how many times the questions, or how many seeds, would show the observed difference with 80 % "
    "power among as many comparisons; this is as rough as the observed difference."
)
_UNPAIRED_TEST = (
    "Intervals of differences are Newcombe's; p is of the two-sided z-test, adjusted for all {count} comparisons here "
    "(Holm). Which questions were right is not published, so nothing is paired, and one run per arm does not show how "
    "seeds vary. Better or worse needs p < .05 and an interval without 0; equivalent, an interval within {margin:g} "
    "points of 0."
)
_UNPAIRED_NEEDED = (
    " Times: how many times the questions would show the observed difference with 80 % power among as many comparisons."
)


def comparisons(count: int, equivalence_margin: float, paired: bool, needed: bool) -> str:
    """Return the words under a table of `count` comparisons; `needed`: the table has the columns times and seeds."""
    test, sample = (_PAIRED_TEST, _PAIRED_NEEDED) if paired else (_UNPAIRED_TEST, _UNPAIRED_NEEDED)
    return test.format(count=count, margin=100 * equivalence_margin) + (sample if needed else "")
