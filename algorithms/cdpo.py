"""Conservative DPO: assume that some preferences are flipped (Mitchell 2023, ericmitchell.ai/cdpo.pdf)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from algorithms._unused import refuse_unused
from algorithms.dpo import DPO


@dataclass(frozen=True)
class CDPO(DPO):
    """loss = -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), minimal at beta h = log((1 - e) / e).

    h is DPO's margin and e the share of pairs in the wrong order. e is `label_smoothing`, or follows from a verifier's
    rates of false positives a and false negatives b: e = ab / (ab + (1 - a)(1 - b)). A pair is flipped only if the
    verifier erred on both of its completions; the number of right completions in the group cancels. This holds for
    verdicts that err independently, not for a wrong label, which misjudges the whole group.

    Ours differs from TRL's "sigmoid" loss, which does not read `label_smoothing`.
    """

    label_smoothing: float = 0.1  # e, where the verifier's rates are not given
    false_positives: float = 0.0
    false_negatives: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.false_positives + self.false_negatives >= 1 or min(self.false_positives, self.false_negatives) < 0:
            raise ValueError("false_positives and false_negatives must be 0 or more, and below 1 together")
        if self.false_positives or self.false_negatives:
            refuse_unused(self, ["label_smoothing"], "it follows from the verifier's error rates: set either")
            if not (self.false_positives and self.false_negatives):
                raise ValueError("with one of false_positives and false_negatives at 0 no pair is flipped: set both")
        if not 0 <= self.epsilon < 0.5:
            raise ValueError(f"label_smoothing must be 0 or more and below 0.5, not {self.label_smoothing}")

    @property
    def epsilon(self) -> float:
        """The share e of flipped pairs."""
        if not (self.false_positives or self.false_negatives):
            return self.label_smoothing
        both_wrong = self.false_positives * self.false_negatives
        both_right = (1 - self.false_positives) * (1 - self.false_negatives)
        return both_wrong / (both_wrong + both_right)

    def pair_loss(self, margins: Tensor) -> Tensor:
        """Return the (B, G) loss of each pair, for (B, G) margins h."""
        return -(1 - self.epsilon) * logsigmoid(self.beta * margins) - self.epsilon * logsigmoid(-self.beta * margins)
