"""How well the box in the answer covers the true one: intersection over union (VLM-R1, arXiv:2504.07615).

IoU of [x1, y1, x2, y2] with `prompt.meta["box"]`, in the same pixels, from 0 to 1.

Known hacks: to name several boxes, in the hope that the best one counts, earns nothing here. A box around the whole
picture earns the share of the picture that the true box fills.
"""

import re
from collections.abc import Sequence

from rewards._words import answer_text
from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def grounding_box_iou(completion: Completion, prompt: Prompt) -> float | None:
    """From 0 to 1; None without a gold box; 0 unless the one `<answer>` holds exactly four numbers, in order."""
    if "box" not in prompt.meta:
        return None
    box = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", answer_text(completion.text) or "")]
    if len(box) != 4 or box[0] >= box[2] or box[1] >= box[3]:
        return 0.0
    gold = prompt.meta["box"]
    width = min(box[2], gold[2]) - max(box[0], gold[0])
    height = min(box[3], gold[3]) - max(box[1], gold[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    return intersection / (_area(box) + _area(gold) - intersection)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
