"""How close a number is to the true one: mean relative accuracy (VSI-Bench, arXiv:2412.14171), from 0 to 1.

The share of the thresholds 0.5, 0.55, .., 0.95 for which the relative error is within 1 - threshold: half of the true
number earns 0.1, and with `inequality = "<"` nothing. Unlike exact equality it tells a near miss from a wild guess.

Known hack: the typical number of such questions ("3 chairs") earns much without looking; compare with a constant.

Video-R1 evaluates with `error < 1 - threshold` in single precision, lmms-eval with `<=` in double precision. Video-R1's
training reward is another one, 1 - relative error. Ours reads the number from the only `<answer>` block.
"""

from rlvid.answer import block, mean_relative_accuracy, parse_number
from rlvid.errors import UserError
from rlvid.reward import each
from rlvid.types import Completion, Prompt


@each
def mra(completion: Completion, prompt: Prompt, *, inequality: str = "<=") -> float | None:
    """From 0 to 1; None if the prompt has options, or a gold answer that is no number."""
    if inequality not in ("<", "<="):
        raise UserError(f'reward mra: inequality must be "<" or "<=", not {inequality!r}')
    gold = None if prompt.options else parse_number(prompt.answer or "")
    if gold is None:
        return None
    number = parse_number(block(completion.text) or "")
    return 0.0 if number is None else mean_relative_accuracy(number, gold, inequality)
