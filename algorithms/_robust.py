"""Shared by the noise-robust algorithms: the outcome reward, its verdicts, and the noise channel behind them.

A *verdict* is the outcome's value for one completion, 1 (accepted) or 0 (rejected), as a noisy verifier gave it. The
verifier's error rates are fp = P(accepted | wrong) and fn = P(rejected | right), and J = 1 - fp - fn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from string import ascii_uppercase
from typing import Any

import torch
from torch import Tensor

from algorithms._unused import refuse_unused
from algorithms._verdict_counts import Counts, count_verdicts, estimate_rates
from rlvid.algorithm import Algorithm
from rlvid.types import Step


@dataclass(frozen=True)
class OutcomeAlgorithm(Algorithm):
    """An algorithm that treats one reward, the outcome, differently from the others.

    As a mixin, it comes last among the bases of a class.
    """

    outcome: str = "accuracy"  # the reward that says whether the answer is right

    def __post_init__(self) -> None:
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                "it works on the outcome as the verifier gave it, not on its z-scores: "
                'multi_objective_aggregation must be "sum_then_normalize"'
            )
        super().__post_init__()

    @property
    def flat_group_credit(self) -> str:
        """Why a group of equal total rewards can have credit: it has labels or verdicts of its own."""
        return "it learns from labels or verdicts of its own, not from the rewards of the mix"

    def verdicts(self, step: Step) -> Tensor:
        """Return the (P, G) outcome; ValueError unless every value is 0 or 1."""
        column = step.columns[require_reward(step, self.outcome)]
        if not ((column == 0) | (column == 1)).all():
            raise ValueError(f"the outcome {self.outcome!r} must be 0 or 1 for every completion")
        return column

    def with_outcome(self, step: Step, column: Tensor) -> Step:
        """Return the step with its outcome replaced by a (P, G) column."""
        return replace(step, columns={**step.columns, require_reward(step, self.outcome): column})


@dataclass(frozen=True)
class NoiseChannel(OutcomeAlgorithm):
    """A verifier with two error rates, which are given or, with `estimate`, estimated during the run.

    The estimate takes from Wang, Liu, Li (2020, arXiv:1810.01032) that noisy rewards of one state disagree. Here, a
    state is a letter that 3 or more completions of a group name. All of them are right or all are wrong, so the number
    of accepted ones is a mixture of two binomials, and EM (Dawid, Skene 1979, doi:10.2307/2346806) finds their
    acceptance rates, 1 - fn and fp (`_verdict_counts.fit_channel`). It needs errors that are independent given the
    letter. The estimates are used once there are more than 100 verdicts, and J is kept at 0.1 or more. A wrong *label*
    is invisible to this method: same letter, same verdict.
    """

    false_positives: float = 0.0  # fp = P(accepted | wrong)
    false_negatives: float = 0.0  # fn = P(rejected | right)
    estimate: bool = False  # count the rates; the two above hold until there are enough counts

    def __post_init__(self) -> None:
        super().__post_init__()
        check_error_rates(self.false_positives, self.false_negatives)

    @property
    def twin(self) -> Algorithm:
        """The same algorithm without the correction, for rlvid/trainer/noop_check.py."""
        return without_correction(self)

    @property
    def assumed_errors(self) -> str:
        """What errs independently: "verdicts" or "labels", for rlvid/trainer/noop_check.py."""
        return "verdicts"

    def observe(self, step: Step) -> None:
        """Count the verdicts on each letter in `step.memory["verdict_counts"]`: label -> "size,accepted" -> number."""
        if not self.estimate:
            return
        counts_by_label = step.memory.setdefault("verdict_counts", {})
        for label, letters, verdicts in zip(step.labels, step.answers, self.verdicts(step).tolist(), strict=True):
            count_verdicts(counts_by_label.setdefault(str(label), {}), letters, verdicts)

    def error_rates(self, step: Step) -> tuple[Tensor, Tensor]:
        """Return the false positive and the false negative rate of each prompt, (P, 1) each."""
        counts_by_label = step.memory.get("verdict_counts", {})
        by_label = {label: self.error_rates_for_label(label, counts_by_label) for label in set(step.labels)}
        rates = torch.tensor([by_label[label] for label in step.labels], dtype=torch.float64)
        return rates[:, :1], rates[:, 1:]

    def error_rates_for_label(self, label: str | None, counts_by_label: Mapping[str, Counts]) -> tuple[float, float]:
        """Return both rates for prompts with this label; here they are the same for every label."""
        return estimate_rates(list(counts_by_label.values()), self.false_positives, self.false_negatives)

    def corrected_verdicts(self, step: Step) -> Tensor:
        """Return (P, G) (r - fp) / (1 - fp - fn), whose expectation over the noise is the clean verdict."""
        false_positives, false_negatives = self.error_rates(step)
        return (self.verdicts(step) - false_positives) / (1 - false_positives - false_negatives)


@dataclass(frozen=True)
class LabelNoiseChannel(NoiseChannel):
    """A verifier that errs for each completion, or with `wrong_labels` a label that is wrong for a whole group.

    Error rates per verdict do not describe wrong labels, which err for all completions of a prompt together: the more
    completions a label accepts, the more likely it is right. With k accepted of the n completions that name a letter, q
    the rate of wrong labels and C options, Bayes' rule gives

        P(label right | k) = (1 - q) k / ((1 - q) k + q (n - k) / (C - 1)),

    and the expected clean verdict is taken as P for accepted completions and (1 - P) / (C - 1) for the others, also for
    those that name no letter, an affine function of the verdict with the slope w = (C P - 1) / (C - 1). It takes the
    place of (r - fp) / J. w is negative where another option is more likely right than the label.

    Assumptions: a wrong label is each other option with the same probability (noise "symmetric"). Before the label is
    seen, an option is right with the probability of its share of the group's answers, as in `soft_label` with tau = 1
    and without its memory; P is then its posterior of the label. If the label is wrong, the other options are alike,
    where `soft_label` tells them apart. A policy that is sure of wrong answers makes P too high: in the demo's GRPO
    with 30 % wrong labels, P is .50, .70, .81, .88, .92, .96, .98 for k = 1 to 7 of 8; .53, .68, .78, .81, .85, .88,
    .92 of the labels were right (2026-11-28, two seeds, 5,736 groups).
    """

    wrong_labels: float = 0.0  # q, the rate of wrong labels; it replaces the rates of false positives and negatives
    options: int = 4  # C; an answer beyond them is refused

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.options < 2 or not 0 <= self.wrong_labels < 1 - 1 / self.options:
            raise ValueError(
                f"wrong_labels must be from 0 to below 1 - 1 / options, not {self.wrong_labels} with {self.options}"
            )
        if self.wrong_labels and self.estimate:
            raise ValueError("estimate counts verdicts that err independently: set either it or wrong_labels")
        if self.wrong_labels:
            unused = ("false_positives", "false_negatives", "rates")
            refuse_unused(self, unused, "wrong_labels takes the place of error rates of verdicts: set either")
        else:
            refuse_unused(self, ["options"], "without wrong_labels no options are counted: leave it out")

    @property
    def assumed_errors(self) -> str:
        """What errs independently: "verdicts", or with `wrong_labels` "labels"."""
        return "labels" if self.wrong_labels else "verdicts"

    def label_posterior(self, step: Step) -> Tensor:
        """Return (P, 1) the probability that the label of each prompt is right, given its (P, G) verdicts.

        It is 0 where no completion is accepted: all verdicts are equal there, and no algorithm gives credit. Rejected
        completions without a letter are no votes for another option. Raises ValueError for an answer beyond `options`.
        """
        check_letters(step, self.options)
        verdicts = self.verdicts(step)
        names_letter = torch.tensor([[letter is not None for letter in letters] for letters in step.answers])
        rejected = ((verdicts == 0) & names_letter).sum(-1, keepdim=True)
        right = (1 - self.wrong_labels) * verdicts.sum(-1, keepdim=True)
        wrong = self.wrong_labels * rejected / (self.options - 1)
        return right / (right + wrong).clamp(min=1e-12)

    def label_slope(self, step: Step) -> Tensor:
        """Return (P, 1) w, the slope of the expected clean verdict over the noisy one; 1 at P = 1, 0 at P = 1 / C."""
        return (self.options * self.label_posterior(step) - 1) / (self.options - 1)

    def corrected_verdicts(self, step: Step) -> Tensor:
        """Return (P, G) the expected clean verdicts under wrong labels, or else (r - fp) / (1 - fp - fn)."""
        if not self.wrong_labels:
            return super().corrected_verdicts(step)
        slope = self.label_slope(step)
        return slope * self.verdicts(step) + (1 - slope) / self.options


@dataclass(frozen=True)
class PerLabelNoiseChannel(NoiseChannel):
    """A verifier whose error rates depend on the prompt, through the letter of its label."""

    rates: Mapping[str, Sequence[float]] = field(default_factory=dict)  # letter -> [false positives, false negatives]

    def __post_init__(self) -> None:
        super().__post_init__()
        for letter, pair in self.rates.items():
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"rates.{letter} must be [false positives, false negatives], not {pair}")
            check_error_rates(*pair)

    def error_rates_for_label(self, label: str | None, counts_by_label: Mapping[str, Counts]) -> tuple[float, float]:
        """Return both rates for prompts with this label; `false_positives` and `false_negatives` are the defaults."""
        given = self.rates.get(str(label), (self.false_positives, self.false_negatives))
        counts = [counts_by_label[str(label)]] if str(label) in counts_by_label else []
        return estimate_rates(counts, *given)


def require_reward(step: Step, name: str) -> str:
    """Return a reward's name; ValueError if the mix does not have it."""
    if name not in step.columns:
        raise ValueError(f"there is no reward {name!r} in the mix, only {', '.join(step.columns)}")
    return name


