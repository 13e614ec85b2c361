"""Consistency rewards against hand-computed values: GRPO-CARE with its published flaws, and the others."""

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
    """Return (thought, letter) replies to the prompt as a group, with their accuracy and evidence."""
    result = Group(PROMPT, [Completion(f"<think>{t}</think><answer>{a}</answer>") for t, a in replies])
    result.columns["accuracy"] = [float(c.answer == "B") for c in result]
    result.evidence = evidence
    return result


def care(full: Sequence[float], letters: str, **options: Any) -> list[float | None]:
    """Return GRPO-CARE's bonus for replies with these letters, which have probabilities `full` under the reference."""
    likelihoods = [
        Likelihood(tuple(p if x == a else 0.0 for x in "ABCD"), EVEN, EVEN) for p, a in zip(full, letters, strict=True)
    ]
    replies = group(*(("so", a) for a in letters), answer_likelihood=likelihoods)
    return ConsistencyLikelihood(**options)([replies])[0]


def test_care_pays_half_of_accuracy_to_right_answers_that_are_likelier_than_their_mean() -> None:
    assert care([0.9, 0.5, 0.6, 0.99], "BBBC") == [0.5, 0, 0, 0]  # the mean of the right is 0.667
    assert care([0.9, 0.5, 0.6, 0.99], "BBBC", margin=0.1) == [0.5, 0, 0.5, 0]
    assert care([0.9, 0.9], "CD") == [0, 0]
    likelihoods = [Likelihood((0, p, 0, 0), EVEN, EVEN) for p in (0.5, 0.9, 0.6)]
    graded = group(*[("so", "B")] * 3, answer_likelihood=likelihoods)
    graded.columns["accuracy"] = [1.0, 0.5, 0.8]  # the second is below the mean, so that the threshold is 0.55
    assert ConsistencyLikelihood()([graded]) == [[0, 0, pytest.approx(0.5 * 0.8)]]
    assert graded.evidence["agreement/consistency_likelihood"] == [0.5, 0.9, 0.6], "what audits read: right or wrong"


def test_the_ceiling_of_care_makes_certain_answers_equal() -> None:
    assert care([0.96, 0.999], "BB") == [0.5, 0.5]
    assert care([0.96, 0.999], "BB", ceiling=1.0) == [0, 0.5]


def test_published_flaws_of_care_pay_a_group_of_empty_thoughts_and_cancel_for_certain_answers() -> None:
    empty = care([0.2, 0.1, 0.2, 0.1], "BBBB")
    assert empty == [0.5, 0, 0.5, 0], "relative: there is always a better half"
    certain = care([0.99, 0.99, 0.3, 0.3], "BBCC")
    accuracy = torch.tensor([[1.0, 1, 0, 0]])
    with_bonus, without = (GRPO().advantages(r) for r in (accuracy + torch.tensor([certain]), accuracy))
    torch.testing.assert_close(with_bonus, without, rtol=0, atol=1e-3)


def test_the_gain_pays_no_thought_that_carries_less_than_the_pixels() -> None:
    def likelihood(no_reasoning: float, no_video: float) -> Likelihood:
        return Likelihood((0.0, 0.9, 0.1, 0.0), *((0.0, p, 1 - p, 0.0) for p in (no_reasoning, no_video)))

    likelihoods = [likelihood(0.5, p) for p in (0.9, 0.3, 0.6, 0.1)]
    replies = group(("a", "B"), ("b", "B"), ("c", "B"), ("d", "C"), answer_likelihood=likelihoods)
    reward = ConsistencyLikelihood(gain=True)
    assert reward.support(likelihood(0.5, 0.9), "B") == pytest.approx(log(0.9 / 0.5))
    assert reward.support(likelihood(0.0, 1.0), "B") == pytest.approx(log(0.95 / 1e-6)), "both are bounded"
    assert reward.support(likelihood(1.0, 0.0), "B") == pytest.approx(log(1e-6 / 0.95))
    assert reward([replies]) == [[0.5, 0, 0.5, 0]]  # gains 0.59, -0.51, 0.18: the mean is 0.09
    assert replies.evidence["agreement/consistency_likelihood"] == [1, 0, 1, 1], "of wrong answers, too"
    empty = group(("a", "B"), ("b", "B"), answer_likelihood=[likelihood(0.5, 0.3), likelihood(0.5, 0.2)])
    assert reward([empty]) == [[0, 0]], "none of the right answers is supported by its thought"


