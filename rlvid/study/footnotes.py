"""The words under the tables of a report."""

from __future__ import annotations

from collections.abc import Sequence

from rlvid.study.comparison import Comparison, Interaction
from rlvid.study.noise_comparison import SLOPE
from rlvid.study.noise_response import J_TOLERANCE
from rlvid.study.noise_rows import NoiseCellRow
from rlvid.study.rows import ArmRow
from rlvid.study.seed_model import ASSUMPTIONS

MANY_SEEDS = 5  # from so many on, "equivalent" has no word of warning

NEXT_STEPS = """\
in each      samples/, eval/, metrics.jsonl: every completion, question and step
try next     rlvid train nano algorithm=dr_grpo       another algorithm: rlvid list algorithms
             rlvid train nano rewards.repetition=0.5  another reward: rlvid list rewards, or yours
             rlvid grid experiments/noise_robustness.py --jobs 2"""

ACCURACIES = (
    "Each accuracy has its 95 % interval. With one seed it is Wilson's, which covers new questions only; with several "
    "seeds a bootstrap that also resamples seeds, which is rough with fewer than five. Questions about one video are "
    "resampled together: the effective sample size is their number divided by the design effect. Detectable with 80 % "
    "power: the smallest true difference that these seeds and this many comparisons decide four times in five."
)
MEASURES = (
    "Means have 95 % intervals from a bootstrap over videos and seeds, which is rough with fewer than five seeds. "
    "Differences have the plain 95 % interval of the model of seeds, for new seeds and new videos, as the comparisons "
    "have; it is not adjusted for the number of differences. On all levels: the mean of the levels."
)
NOISE_CELLS = (
    "FP and FN: the mean reward of a wrong answer, and the mean reward withheld from a right one, over the run's own "
    "completions. J = 1 - FP - FN is Youden's index, the share of the clean gradient that is left; where FP and FN are "
    "not counted, it is the noise's closed form."
)
NOISE_RESPONSES = (
    "Slope: points of {endpoint} per unit of J, by least squares. Gain kept: ({endpoint} - untrained) / (clean - "
    "untrained), mean over J from the lowest J to 1; 1: noise costs nothing, 0: nothing is learned under it. It "
    "depends on the lowest J: compare methods with the same one. No gain to keep: the clean cell is not shown to beat "
    "the untrained arm. Cells within {tolerance} of J are one point. All levels together; the intervals of a column "
    "hold all together with 95 %, those of gains by Fieller's method."
)
NOISE_GAINS = (
    "Keeps 80 %: {endpoint} is above (yes) or below (no) untrained + .8 (clean - untrained), by one-sided tests with "
    "an error rate of 5 % for all rows together. Unbounded: at this level the gain itself is not shown."
)
_NOISE_COST = (
    "Points: what the noise costs a method ({endpoint} of its clean cell less that of its noisy one), less what it "
    "costs the first method. "
)
INTERACTIONS = (
    "Points: what the change costs the first arm, less what it costs the other one, on all levels together; part of "
    "the family of the comparisons. Costs more or less: the interval excludes 0; equivalent: it lies within the margin."
)
COUNTED_ACCURACIES = "Each accuracy has Wilson's 95 % interval, which covers new questions only."

