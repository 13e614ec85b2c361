"""How well a box that the answer names covers the true one: intersection over union (VLM-R1, arXiv:2504.07615).

IoU of [x1, y1, x2, y2] against `prompt.meta["box"]`, in the same pixels, from 0 to 1. Known hack: to name several boxes
and hope that the best one counts; such an answer earns nothing here. A box around the whole picture earns the share of
it that the true one fills.
"""

import re

from rewards._words import answered
from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def grounding_box_iou(completion: Completion, prompt: Prompt) -> float | None:
    """From 0 to 1; None without a gold box; 0 unless the one `<answer>` holds just four numbers, in order."""
    if "box" not in prompt.meta:
        return None
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", answered(completion.text) or "")]
    if len(numbers) != 4 or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        return 0.0
    mine, gold = numbers, prompt.meta["box"]
    width = min(mine[2], gold[2]) - max(mine[0], gold[0])
    height = min(mine[3], gold[3]) - max(mine[1], gold[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / (_area(mine) + _area(gold) - both)


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
