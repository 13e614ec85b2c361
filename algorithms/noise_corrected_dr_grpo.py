"""Dr. GRPO on noise-corrected verdicts, error rates by prompt (El Mansouri et al. 2025, arXiv:2510.18924)."""

from dataclasses import dataclass

from algorithms._robust import PerLabelNoiseChannel
from algorithms.backward import Backward


@dataclass(frozen=True)
class NoiseCorrectedDrGRPO(Backward, PerLabelNoiseChannel):
    """A = r^ - mean of the group, where r^ = (r - fp) / (1 - fp - fn) with the error rates of the prompt's bucket.

    Here a bucket is a letter: `rates.A = [0.1, 0.2]` are the rates of false positives and false negatives of prompts
    with label A, and with `estimate` each letter has its own counts. The paper takes its rates from a held-out set.
    With the same rates everywhere this is `backward`; where they differ, it corrects the relative weight of prompts by
    1 / J each.
    """
