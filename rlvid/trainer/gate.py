"""The confidence gate of replies with two answers: a sure first answer ends the reply before its thought.

After VideoAuto-R1 (arXiv:2601.05175; IVUL-KAUST/VideoAuto-R1 f7d91a3, lmms_eval/models/simple/early_exit.py). The
confidence of a first answer is exp(mean log-prob of its tokens), as they were sampled: at temperature 1 where decoding
is greedy. As there, every reply is generated in full and cut afterwards, so what the gate saves is counted, not timed;
and a reply without a second answer is never cut, nor one whose first answer is the phrase "Let's analyze ...".

Ours takes the tokens that the answer's characters stand in. The released code takes the first place in the reply where
the tokens of the answer's letter occur, which for "b" may be the b of "boxed", and also reads a first box within the
thought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from math import exp
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rlvid.answer import ANSWER_MARK, inside, option_letter
from rlvid.types import Completion, Group

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FALLBACK = "Let's analyze"
EVIDENCE = "confidence_gate"


def apply_gate(group: Group, threshold: float, tokenizer: PreTrainedTokenizerBase) -> Group:
    """Return a group whose replies end after their first answer if its confidence is `threshold` or more.

    The evidence "confidence_gate" has one entry per reply, whether it was cut or not: the confidence (None where the
    gate does not apply), whether it was cut, both letters, the number of tokens before the cut, and the uncut text.
    """
    completions, records = [], []
    for completion in group:
        letters = first_and_second(completion)
        confidence, end = first_confidence(completion, [tokenizer.decode([token]) for token in completion.tokens])
        is_cut = confidence is not None and confidence >= threshold
        records.append(
            {
                "confidence": confidence,
                "skipped": is_cut,
                "first": letters[0],
                "second": letters[1],
                "length": len(completion.tokens),
                "text": completion.text,
            }
        )
        completions.append(cut(completion, end) if is_cut else completion)
    return Group(group.prompt, completions, evidence={**group.evidence, EVIDENCE: records})


def first_and_second(completion: Completion) -> tuple[str | None, str | None]:
    """Return the letters of the answers before the thought and at the end; None where there is none."""
    before, think, _ = completion.text.partition("<think>")
    marks = ANSWER_MARK.findall(before) if think else []
    first = option_letter(inside(marks[0]), completion.options) if len(marks) == 1 else None
    return first, completion.answer


def first_confidence(completion: Completion, pieces: Sequence[str]) -> tuple[float | None, int]:
    """Return exp(mean log-prob) of a reply's first answer, and the number of tokens to the end of that answer.

    The confidence is None without a first answer before the thought, without another answer after it, or if the first
    answer is empty or begins with "Let's analyze". `pieces` are the texts of the completion's tokens.
    """
    text = "".join(pieces)
    marks = [*ANSWER_MARK.finditer(text)]
    if len(marks) < 2 or "<think>" not in text[marks[0].end() :] or "<think>" in text[: marks[0].start()]:
        return None, 0
    content = inside(marks[0][0])
    if not content.strip() or content.lstrip().startswith(FALLBACK):
        return None, 0
    # The characters [start, stop) of the reply are the first answer, without its tags and the white space around it:
    #
    #     <answer> B </answer><think>...
    #              ^ start   ^ end of the mark
    opening = len("<answer>" if marks[0][0].startswith("<") else "\\boxed{")
    leading_space = len(content) - len(content.lstrip())
    start = marks[0].start() + opening + leading_space
    stop = start + len(content.strip())

    # Token i has the characters [begins[i], begins[i] + len(pieces[i])).
    begins = list(accumulate(map(len, pieces), initial=0))[:-1]
    tokens = list(zip(begins, pieces, completion.logps, strict=True))
    answer_logps = [logp for begin, piece, logp in tokens if begin < stop and begin + len(piece) > start]
    num_tokens = sum(begin < marks[0].end() for begin in begins)
    return exp(fmean(answer_logps)), num_tokens


def cut(completion: Completion, length: int) -> Completion:
    """Return the completion up to the end of its first answer; `length` is the number of its tokens."""
    mark = ANSWER_MARK.search(completion.text)
    assert mark is not None
    return replace(
        completion,
        text=completion.text[: mark.end()],
        tokens=completion.tokens[:length],
        logps=completion.logps[:length],
        finished=True,
    )


def gate_metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what a gate did to the rows of a level; {} without a gate.

    skipped: share of questions that end after their first answer. tokens_saved: share of all tokens of the uncut
    replies. first_accuracy, second_accuracy: had all replies been read at their first or at their last answer.
    """
    gated = [(row, row["evidence"][EVIDENCE][0]) for row in rows if EVIDENCE in row.get("evidence", {})]
    if not gated:
        return {}
    generated = sum(record["length"] for _, record in gated)
    return {
        "skipped": fmean(record["skipped"] for _, record in gated),
        "tokens_saved": 1 - sum(row["length"] for row, _ in gated) / max(generated, 1),
        "first_accuracy": fmean(record["first"] == row["gold"] for row, record in gated),
        "second_accuracy": fmean(record["second"] == row["gold"] for row, record in gated),
    }
