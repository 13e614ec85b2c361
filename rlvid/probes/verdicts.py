"""The thresholds of a probe by name, and how numbers become findings and blocks.

How often each of them raises a false alarm is measured by false_alarms.py, which writes data/false_alarms.json and the
table in rlvid/probes/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isnan
from pathlib import Path
from typing import Any

from rlvid.errors import UserError
from rlvid.probes.result import FAIL, PASS, SKIPPED, Block, Finding
from rlvid.utils.text import suggest

THRESHOLDS: dict[str, tuple[float, str]] = {  # name -> default, meaning
    "value.min_applied": (0.02, "share of replies that the reward applies to, at least"),
    "value.min_distinct": (2, "different values over all replies, at least"),
    "value.max_seconds": (0.25, "seconds a reply, at most"),
    "information.min_auroc": (0.5, "upper end of the 95 % interval of the AUROC of right against wrong, at least"),
    "information.max_length": (0.5, "size of the correlation with length among right and among wrong replies, at most"),
    "information.min_relation": (0.12, "largest correlation with accuracy, length or a shipped reward, at least"),
    "information.max_unstable": (0.0, "share of replies with another value when scored again or in another order"),
    "information.max_padding": (0.05, "share of replies with another value when white space is added"),
    "groups.max_flat": (0.95, "share of groups in which all replies earn the same, at most"),
    "groups.min_share": (0.01, "advantage share beside accuracy, under scale_rewards=group, at least"),
    "groups.min_agreement": (0.5, "upper end of the interval of sign agreement with accuracy's advantage, at least"),
    "tricks.max_gain": (
        0.1,
        "what a trick earns more than honesty, of the reward's range (and p < 5 % over all tricks)",
    ),
    "tricks.max_edit_gain": (0.1, "what a harmful edit adds to honest replies, of the range (and p < 1 %)"),
    "tricks.max_search_gain": (0.1, "what the search earns more than the best real or honest reply, of the range"),
    "video.min_move": (0.02, "mean change when the clip is another one, of the reward's range, at least"),
    "video.max_wrong_way": (0.02, "mean gain of right replies when the clip is another one, of the range, at most"),
}


FALSE_ALARMS = Path(__file__).parent / "data" / "false_alarms.json"


@cache
def false_alarms() -> Mapping[str, Mapping[str, str]]:
    """Return threshold -> how many probes of honest rewards it fails, "honest", and of a random one, "random"."""
    measured: Mapping[str, Mapping[str, str]] = json.loads(FALSE_ALARMS.read_text())
    return measured


def thresholds_with(changes: Iterable[str] = ()) -> dict[str, float]:
    """Return the thresholds, some of them changed by "NAME=VALUE". Raises UserError for wrong names and values."""
    values = {name: default for name, (default, _) in THRESHOLDS.items()}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in values:
            raise UserError(f"no threshold {name!r}.{suggest(name, values)}")
        try:
            values[name] = float(value)
        except ValueError as error:
            raise UserError(f"threshold {name}: {value!r} is no number: give NAME=VALUE") from error
        if isnan(values[name]):
            raise UserError(f"threshold {name}: nan never fails: give a number")
    return values


@dataclass(frozen=True)
class Checks:
    """Compares numbers with thresholds, and collects findings."""

    limits: Mapping[str, float]

    def at_least(self, name: str, value: float | None, text: str) -> list[Finding]:
        """Return a finding that fails if the value is below its limit; none if there is no value."""
        return [] if value is None else [Finding(name, self.limits[name], value, value < self.limits[name], text)]

    def at_most(self, name: str, value: float | None, text: str) -> list[Finding]:
        """Return a finding that fails if the value is above its limit; none if there is no value."""
        return [] if value is None else [Finding(name, self.limits[name], value, value > self.limits[name], text)]


def block(name: str, numbers: Mapping[str, Any], findings: Sequence[Finding], good: str) -> Block:
    """Return a block: failed with the texts of the findings that fail, or passed with the text `good`."""
    failed = [finding.text for finding in findings if finding.failed]
    return Block(name, FAIL if failed else PASS, "; ".join(failed) or good, tuple(findings), numbers)


def skipped(name: str, why: str) -> Block:
    """Return a block that was not measured."""
    return Block(name, SKIPPED, why)
