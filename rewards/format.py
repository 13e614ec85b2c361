"""1 when the reply is one thought and then one answer, and nothing else (the form of DeepSeek-R1, arXiv:2501.12948).

SEED-Bench-R1 matches `<think>.*?</think>\\s*<answer>.*?</answer>` at the start only, so anything may follow. GRPO-CARE
and Video-R1 match the whole reply, but `.*?` still accepts nested and repeated tags and empty blocks. Ours accepts none
of these.
"""

import re

from rlvid.reward import each
from rlvid.types import Completion, Prompt

# The position of each tag. All four match exactly when the reply is well-formed.
TAG_POSITIONS = {
    "<think>": r"\A\s*<think>",
    "</think>": r"<think>\s*\S.*</think>",
    "<answer>": r"</think>\s*<answer>",
    "</answer>": r"<answer>\s*\S.*</answer>\s*\Z",
}


@each
def format(completion: Completion, prompt: Prompt, *, partial: bool = False) -> float:
    """Return 1 or 0; with `partial`, 1/4 for each tag that occurs once (in any case) and in its position."""
    text = completion.text
    lower = text.lower()
    placed = [
        lower.count(tag) == 1 and bool(re.search(position, text, re.S)) for tag, position in TAG_POSITIONS.items()
    ]
    return sum(placed) / len(placed) if partial else float(all(placed))
