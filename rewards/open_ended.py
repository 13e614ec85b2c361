"""How right an answer in words or numbers is, for records without options (R1's rule-based reward, arXiv:2501.12948).

Where the gold answer is mathematics, math-verify says whether the reply's is equal: 1 or 0. Otherwise ROUGE-L's F
between their words (Lin 2004), from 0 to 1, on dictionary forms. Known hack: a long list of likely words earns part of
F; a negated answer ("do not open the tap") nearly all of it. Video-R1 (arXiv:2503.21776) averages ROUGE-1, 2 and L on
stems, and is told by the record which verifier to use; ours asks the gold answer itself.
"""

import re

from rewards._words import answered, lemmas, ordered_f1
from rlvid.reward import each
from rlvid.types import Completion, Prompt

_NUMBER = re.compile(r"[-+\d.,/%$\\{}^=()\s]*\d[-+\d.,/%$\\{}^=()\s]*|\$.+\$|\\boxed\{.+\}", re.S)


@each
def open_ended(completion: Completion, prompt: Prompt) -> float | None:
    """From 0 to 1; None for multiple choice, or without a gold answer (`prompt.answer`, here a text)."""
    if prompt.options or prompt.answer is None:
        return None
    said = answered(completion.text)
    if said is None:
        return 0.0
    if _NUMBER.fullmatch(prompt.answer.strip()):
        return _equal(prompt.answer, said)
    return ordered_f1(lemmas(said), lemmas(prompt.answer))


def _equal(gold: str, said: str) -> float:
    from math_verify import parse, verify

    return float(verify(parse(gold, parsing_timeout=None), parse(said, parsing_timeout=None), timeout_seconds=None))
