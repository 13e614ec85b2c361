"""Information: what the reward says that accuracy, length and the shipped rewards do not, and how reliably."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlvid.probes.reasoning_pairs import generated_pairs, handwritten_pairs
from rlvid.probes.result import Block
from rlvid.probes.statistics import auroc, correlation, correlation_within, flat, interval
from rlvid.probes.subject import Scored, Subject
from rlvid.probes.verdicts import Checks, block
from rlvid.types import Completion, Group

SAME = 0.999  # a reward that correlates with another one so highly is that one, up to its scale
EXACT, CLOSE = 1e-4, 0.05  # of the range: a model's values change by rounding when its batch does
PADDING = ("\n", " \n ")  # before and after a reply
RELIABILITY_GROUPS, WITH_POLICY = 32, 6  # groups that are scored again
Numbers = Mapping[str, Any]


def measure_information(scored: Scored, own: str = "") -> Numbers:
    """Return AUROC of right against wrong, and correlations with accuracy, length, format and the shipped rewards.

    `own` is the probed reward's column, if it is a shipped one: it is not compared with itself.
    """
    values = flat(scored.column)
    right, lengths = flat(scored.others["accuracy"]), reply_lengths(scored.groups)
    others = {name: correlation(values, flat(column)) for name, column in scored.others.items() if name != own}
    known = {name: value for name, value in others.items() if value is not None}
    numbers: dict[str, Any] = {
        "auroc": auroc(values, right),
        "correlations": known | {"tokens": correlation(values, lengths)},
        "length_given_right": correlation_within(values, lengths, right),
    }
    sizes = [abs(value) for value in numbers["correlations"].values() if value is not None]
    numbers["largest_relation"] = max(sizes, default=None)
    numbers["auroc_interval"] = _auroc_interval(scored)
    return numbers


def measure_reliability(subject: Subject, scored: Scored) -> Numbers:
    """Return the shares of replies that get another value: scored again, in another order, and with white space around.

    The order changes between groups and, without replies to altered views, within them. White space changes no token.
    Values differ if they are further apart than rounding, or with white space than 5 % of the reward's range.
    """
    count = WITH_POLICY if subject.evidence.needs_policy else RELIABILITY_GROUPS
    groups, first = scored.groups[:count], scored.column[:count]
    step = 1 if any(need.startswith("view:") for need in subject.needs) else -1  # views pair completions by position
    turned = [Group(g.prompt, list(g.completions)[::step]) for g in groups[::-1]]
    padded = [
        Group(g.prompt, [Completion(PADDING[0] + c.text + PADDING[1], c.tokens, finished=c.finished) for c in g])
        for g in groups
    ]
    in_first_order = [row[::step] for row in subject.score(turned)[::-1]]
    known = flat(scored.column)
    scale = float(np.nanmax(known) - np.nanmin(known))
    return {
        "changed_twice": _share_changed(first, subject.score(groups), EXACT * scale),
        "changed_order": _share_changed(first, in_first_order, EXACT * scale),
        "changed_padding": _share_changed(first, subject.score(padded), CLOSE * scale),
    }


def measure_coherence(subject: Subject, scored: Scored) -> Numbers:
    """Return the AUROC of replies whose answer follows from their reasoning against replies whose answer does not.

    Two sets of pairs: conclusions in the language of the embedded kitchen, and handwritten prose. Only where the reward
    needs no policy. Each answer counts as the right one, so accuracy does not help, and gates are open.
    """
    sets = {
        "kitchen": generated_pairs([g.prompt for g in scored.groups if g.prompt.demonstration]),
        "prose": handwritten_pairs(),
    }
    numbers = {}
    for name, pairs in sets.items():
        if pairs:
            prompts = [replace(pair.prompt, answer=pair.answer) for pair in pairs]
            groups = [Group(prompt, [pair.completion]) for prompt, pair in zip(prompts, pairs, strict=True)]
            values = subject.score_flat(groups)
            consistent = np.array([float(pair.consistent) for pair in pairs])
            numbers[name] = auroc(flat([values]), consistent)
    return {"coherence": {name: value for name, value in numbers.items() if value is not None}}


def judge_information(numbers: Numbers, checks: Checks) -> Block:
    """Return the block "information": what was measured about right and wrong replies, judged by its thresholds."""
    area, bounds = numbers["auroc"], numbers.get("auroc_interval")
    findings = []
    if bounds:
        text = f"wrong replies earn more than right ones: AUROC {area:.2f} ({bounds[0]:.2f} to {bounds[1]:.2f})"
        findings += checks.at_least("information.min_auroc", bounds[1], text)
    length = numbers["length_given_right"]
    what = "length" if (length or 0) >= 0 else "shortness"
    text = f"it pays for {what}: correlation {length or 0:+.2f} with length among right and among wrong replies"
    findings += checks.at_most("information.max_length", None if length is None else abs(length), text)
    text = "it looks like noise: no correlation with accuracy, length or any shipped reward"
    relation = numbers["largest_relation"]
    findings += checks.at_least("information.min_relation", relation, f"{text} is above {relation or 0:.2f}")
    ways = {"changed_twice": "when scored again", "changed_order": "in another order"}
    for key, way in ways.items():
        if key in numbers:
            text = f"{numbers[key]:.0%} of the replies get another value {way}"
            findings += checks.at_most("information.max_unstable", numbers[key], text)
    if "changed_padding" in numbers:
        text = f"{numbers['changed_padding']:.0%} of the replies get another value when white space is added"
        findings += checks.at_most("information.max_padding", numbers["changed_padding"], text)
    return block("information", numbers, findings, _in_words(numbers))


def same_as(numbers: Numbers) -> str:
    """Return the shipped reward that this one equals up to its scale, "" if there is none."""
    related = {name: value for name, value in numbers["correlations"].items() if value is not None}
    return next((name for name, value in related.items() if value >= SAME and name != "tokens"), "")


def _in_words(numbers: Numbers) -> str:
    if same := same_as(numbers):
        return f"it is {same} up to its scale: correlation {numbers['correlations'][same]:.3f}"
    area, bounds = numbers["auroc"], numbers.get("auroc_interval")
    if area is None:
        return "right and wrong replies cannot be compared"
    words = f"AUROC of right against wrong {area:.2f}"
    if not bounds:
        return words
    words += f" ({bounds[0]:.2f} to {bounds[1]:.2f})"
    return words if bounds[0] > 0.5 else f"{words}: it says nothing about right and wrong"


def reply_lengths(groups: Sequence[Group]) -> np.ndarray:
    """Return the number of tokens of each reply, in order."""
    return np.array([len(completion.tokens) for group in groups for completion in group], float)


def _auroc_interval(scored: Scored) -> tuple[float, float] | None:
    values = [np.array(row, dtype=float) for row in scored.column]  # None becomes NaN
    right = [np.array(row, dtype=float) for row in scored.others["accuracy"]]

    def area(chosen: np.ndarray) -> float | None:
        return auroc(np.concatenate([values[i] for i in chosen]), np.concatenate([right[i] for i in chosen]))

    return interval(area, len(values))


def _share_changed(a: Sequence[Sequence[float | None]], b: Sequence[Sequence[float | None]], tolerance: float) -> float:
    first, second = flat(a), flat(b)
    changed = ~(np.isclose(first, second, rtol=0, atol=tolerance, equal_nan=True))
    return float(changed.mean()) if len(changed) else 0.0