_PAIRED_TEST = (
    "Points: difference of {endpoint}. The {count} intervals hold all together with 95 %{halves}. p is adjusted "
    "likewise: below .05 exactly where the interval excludes 0. Better or worse: the interval excludes 0; equivalent: "
    "it lies within {margin:g} points of 0. {assumptions}"
)
_HALVES = "; half of the error rate is for all levels, the primary endpoint"
_PAIRED_NEEDED = (
    " Alone: the plain 95 % interval of one comparison. p, these runs: the exact permutation test, which knows nothing "
    "of other seeds, not adjusted. Seeds, times: so many more seeds per arm, or so many times the questions, would "
    "decide the observed difference with 80 % power; this is as rough as the observed difference."
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
COUNTED_COMPARISONS = (
    "Points: difference of accuracy, with Newcombe's interval. p: two-sided z-test, adjusted for all claims of a file "
    "(Holm). Times: how many times the questions would show the observed difference with 80 % power."
)


def comparisons(
    count: int,
    equivalence_margin: float,
    paired: bool,
    needed: bool,
    endpoint: str = "accuracy",
    single_levels: bool = True,
) -> str:
    """Return the words under a table of comparisons.

    Args:
        count: how many intervals hold together.
        equivalence_margin: a share.
        paired: False for published counts.
        needed: the table is the wide one.
        endpoint: what is compared.
        single_levels: the intervals are for all levels together and for single ones.
    """
    test, sample = (_PAIRED_TEST, _PAIRED_NEEDED) if paired else (_UNPAIRED_TEST, _UNPAIRED_NEEDED)
    words = test.format(
        count=count,
        margin=100 * equivalence_margin,
        endpoint=endpoint,
        halves=_HALVES if single_levels else "",
        assumptions=f"Assumed: {ASSUMPTIONS}",
    )
    return words + (sample if needed else "")


def at_looks(rows: Sequence[Comparison]) -> str:
    """Return at which look each row on all levels was decided; "" where all were at the same, or there was none."""
    names: dict[int, list[str]] = {}
    for row in rows:
        if row.look is not None:
            names.setdefault(row.look, []).append(f"{row.a} against {row.b}")
    if len(names) < 2:
        return ""
    looks = "; ".join(f"after {seeds} seeds: {', '.join(names[seeds])}" for seeds in sorted(names))
    return (
        f" All levels are as of the look that decided them, {looks}. Single levels, the exact test and the table of "
        "accuracies are of all runs, so that they may differ."
    )


def rare_runs(comparisons: Sequence[Comparison], arms: Sequence[ArmRow], cells: Sequence[NoiseCellRow] = ()) -> str:
    """Return what "equivalent" leaves open where an arm has fewer than five seeds; "" where nothing rests on so few.

    Rows of the tables about noise name a method and a noise: those of `cells` are meant.
    """
    seeds = {(arm.arm, ""): arm.seeds for arm in arms if arm.seeds and arm.seed_sd is not None}
    seeds |= {(cell.method, cell.noise): cell.seeds for cell in cells}
    few = MANY_SEEDS
    for row in comparisons:
        if row.verdict.startswith("equivalent"):
            changed = (row.a_changed, row.b_changed) if isinstance(row, Interaction) else ()
            names = [(name, noise) for name in (row.a, row.b, *changed) for noise in ("", row.condition)]
            few = min([few, *(seeds[name] for name in names if name in seeds)])
    if few >= MANY_SEEDS:
        return ""
    return (
        f" Equivalent rests on {few} runs of an arm here: where none of {few} runs ends far from the others, up to "
        f"{1 - 0.05 ** (1 / few):.0%} of further runs may do so (95 % bound), and the verdict does not cover it."
    )


def noise_costs(rows: Sequence[Comparison]) -> str:
    """Return the words under the table of what noise costs, which may have slopes, single noises, or both."""
    has_slopes, has_noises = (any((row.condition == SLOPE) is wanted for row in rows) for wanted in (True, False))
    words = _NOISE_COST if has_noises else ""
    words += "Slope over J: difference of the slopes. " if has_slopes else ""
    words += "The intervals hold all together with 95 %"
    words += ", half of the error rate is for slopes. " if has_slopes and has_noises else ". "
    return words + "Costs more or less: the interval excludes 0."


def about_costs(words: str, endpoint: str) -> str:
    """Return the words under a table about noise or interactions."""
    return words.format(endpoint=endpoint, tolerance=J_TOLERANCE)


def adaptive(runs: int, most_runs: int) -> str:
    """Return the words under the looks of an adaptive grid."""
    return (
        f"Arms got more seeds only while one of their comparisons was open: {runs} runs instead of {most_runs}. The "
        "error rate is spent over the looks by O'Brien and Fleming's rule (Lan and DeMets 1983), so that the repeated "
        "intervals hold at all looks together. A difference that stopped its comparison early tends to be too large."
    )
