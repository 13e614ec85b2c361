"""Dr. GRPO on verdicts freed of noise, at rates that differ by prompt (El Mansouri et al. 2025, arXiv:2510.18924)."""

from dataclasses import dataclass

from algorithms._robust import LetterChannel
from algorithms.backward import Backward


@dataclass(frozen=True)
class NoiseCorrectedDrGRPO(Backward, LetterChannel):
    """r^ = (r - fp) / (1 - fp - fn) with the rates of the prompt's bucket, then A = r^ - mean of the group.

    A bucket is a letter: `rates.A = [0.1, 0.2]` are the false positives and negatives where the label is A, and with
    `estimate` each letter counts its own. The paper takes its rates from a held-out set. At one rate for all this is
    `backward`; where they differ it puts right how much prompts weigh next to each other, 1 / J each.
    """
