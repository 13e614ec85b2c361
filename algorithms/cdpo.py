"""Conservative DPO: some preferences are taken to be flipped (Mitchell 2023, ericmitchell.ai/cdpo.pdf)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from algorithms.dpo import DPO


@dataclass(frozen=True)
class CDPO(DPO):
    """loss = -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), least at beta h = log((1 - e) / e).

    e is the share of pairs whose order is wrong: `label_smoothing`, or what follows from a verifier's rates of false
    positives a and false negatives b, e = ab / (ab + (1 - a)(1 - b)). A pair is flipped only if the verifier erred on
    both of its completions, and how many of the group are right cancels. That holds for verdicts that err one by one,
    not for a wrong label, which misjudges the whole group. (TRL's "sigmoid" loss does not read `label_smoothing`.)
    """

    label_smoothing: float = 0.1  # where the verifier's rates are not given
    false_positives: float = 0.0
    false_negatives: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.false_positives + self.false_negatives >= 1 or min(self.false_positives, self.false_negatives) < 0:
            raise ValueError("false_positives and false_negatives must be 0 or more, and below 1 together")
        if not 0 <= self.epsilon < 0.5:
            raise ValueError(f"label_smoothing must be 0 or more and below 0.5, not {self.label_smoothing}")

    @property
    def epsilon(self) -> float:
        """The share of flipped pairs."""
        if not (self.false_positives or self.false_negatives):
            return self.label_smoothing
        wrong = self.false_positives * self.false_negatives
        return wrong / (wrong + (1 - self.false_positives) * (1 - self.false_negatives))

    def pair_loss(self, h: Tensor) -> Tensor:
        """(B, G) -> (B, G)."""
        return -(1 - self.epsilon) * logsigmoid(self.beta * h) - self.epsilon * logsigmoid(-self.beta * h)
