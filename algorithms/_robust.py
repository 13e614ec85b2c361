"""What the noise-robust algorithms share: the outcome's verdicts, and the channel that they came through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from rlvid.algorithm import Algorithm
from rlvid.types import Batch, Step


@dataclass(frozen=True)
class Outcome(Algorithm):
    """An algorithm that treats one reward, the outcome, unlike the others. Stands last among a class's bases."""

    outcome: str = "accuracy"  # the reward that says whether the answer is right

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                "it works on the outcome as the verifier gave it, not on its z-scores: "
                'multi_objective_aggregation must be "sum_then_normalize"'
            )

    def verdicts(self, step: Step) -> Tensor:
        """(P, G) the outcome: 1 accepted, 0 rejected."""
        column = step.columns[present(step, self.outcome)]
        if not ((column == 0) | (column == 1)).all():
            raise ValueError(f"the outcome {self.outcome!r} must be 0 or 1 for every completion")
        return column

    def with_outcome(self, step: Step, column: Tensor) -> Step:
        """The step with another (P, G) outcome."""
        return replace(step, columns={**step.columns, present(step, self.outcome): column})


@dataclass(frozen=True)
class Channel(Outcome):
    """A verifier that errs at known rates, or at rates counted as the run goes on.

    Counted (`estimate`) after Wang, Liu, Li (2020, arXiv:1810.01032), who let noisy rewards of one state outvote each
    other. Here replies of a group that name the same letter should share a verdict: of 3 or more, the majority's is
    taken as true and the others are errors; the counts are used once there are more than 100. They fall short, since
    majorities err too: a rate of 0.3 is counted as 0.21 where 3 replies share a letter, as 0.25 where 8 do. A wrong
    *label* is invisible to this: same letter, same verdict.
    """

    false_positives: float = 0.0  # P(accepted | wrong)
    false_negatives: float = 0.0  # P(rejected | right)
    estimate: bool = False  # count the rates; those above hold until there is enough to count

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.false_positives, self.false_negatives)

    @property
    def twin(self) -> Algorithm:
        """The same algorithm without the correction, for `rlvid/trainer/noop_check.py`."""
        return uncorrected(self)

    def observe(self, step: Step) -> None:
        """Count, under each label's letter: right replies, those of them rejected, wrong ones, those accepted."""
        if not self.estimate:
            return
        tally = step.memory.setdefault("verdicts", {})
        for label, letters, row in zip(step.labels, step.answers, self.verdicts(step).tolist(), strict=True):
            counts = tally.setdefault(str(label), [0, 0, 0, 0])
            accepted = Counter(letter for letter, verdict in zip(letters, row, strict=True) if verdict)
            for letter, said in Counter(letters).items():
                yes, no = accepted[letter], said - accepted[letter]
                if letter is not None and said >= 3 and yes != no:
                    place = 0 if yes > no else 2
                    counts[place] += said
                    counts[place + 1] += min(yes, no)

    def errors(self, step: Step) -> tuple[Tensor, Tensor]:
        """The rates of false positives and of false negatives, (P, 1) each."""
        rows = [self.errors_at(label, step.memory.get("verdicts", {})) for label in step.labels]
        both = torch.tensor(rows, dtype=torch.float64)
        return both[:, :1], both[:, 1:]

    def errors_at(self, label: str | None, tally: Mapping[str, Sequence[int]]) -> tuple[float, float]:
        """Both rates where the label is this letter: the same for all."""
        return counted(list(tally.values()), self.false_positives, self.false_negatives)

    def corrected(self, step: Step) -> Tensor:
        """(P, G): (r - fp) / (1 - fp - fn), whose mean over the noise is the clean verdict."""
        false_positives, false_negatives = self.errors(step)
        return (self.verdicts(step) - false_positives) / (1 - false_positives - false_negatives)