def check_letters(step: Step, options: int) -> None:
    """Raise ValueError if a completion answers with a letter beyond so many options: its prompt has more of them."""
    for sample, letters in zip(step.ids, step.answers, strict=True):
        beyond = sorted({*ascii_uppercase[options:]} & {*letters})
        if beyond:
            raise ValueError(
                f"sample {sample} has an option {beyond[0]}, but options is {options}: set algorithm.options"
            )


def check_error_rates(false_positives: float, false_negatives: float) -> None:
    """Raise ValueError unless verdicts carry information about the truth: J = 1 - fp - fn > 0."""
    if min(false_positives, false_negatives) < 0 or false_positives + false_negatives >= 1:
        raise ValueError(
            f"rates must be 0 or more and sum to less than 1, not {false_positives} false positives "
            f"and {false_negatives} false negatives"
        )


def verdict_correlation(
    verdicts: Tensor, false_positives: Tensor, false_negatives: Tensor, least: float = 0.0
) -> Tensor:
    """Return (P, 1) the correlation w of noisy and clean verdicts in each group, for (P, G) noisy verdicts.

    w = J sqrt(t (1 - t) / (r (1 - r))), where r is the mean of the noisy verdicts and
    t = clip((r - fp) / J, least, 1 - least) estimates that of the clean ones. It is 0 where all verdicts are equal.
    """
    j = 1 - false_positives - false_negatives
    noisy_mean = verdicts.mean(-1, keepdim=True)
    clean_mean = ((noisy_mean - false_positives) / j).clamp(least, 1 - least)
    correlation = j * (clean_mean * (1 - clean_mean) / (noisy_mean * (1 - noisy_mean))).sqrt()
    return torch.where((noisy_mean > 0) & (noisy_mean < 1), correlation, 0.0)


