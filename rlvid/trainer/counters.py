"""Running totals of a run, kept in every checkpoint so that a resumed run reports the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from accelerate.utils import gather_object

from rlvid.trainer.records import GroupRecord

# Right and wrong answers that have an accuracy reward, and what they earned; verdicts of the noisy reward, and how
# many of them noise changed.
VERDICT_COUNTS = ("right", "right_paid", "wrong", "wrong_paid", "total", "changed")


def clip_key(level: str, sample: str) -> str:
    """Return what identifies a sample's clip in `Counters.skipped`: levels may give different samples the same id."""
    return f"{level}/{sample}" if level else sample


@dataclass
class Counters:
    """What a run counts from its first step on; JSON values only."""

    tokens: int = 0  # tokens of all completions of the steps so far, truncated ones included
    drawn: int = 0  # prompts that were sampled from, including those of flat groups that were replaced
    skipped: dict[str, str] = field(default_factory=dict)  # `clip_key` -> why the clip could not be read
    verdicts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(VERDICT_COUNTS, 0.0))
    memory: dict[str, Any] = field(default_factory=dict)  # what the algorithm keeps from step to step
    best: tuple[float, int] | None = None  # the best accuracy on the first evaluated level, and its step

    def state_dict(self) -> dict[str, Any]:
        """The counters as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over counters that `state_dict` returned; other keys are ignored.

        Checkpoints until 2026-11-29 count the verdicts as "said", and only if there are any.
        """
        for f in fields(self):
            setattr(self, f.name, state[f.name])
        verdicts = {{"said": "total"}.get(name, name): count for name, count in state["verdicts"].items()}
        self.verdicts = dict.fromkeys(VERDICT_COUNTS, 0.0) | verdicts
        self.best = tuple(state["best"]) if state["best"] else None

    def count_tokens(self, records: Sequence[GroupRecord]) -> None:
        """Count the tokens of a round of sampling, given the groups of all processes."""
        self.tokens += sum(sum(record.lengths) for record in records)

    def update(self, drawn: int) -> dict[str, float]:
        """Count the prompts of a step; returns the totals so far under their metric names. A collective."""
        self.drawn += drawn
        self.share_skipped()
        return {
            "num_completion_tokens": self.tokens,
            "num_prompts": self.drawn,
            "data/decode_failures": len(self.skipped),
        }

    def share_skipped(self) -> None:
        """Tell every process which clips the others could not read, so that each clip counts once. A collective."""
        self.skipped = {key: why for part in gather_object([self.skipped]) for key, why in part.items()}

    def update_verdicts(self, records: Sequence[GroupRecord], noisy_reward: str) -> dict[str, float]:
        """Count how noisy the verdicts so far were, measured against the clean ones, which nothing else sees.

        A verdict is what a reward gives for one completion, such as 0 or 1 of the accuracy reward.

        `noise/changed` is the share of the verdicts of `noisy_reward` that verdict noise changed. Where the accuracy
        reward is noisy, `noise/false_positive_rate` is what a wrong answer earned on average,
        `noise/false_negative_rate` is 1 less what a right answer earned, and Youden's J is 1 less both: the share of
        the clean gradient in the expected noisy one.

        Returns:
            The rates so far; without those that need a right and a wrong answer, as long as there is none.
        """
        counts = self.verdicts
        for record in records:
            clean_verdicts = record.evidence.get("clean_verdicts", ())
            for clean, verdict in zip(clean_verdicts, record.columns.get(noisy_reward, ()), strict=False):
                if clean is not None:
                    counts["total"] += 1
                    counts["changed"] += verdict != clean
            for answer, paid in zip(record.answers, record.columns.get("accuracy", ()), strict=False):
                if paid is not None:
                    kind = "right" if answer == record.clean else "wrong"
                    counts[kind] += 1
                    counts[f"{kind}_paid"] += paid
        metrics = {"noise/changed": counts["changed"] / counts["total"]} if counts["total"] else {}
        if noisy_reward != "accuracy" or not counts["right"] or not counts["wrong"]:
            return metrics
        false_positives = counts["wrong_paid"] / counts["wrong"]
        false_negatives = 1 - counts["right_paid"] / counts["right"]
        metrics |= {"noise/false_positive_rate": false_positives, "noise/false_negative_rate": false_negatives}
        return metrics | {"noise/youden_j": 1 - false_positives - false_negatives}