@dataclass(frozen=True)
class LetterChannel(Channel):
    """A channel whose rates depend on the prompt, through the letter of its label."""

    rates: Mapping[str, Sequence[float]] = field(default_factory=dict)  # letter -> [false positives, false negatives]

    def __post_init__(self) -> None:
        super().__post_init__()
        for letter, pair in self.rates.items():
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"rates.{letter} must be [false positives, false negatives], not {pair}")
            check(*pair)

    def errors_at(self, label: str | None, tally: Mapping[str, Sequence[int]]) -> tuple[float, float]:
        """Both rates where the label is this letter; the fields for all letters hold where there are none."""
        given = self.rates.get(str(label), (self.false_positives, self.false_negatives))
        return counted([tally[str(label)]] if str(label) in tally else [], *given)


def present(step: Step, reward: str) -> str:
    """The reward's name, if the mix has it."""
    if reward not in step.columns:
        raise ValueError(f"there is no reward {reward!r} in the mix, only {', '.join(step.columns)}")
    return reward


def check(false_positives: float, false_negatives: float) -> None:
    """A verdict must tell something of the truth: J = 1 - fp - fn > 0."""
    if min(false_positives, false_negatives) < 0 or false_positives + false_negatives >= 1:
        raise ValueError(
            f"rates must be 0 or more and sum to less than 1, not {false_positives} false positives "
            f"and {false_negatives} false negatives"
        )


def counted(tallies: Sequence[Sequence[int]], false_positives: float, false_negatives: float) -> tuple[float, float]:
    """Both rates from some counts, once there are more than 100; until then as given."""
    right, rejected, wrong, accepted = (sum(counts) for counts in zip(*tallies, strict=True)) if tallies else (0,) * 4
    if right + wrong <= 100:
        return false_positives, false_negatives
    return accepted / wrong if wrong else false_positives, rejected / right if right else false_negatives


def shrinkage(verdicts: Tensor, false_positives: Tensor, false_negatives: Tensor, least: float = 0.0) -> Tensor:
    """(P, 1): the correlation of noisy and clean verdicts in a group, 0 where all agree.

    w = J sqrt(t (1 - t) / (r (1 - r))), r being the noisy mean and t = clip((r - fp) / J, least, 1 - least) the clean.
    """
    information = 1 - false_positives - false_negatives
    noisy = verdicts.mean(-1, keepdim=True)
    clean = ((noisy - false_positives) / information).clamp(least, 1 - least)
    weight = information * (clean * (1 - clean) / (noisy * (1 - noisy))).sqrt()
    return torch.where((noisy > 0) & (noisy < 1), weight, 0.0)


def centred(values: Tensor) -> Tensor:
    """(P, G) less the group's mean."""
    return values - values.mean(-1, keepdim=True)


def laid(step: Step, advantages: Tensor) -> Batch:
    """The step's batch with (P, G) advantages at each of a completion's tokens."""
    return replace(step.batch, advantages=advantages.reshape(-1, 1).float() * step.batch.mask)


def majority(letters: Sequence[str | None]) -> str | None:
    """The letter that most replies name; None where none does, or two tie."""
    first = Counter(letter for letter in letters if letter is not None).most_common(2)
    return None if not first or (len(first) == 2 and first[0][1] == first[1][1]) else first[0][0]


def agreement(step: Step, labels: Sequence[str | None]) -> Tensor:
    """(P, G): 1 where a reply names its prompt's label; nothing agrees with None."""
    rows = zip(step.answers, labels, strict=True)
    return torch.tensor(
        [[float(label is not None and letter == label) for letter in letters] for letters, label in rows],
        dtype=torch.float64,
    )


def uncorrected(algorithm: Outcome) -> Algorithm:
    """The nearest ancestor that knows of no outcome, with the same fields."""
    kind: Any = next(c for c in type(algorithm).__mro__ if not issubclass(c, Outcome))
    return kind(**{f.name: getattr(algorithm, f.name) for f in fields(kind)})


def by_group(algorithm: Any) -> None:
    """Refuse another scale than the group's where the paper has only that."""
    if algorithm.scale_rewards != "group":
        raise ValueError(f'scale_rewards must be "group", not {algorithm.scale_rewards!r}')
