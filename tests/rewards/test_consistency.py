"""Consistency rewards, by hand: GRPO-CARE as published with its flaws, and what each of the others asks."""

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
import pytest
import torch

from algorithms.grpo import GRPO
from rewards.consistency_embedding import ConsistencyEmbedding
from rewards.consistency_likelihood import ConsistencyLikelihood
from rewards.consistency_nli import ConsistencyNli
from rewards.consistency_reanswer import ConsistencyReanswer
from rewards.soft_accuracy import SoftAccuracy
from rlvid.judges.encoder import embed
from rlvid.types import Completion, Group, Likelihood, Prompt

PROMPT = Prompt(id="q", question="Next?", options=("open tap", "close tap", "cut onion", "wash pan"), answer="B")
EVEN = (0.25,) * 4


def group(*replies: tuple[str, str], **evidence: Any) -> Group:
    """(thought, letter) replies to the prompt, with their accuracy and some evidence."""
    found = Group(PROMPT, [Completion(f"<think>{t}</think><answer>{a}</answer>") for t, a in replies])
    found.columns["accuracy"] = [float(c.answer == "B") for c in found]
    found.evidence = evidence
    return found


def care(full: Sequence[float], letters: str, **fields: Any) -> list[float | None]:
    """GRPO-CARE's bonus for replies with these letters, found so likely by the reference."""
    told = [
        Likelihood(tuple(p if x == a else 0.0 for x in "ABCD"), EVEN, EVEN) for p, a in zip(full, letters, strict=True)
    ]
    return ConsistencyLikelihood(**fields)([group(*(("so", a) for a in letters), answer_likelihood=told)])[0]


def test_care_pays_half_of_accuracy_to_the_likelier_half_of_the_right() -> None:
    assert care([0.9, 0.5, 0.6, 0.99], "BBBC") == [0.5, 0, 0, 0]  # the mean of the right is 0.667
    assert care([0.9, 0.5, 0.6, 0.99], "BBBC", margin=0.1) == [0.5, 0, 0.5, 0]
    assert care([0.9, 0.9], "CD") == [0, 0]


def test_cares_ceiling_makes_sure_answers_equal() -> None:
    assert care([0.96, 0.999], "BB") == [0.5, 0.5]
    assert care([0.96, 0.999], "BB", ceiling=1.0) == [0, 0.5]


def test_cares_flaws_as_published_a_hollow_group_is_paid_and_a_sure_one_earns_no_credit() -> None:
    hollow = care([0.2, 0.1, 0.2, 0.1], "BBBB")
    assert hollow == [0.5, 0, 0.5, 0], "relative: there is always a better half"
    sure = care([0.99, 0.99, 0.3, 0.3], "BBCC")
    accuracy = torch.tensor([[1.0, 1, 0, 0]])
    with_bonus, without = (GRPO().advantages(r) for r in (accuracy + torch.tensor([sure]), accuracy))
    torch.testing.assert_close(with_bonus, without, rtol=0, atol=1e-3)


def test_the_gain_pays_no_thought_that_says_less_than_the_pixels() -> None:
    def told(no_reasoning: float, no_video: float) -> Likelihood:
        return Likelihood((0.0, 0.9, 0.1, 0.0), *((0.0, p, 1 - p, 0.0) for p in (no_reasoning, no_video)))

    replies = group(
        ("a", "B"), ("b", "B"), ("c", "B"), ("d", "C"), answer_likelihood=[told(0.5, p) for p in (0.9, 0.3, 0.6, 0.1)]
    )
    reward = ConsistencyLikelihood(gain=True)
    assert reward.support(told(0.5, 0.9), "B") == pytest.approx(log(0.9 / 0.5))
    assert reward([replies]) == [[0.5, 0, 0.5, 0]]  # gains 0.59, -0.51, 0.18: the mean is 0.09
    hollow = group(("a", "B"), ("b", "B"), answer_likelihood=[told(0.5, 0.3), told(0.5, 0.2)])
    assert reward([hollow]) == [[0, 0]], "none of the right answers is supported by its thought"