def test_without_a_thought_consistency_is_0() -> None:
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


def test_reanswer_pays_a_reproduced_option_and_the_gate_requires_a_right_one() -> None:
    replies = group(("a", "B"), ("b", "B"), ("c", "C"), ("d", "C"), reanswer=["B", "A", "C", "B"])
    assert ConsistencyReanswer()([replies]) == [[1, 0, 0, 0]]
    assert ConsistencyReanswer(gated=False)([replies]) == [[1, 0, 1, 0]]


def test_a_gated_reward_does_not_apply_where_accuracy_does_not() -> None:
    replies = group(("a", "B"), reanswer=["B"])
    replies.columns["accuracy"] = [None]
    assert ConsistencyReanswer()([replies]) == [[None]]


def test_the_embedding_reward_is_the_softmax_of_cosines_at_the_chosen_option() -> None:
    replies = group(("It runs. Close the tap.", "B"), ("It runs. Close the tap.", "C"), embeddings=embed)
    cosines = embed(PROMPT.options) @ embed(["Close the tap."])[0] / 0.05
    shares = np.exp(cosines) / np.exp(cosines).sum()
    assert ConsistencyEmbedding(gated=False)([replies])[0] == pytest.approx(shares[[1, 2]], abs=1e-3)
    assert ConsistencyEmbedding()([replies])[0] == pytest.approx([shares[1], 0], abs=1e-3)
    assert replies.evidence["consistency_embedding"][1] == pytest.approx(0.05 * cosines, abs=1e-4)


def test_only_the_last_sentence_of_a_thought_is_its_conclusion() -> None:
    early = group(("The tap runs. Close the tap. Dry hands. Fold it.", "B"), embeddings=embed)
    late = group(("Dry hands. Fold it. The tap runs. Close the tap.", "B"), embeddings=embed)
    assert ConsistencyEmbedding()([late])[0][0] > ConsistencyEmbedding()([early])[0][0] + 0.2


def test_the_nli_reward_is_the_lead_over_the_next_option() -> None:
    entailment = {"open tap": 0.3, "close tap": 0.8, "cut onion": 0.1, "wash pan": 0.0}
    scored: list[tuple[str, str]] = []

    def nli(pairs: Sequence[tuple[str, str]]) -> list[float]:
        scored.extend(pairs)
        return [entailment[hypothesis.removeprefix("The answer is: ").removesuffix(".")] for _, hypothesis in pairs]

    replies = group(("It runs. Close it.", "B"), ("It runs. Close it.", "A"), nli=nli)
    assert ConsistencyNli(gated=False)([replies]) == [[pytest.approx(0.5), 0.0]]
    assert ConsistencyNli(gated=False, hard=True)([replies]) == [[1.0, 0.0]]
    assert replies.evidence["consistency_nli"] == [[0.3, 0.8, 0.1, 0.0]] * 2
    assert scored[:4] == sorted(("It runs. Close it.", f"The answer is: {o}.") for o in PROMPT.options)


def test_soft_accuracy_is_the_probability_of_the_gold_letter_if_the_reply_has_an_answer() -> None:
    replies = group(("a", "B"), ("b", "C"), ("c", "B or C"), answer_probs=[(0.1, 0.7, 0.2, 0.0)] * 3)
    assert SoftAccuracy()([replies]) == [[0.7, 0.7, 0.0]]
