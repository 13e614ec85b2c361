"""The share of a reply's attention on pixels: a diagnostic, to be used with weight 0.

r = the share of attention, from 0 to 1, that a reply's tokens give to visual tokens, averaged over all layers and
heads, without attention sinks (positions that draw attention whatever is written). SEED-Bench-R1 (arXiv:2503.24376)
compares SFT and GRPO by such attention. Attention shows where a model looks, not what for: a policy that is paid for it
can attend to pixels that it makes no use of.

Known hacks: words that attend to the video by habit; short replies, which have few words of their own to attend to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvid.reward import Column
from rlvid.types import Group


@dataclass(frozen=True)
class GroundingAttention:
    """From 0 to 1; None if there are no pixels."""

    needs: ClassVar[frozenset[str]] = frozenset({"visual_attention"})

    def __call__(self, groups: Sequence[Group]) -> Column:
        """Return one row per group."""
        return [list(group.evidence["visual_attention"]) for group in groups]