def test_without_a_thought_there_is_nothing_to_be_consistent() -> None:
    bare = Group(PROMPT, [Completion("<answer>B</answer>")], columns={"accuracy": [1.0]})
    bare.evidence = {"answer_likelihood": [None], "reanswer": [None], "answer_probs": [None], "embeddings": embed}
    bare.evidence["nli"] = lambda pairs: [1.0 for _ in pairs]
    for reward in (
        ConsistencyLikelihood(),
        ConsistencyReanswer(),
        ConsistencyEmbedding(),
        ConsistencyNli(),
        SoftAccuracy(),
    ):
        assert reward([bare]) == [[0.0]]


def test_reanswer_asks_for_the_same_option_and_the_gate_for_the_right_one() -> None:
    replies = group(("a", "B"), ("b", "B"), ("c", "C"), ("d", "C"), reanswer=["B", "A", "C", "B"])
    assert ConsistencyReanswer()([replies]) == [[1, 0, 0, 0]]
    assert ConsistencyReanswer(gated=False)([replies]) == [[1, 0, 1, 0]]


def test_the_gate_does_not_apply_where_accuracy_does_not() -> None:
    replies = group(("a", "B"), reanswer=["B"])
    replies.columns["accuracy"] = [None]
    assert ConsistencyReanswer()([replies]) == [[None]]


def test_embedding_is_the_softmax_of_cosines_at_the_chosen_option() -> None:
    replies = group(("It runs. Close the tap.", "B"), ("It runs. Close the tap.", "C"), embeddings=embed)
    cosines = embed(PROMPT.options) @ embed(["Close the tap."])[0] / 0.05
    shares = np.exp(cosines) / np.exp(cosines).sum()
    assert ConsistencyEmbedding(gated=False)([replies])[0] == pytest.approx(shares[[1, 2]], abs=1e-3)
    assert ConsistencyEmbedding()([replies])[0] == pytest.approx([shares[1], 0], abs=1e-3)
    assert replies.evidence["consistency_embedding"][1] == pytest.approx(0.05 * cosines, abs=1e-4)


def test_only_the_end_of_a_thought_is_its_conclusion() -> None:
    early = group(("The tap runs. Close the tap. Dry hands. Fold it.", "B"), embeddings=embed)
    late = group(("Dry hands. Fold it. The tap runs. Close the tap.", "B"), embeddings=embed)
    assert ConsistencyEmbedding()([late])[0][0] > ConsistencyEmbedding()([early])[0][0] + 0.2


def test_nli_is_the_lead_over_the_next_option() -> None:
    told = {"open tap": 0.3, "close tap": 0.8, "cut onion": 0.1, "wash pan": 0.0}
    asked: list[tuple[str, str]] = []

    def nli(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(pairs)
        return [told[hypothesis.removeprefix("The answer is: ").removesuffix(".")] for _, hypothesis in pairs]

    replies = group(("It runs. Close it.", "B"), ("It runs. Close it.", "A"), nli=nli)
    assert ConsistencyNli(gated=False)([replies]) == [[pytest.approx(0.5), 0.0]]
    assert ConsistencyNli(gated=False, hard=True)([replies]) == [[1.0, 0.0]]
    assert replies.evidence["consistency_nli"] == [[0.3, 0.8, 0.1, 0.0]] * 2
    assert asked[:4] == sorted(("It runs. Close it.", f"The answer is: {o}.") for o in PROMPT.options)


def test_soft_accuracy_is_the_gold_letters_probability_if_an_answer_was_given() -> None:
    replies = group(("a", "B"), ("b", "C"), ("c", "B or C"), answer_probs=[(0.1, 0.7, 0.2, 0.0)] * 3)
    assert SoftAccuracy()([replies]) == [[0.7, 0.7, 0.0]]
