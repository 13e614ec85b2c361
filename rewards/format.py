"""1 when the reply is one thought and then one answer, and nothing else (the form of DeepSeek-R1, arXiv:2501.12948).

SEED-Bench-R1 matches `<think>.*?</think>\\s*<answer>.*?</answer>` at the start only, so anything may follow; GRPO-CARE
and Video-R1 match the whole reply, but `.*?` still takes nested and repeated tags and empty blocks. Ours takes none.
"""

import re

from rlvid.reward import each
from rlvid.types import Completion, Prompt

# Where each tag belongs. All four hold exactly when the reply is well-formed.
PLACES = {
    "<think>": r"\A\s*<think>",
    "</think>": r"<think>\s*\S.*</think>",
    "<answer>": r"</think>\s*<answer>",
    "</answer>": r"<answer>\s*\S.*</answer>\s*\Z",
}


@each
def format(completion: Completion, prompt: Prompt, *, partial: bool = False) -> float:
    """1 or 0; with `partial`, a quarter for each tag that occurs once (in any case) and stands in its place."""
    text = completion.text
    placed = [text.lower().count(tag) == 1 and bool(re.search(place, text, re.S)) for tag, place in PLACES.items()]
    return sum(placed) / len(placed) if partial else float(all(placed))
