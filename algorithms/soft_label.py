"""A reply earns its letter's posterior: the label through its noise, times the votes so far (ours, unpublished)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms._robust import Outcome
from algorithms.grpo import GRPO
from rlvid.types import Step


@dataclass(frozen=True)
class SoftLabel(GRPO, Outcome):
    """r = q(answer), q(c) proportional to T(label | c) v_c^tau over the C options; the rest is GRPO.

    T is the symmetric channel: 1 - eta where c is the label, eta / (C - 1) elsewhere. v is a moving average of the
    prompt's vote shares, from 1 / C each. eta = 0 is the plain label; at eta = (C - 1) / C the label says nothing and
    votes decide, as in `ttrl` but softly. Nor does a label say anything that none of the options has (noise
    "unproducible"). A reply that names no letter earns nothing.
    """

    eta: float = 0.2  # the rate of wrong labels
    tau: float = 1.0  # how much votes count
    decay: float = 0.5  # how much of the votes so far is kept at each visit
    options: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.options <= 26:
            raise ValueError(f"options must be from 2 to 26, not {self.options}")
        if not 0 <= self.eta <= 1 - 1 / self.options:
            raise ValueError(f"eta must be in [0, {1 - 1 / self.options:g}] with {self.options} options")
        if not 0 < self.decay < 1:
            raise ValueError(f"decay must be between 0 and 1, not {self.decay}")

    def observe(self, step: Step) -> None:
        """Average each group's vote shares into its prompt's."""
        votes = step.memory.setdefault("votes", {})
        for name, letters in zip(step.ids, step.answers, strict=True):
            said = [letter for letter in letters if letter is not None]
            before = votes.get(name, self.prior())
            if said:
                votes[name] = {
                    c: self.decay * share + (1 - self.decay) * said.count(c) / len(said) for c, share in before.items()
                }

    def prior(self) -> dict[str, float]:
        """Each option's share before any vote."""
        return {chr(ord("A") + i): 1 / self.options for i in range(self.options)}

    def posterior(self, step: Step) -> list[dict[str, float]]:
        """(P,) what each letter is worth."""
        votes, rows = step.memory.get("votes", {}), []
        for name, label in zip(step.ids, step.labels, strict=True):
            shares = votes.get(name, self.prior())
            wrong = self.eta / (self.options - 1)
            chance = {c: 1 - self.eta if c == label or label not in shares else wrong for c in shares}
            joint = {c: chance[c] * share**self.tau for c, share in shares.items()}
            rows.append({c: value / sum(joint.values()) for c, value in joint.items()})
        return rows

    def labels(self, step: Step) -> Sequence[str | None]:
        """(P,) the likeliest letter; the data set's where nothing is likelier."""
        rows = zip(self.posterior(step), step.labels, strict=True)
        return [max(q, key=lambda c: (q[c], c == label)) for q, label in rows]

    def rewards(self, step: Step) -> Tensor:
        """(P, G): the total, with q in the place of the outcome."""
        rows = zip(self.posterior(step), step.answers, strict=True)
        earned = [[0.0 if letter is None else q.get(letter, 0.0) for letter in letters] for q, letters in rows]
        return super().rewards(self.with_outcome(step, torch.tensor(earned, dtype=torch.float64)))
