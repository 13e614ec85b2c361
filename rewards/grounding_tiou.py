"""How well a span of time that the answer names covers the true one: temporal IoU (Time-R1, arXiv:2503.13377).

tIoU = |I| / |U| of [start, end] in seconds against `prompt.meta["span"]`, from 0 to 1. Known hack: the whole video has
tIoU = length of the span / length of the video; with `prompt.meta["duration"]` known, that much is taken off and the
rest stretched back to 1, which no published version does. Time-R1's second version multiplies by how near start and end
are, relative to the duration; `edges` does so.
"""

import re

from rewards._words import answered
from rlvid.reward import each
from rlvid.types import Completion, Prompt

_TIME = r"(?:(\d+):)?(\d+(?:\.\d+)?)"
_SPAN = re.compile(rf"{_TIME}\s*(?:s|sec|seconds)?\s*(?:to|and|until|-|–)\s*{_TIME}")


@each
def grounding_tiou(completion: Completion, prompt: Prompt, *, edges: bool = False) -> float | None:
    """From 0 to 1; None without a gold span; 0 unless the one `<answer>` names one span ("3.5 to 8", "0:03 - 0:08")."""
    if "span" not in prompt.meta:
        return None
    spans = _SPAN.findall(answered(completion.text) or "")
    if len(spans) != 1:
        return 0.0
    (a, b), (start, end) = (_seconds(*spans[0][:2]), _seconds(*spans[0][2:])), prompt.meta["span"]
    inside, whole = min(b, end) - max(a, start), max(b, end) - min(a, start)
    if inside <= 0 or a >= b:
        return 0.0
    duration = prompt.meta.get("duration")
    floor = (end - start) / duration if duration and duration > end - start else 0.0
    near = (1 - abs(a - start) / duration) * (1 - abs(b - end) / duration) if edges and duration else 1.0
    return max(0.0, inside / whole - floor) / (1 - floor) * max(0.0, near)


def _seconds(minutes: str, seconds: str) -> float:
    return 60 * float(minutes or 0) + float(seconds)
