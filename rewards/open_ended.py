"""How right an answer in words or numbers is, for records without options (R1's rule-based reward, arXiv:2501.12948).

If the gold answer is mathematics, math-verify decides whether the reply's answer is equal: 1 or 0. It reads plain text
as the last number in it, so a pair, a set or a list is given to it as LaTeX: "(3, 4)" is not 4. An answer such as
"9^9^9", which it would evaluate for ever, earns 0, and so does one with a LaTeX command that is not known to end and is
not in the gold answer, such as "\\Gamma". Otherwise ROUGE-L's F1 between their words (Lin 2004), from 0 to 1, on
dictionary forms without articles; 1 if the texts are equal but for case and spaces. A script without spaces between
words, such as Chinese, is compared by whole phrases.

Known hacks: a long list of likely words earns part of F1; a negated answer ("do not open the tap") two thirds of it.

Video-R1 (arXiv:2503.21776) averages ROUGE-1, 2 and L on stems, and its records name the verifier to use; ours chooses
it by the form of the gold answer.
"""

import re

from rewards._words import answer_text, answer_words, ordered_f1
from rlvid.reward import each
from rlvid.types import Completion, Prompt

_STRUCTURED = re.compile(r"[(\[{,+]")  # a pair, a set, a list or a sign
_IS_LATEX = re.compile(r"\$|\\boxed|\d\s+\d")  # or would be read as a product, as "1 000" would
_POWER = re.compile(r"[\w)}\]]\s*(?:\^|\*\*)\s*\{?\s*-?\d{1,2}\s*\}?(?!\d)")  # of at most two digits
_MAY_NOT_END = re.compile(r"\^|\*\*|\d{3}\s*!|[)}\]!]\s*!")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_ENDS = re.compile(  # commands whose evaluation ends
    "[dt]?frac|sqrt|boxed|text(?:bf)?|math(?:rm|bf)|left|right|q?quad|l?dots|cdot|times|div|pm|log|ln|sin|cos|tan|"
    "[lg]eq?|[lg]t|neq?|approx|in|cup|cap|emptyset|infty|circ|pi|alpha|beta|theta|mu"
)
_MOST_POWERS = 3
_MATHEMATICS = re.compile(r"[-+\d.,/%$\\{}^=()\s]*\d[-+\d.,/%$\\{}^=()\s]*|\$.+\$|\\boxed\{.+\}", re.S)


@each
def open_ended(completion: Completion, prompt: Prompt) -> float | None:
    """From 0 to 1; None for multiple choice, or without a gold answer (`prompt.answer`, which is a text here)."""
    if prompt.options or prompt.answer is None:
        return None
    answer = answer_text(completion.text)
    if answer is None:
        return 0.0
    if _MATHEMATICS.fullmatch(prompt.answer.strip()):
        return _is_equal(prompt.answer, answer)
    if answer.casefold().split() == prompt.answer.casefold().split():
        return 1.0
    return ordered_f1(answer_words(answer), answer_words(prompt.answer))


def _is_equal(gold: str, answer: str) -> float:
    """Return 1 if two texts are equal as mathematics, else 0."""
    from math_verify import parse, verify

    if answer.split() == gold.split():
        return 1.0
    unknown = {*_COMMAND.findall(answer)} - {*_COMMAND.findall(gold)}
    if not all(map(_ENDS.fullmatch, unknown)) or (_may_not_end(answer) and not _may_not_end(gold)):
        return 0.0
    texts = [gold, answer]
    if _STRUCTURED.search(gold) and not _IS_LATEX.search(gold):
        texts[0] = f"${gold.strip()}$"
        if len(answer) <= 100 and re.fullmatch(r"[-+\d.,/(){}\[\]\s]+", answer):  # no powers, which may be huge
            texts.append(f"${answer.strip()}$")
    expected, *readings = [parse(text, parsing_timeout=None) for text in texts]
    return float(any(verify(expected, reading, timeout_seconds=None) for reading in readings))


def _may_not_end(text: str) -> bool:
    """Return whether to evaluate a text may take for ever: a power of a power, a large factorial.

    >>> [_may_not_end(text) for text in ("2^{10} + 3**2", "x^2", "4!", "12 apples!")]
    [False, False, False, False]
    >>> [_may_not_end(text) for text in ("9^9^9", "2^999", "999!")]
    [True, True, True]
    """
    rest, powers = _POWER.subn("", text)
    return powers > _MOST_POWERS or bool(_MAY_NOT_END.search(rest))