def center(values: Tensor) -> Tensor:
    """Return (P, G) values minus the mean of their group."""
    return values - values.mean(-1, keepdim=True)


def answers_by_sample(step: Step) -> dict[str, list[str | None]]:
    """Return sample id -> the letters of all of its groups: a prompt that occurs several times is visited once."""
    answers: dict[str, list[str | None]] = {}
    for sample, letters in zip(step.ids, step.answers, strict=True):
        answers.setdefault(sample, []).extend(letters)
    return answers


def majority_vote(letters: Sequence[str | None]) -> str | None:
    """Return the most frequent letter, or None if there is no letter or the first two tie."""
    ranking = Counter(letter for letter in letters if letter is not None).most_common(2)
    if not ranking or (len(ranking) == 2 and ranking[0][1] == ranking[1][1]):
        return None
    return ranking[0][0]


def verdicts_by_label(step: Step, labels: Sequence[str | None]) -> Tensor:
    """Return (P, G) 1 where a completion names its prompt's label in (P,) `labels`, else 0; no answer matches None."""
    rows = [
        [float(label is not None and letter == label) for letter in letters]
        for letters, label in zip(step.answers, labels, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def without_correction(algorithm: OutcomeAlgorithm) -> Algorithm:
    """Return the nearest base class that is not an `OutcomeAlgorithm`, with the same fields."""
    base: Any = next(cls for cls in type(algorithm).__mro__ if not issubclass(cls, OutcomeAlgorithm))
    return base(**{f.name: getattr(algorithm, f.name) for f in fields(base)})


def require_group_scaling(algorithm: Any) -> None:
    """Raise ValueError unless `scale_rewards` is "group", for papers that define nothing else."""
    if algorithm.scale_rewards != "group":
        raise ValueError(f'scale_rewards must be "group", not {algorithm.scale_rewards!r}')
