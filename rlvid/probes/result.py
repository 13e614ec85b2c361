"""The result of a probe: plain data, one block for each question."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"


@dataclass(frozen=True)
class Finding:
    """One number against its threshold."""

    threshold: str  # its name, see verdicts.THRESHOLDS
    limit: float
    value: float
    failed: bool
    text: str  # in words, with the number


@dataclass(frozen=True)
class Block:
    """One part of a probe: what was measured and what follows.

    Attributes:
        name: "value", "information", "groups", "tricks" or "video".
        verdict: "pass", "fail" or "skipped".
        text: the verdict in words.
        findings: every number that was compared with a threshold.
        numbers: all numbers, as JSON.
    """

    name: str
    verdict: str
    text: str
    findings: tuple[Finding, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings of this block that crossed their threshold."""
        return tuple(finding for finding in self.findings if finding.failed)


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found. `result["tricks"]` is a block; `result.failed` names the blocks that failed.

    Attributes:
        reward: its name.
        where: its file and form, "" for a shipped one.
        options: those that were set.
        source: where the replies come from, in words.
        tokens: what lengths are counted in.
        groups, replies: how many.
        seconds: that the probe took.
        blocks: in order.
    """

    reward: str
    where: str
    options: Mapping[str, Any]
    source: str
    tokens: str
    groups: int
    replies: int
    seconds: float
    blocks: tuple[Block, ...]

    def __getitem__(self, name: str) -> Block:
        return {block.name: block for block in self.blocks}[name]

    @property
    def failed(self) -> list[str]:
        """The names of the blocks that failed."""
        return [block.name for block in self.blocks if block.verdict == FAIL]

    def to_json(self) -> str:
        """Return the whole result, numbers and findings of every block, as indented JSON text.

        A number that is infinite or not known is null.
        """
        return json.dumps(_finite(asdict(self)), indent=1, ensure_ascii=False, allow_nan=False)

    def print(self) -> None:
        """Print the report of all blocks to the terminal, as `rlvid probe` does."""
        from rlvid.probes.render import print_result

        print_result(self)

    def _repr_html_(self) -> str:
        """Show the report in a notebook."""
        from rlvid.probes.render import to_html

        return to_html(self)

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{block.name} {block.verdict}" for block in self.blocks)
        return f"ProbeResult({self.reward}: {verdicts})"


def _finite(value: Any) -> Any:
    """Return nested data with None for numbers that JSON does not have, such as that of `--threshold NAME=inf`."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
