"""How well the time span in the answer covers the true one: temporal IoU (Time-R1, arXiv:2503.13377).

tIoU = |intersection| / |union| of [start, end] in seconds and `prompt.meta["span"]`, from 0 to 1. With `edges` it is
multiplied by how close start and end are, relative to the duration, as in Time-R1's second version.

Known hack: the whole video has tIoU = length of the span / length of the video. If `prompt.meta["duration"]` is known,
ours subtracts that much and rescales the rest to 1, which no published version does.
"""

import re

from rewards._words import answer_text
from rlvid.reward import each
from rlvid.types import Completion, Prompt

_TIME = r"((?:\d+:){0,2}\d+(?:\.\d+)?)"  # seconds, minutes:seconds, or hours:minutes:seconds
_SPAN = re.compile(rf"(?<![\d:]){_TIME}\s*(?:(?:s|secs?|seconds?)\.?)?\s*(?:to|and|until|-|–)\s*{_TIME}(?!:?\d)")


@each
def grounding_tiou(completion: Completion, prompt: Prompt, *, edges: bool = False) -> float | None:
    """0 to 1; None without a gold span; 0 unless the one `<answer>` names one span ("3 to 8", "1:02:03 - 1:05:06")."""
    if "span" not in prompt.meta:
        return None
    spans = _SPAN.findall(answer_text(completion.text) or "")
    if len(spans) != 1:
        return 0.0
    start, end = map(_seconds, spans[0])
    gold_start, gold_end = prompt.meta["span"]
    intersection = min(end, gold_end) - max(start, gold_start)
    union = max(end, gold_end) - min(start, gold_start)
    if intersection <= 0 or start >= end:
        return 0.0

    duration = prompt.meta.get("duration")
    gold_length = gold_end - gold_start
    baseline = gold_length / duration if duration and duration > gold_length else 0.0  # the tIoU of the whole video
    closeness = 1.0
    if edges and duration:
        closeness = (1 - abs(start - gold_start) / duration) * (1 - abs(end - gold_end) / duration)
    return max(0.0, intersection / union - baseline) / (1 - baseline) * max(0.0, closeness)


def _seconds(time: str) -> float:
    """Return the seconds of "8.5", "1:02" or "1:02:03"."""
    seconds = 0.0
    for part in time.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
