"""Grounding rewards against hand-computed values: T-GRPO with its flaw, counterparts, narrations, spans, boxes."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.dr_grpo import DrGRPO
from algorithms.grpo import GRPO
from rewards._words import clauses, common_length, lemmas, ordered_f1, sentences
from rewards.grounding_counterfactual import GroundingCounterfactual
from rewards.grounding_narrations import GroundingNarrations
from rewards.grounding_temporal import GroundingTemporal
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.registry import build
from rlvid.types import Completion, Group, Prompt


def group_with_view(accuracy: list[float], view: str, other: list[float], video: str | None = "clip.mp4") -> Group:
    """Return a group with these accuracies, and with `other` accuracies under a view."""
    prompt = Prompt(id="q", question="?", options=("a", "b"), answer="A", video=video)
    altered = Group(prompt, [Completion("")] * len(other), columns={"accuracy": [*other]})
    group = Group(prompt, [Completion("")] * len(accuracy), columns={"accuracy": [*accuracy]})
    group.evidence[f"view:{view}"] = altered
    return group


def test_temporal_pays_right_answers_if_they_are_not_much_rarer_than_with_shuffled_frames() -> None:
    better = group_with_view([1, 1, 1, 0], "shuffled", [1, 0])
    slightly_worse = group_with_view([1, 0, 0, 0, 1], "shuffled", [1, 0])
    much_worse = group_with_view([1, 0, 0, 0], "shuffled", [1, 1])
    assert GroundingTemporal()([better]) == [[0.3, 0.3, 0.3, 0]]
    assert GroundingTemporal()([slightly_worse]) == [[0.3, 0, 0, 0, 0.3]], "0.4 >= 0.8 * 0.5"
    assert GroundingTemporal(threshold=1.0)([slightly_worse]) == [[0] * 5]
    assert GroundingTemporal()([much_worse]) == [[0] * 4]


def test_the_margin_of_temporal_pays_by_how_much_order_matters() -> None:
    [row] = GroundingTemporal(margin=True)([group_with_view([1, 1, 1, 0], "shuffled", [1, 0])])
    assert row == pytest.approx([0.3 * 0.25] * 3 + [0])
    assert GroundingTemporal(margin=True)([group_with_view([1, 0, 0, 0], "shuffled", [1, 0])]) == [[0] * 4]


def test_rewards_of_views_do_not_apply_without_a_video() -> None:
    assert GroundingTemporal()([group_with_view([1, 0], "shuffled", [1, 0], video=None)]) == [[None, None]]
    without = group_with_view([1, 0], "blank", [0, None], video=None)
    assert GroundingCounterfactual()([without]) == [[None, None]]
    without.prompt = replace(without.prompt, image="frame.png")
    assert GroundingCounterfactual()([without]) == [[1, 0]], "an image has pixels, too; None counts as wrong"


@pytest.mark.parametrize("margin", [False, True])
def test_the_bonus_of_temporal_cancels_in_grpo_and_weights_questions_in_dr_grpo(margin: bool) -> None:
    accuracy = torch.tensor([[1.0, 1, 0, 0]])
    bonus = torch.tensor(GroundingTemporal(margin=margin)([group_with_view([1, 1, 0, 0], "shuffled", [0, 0])]))
    assert bonus.sum() > 0
    torch.testing.assert_close(GRPO().advantages(accuracy + bonus), GRPO().advantages(accuracy), rtol=0, atol=1e-3)
    assert (DrGRPO().advantages(accuracy + bonus).abs() > 1.1 * DrGRPO().advantages(accuracy).abs()).all()


def test_paired_counterparts_separate_right_answers_of_a_group_and_their_mean_does_not() -> None:
    group = group_with_view([1, 1, 0, 0], "blank", [1, 0, 1, 0])
    accuracy = torch.tensor([[1.0, 1, 0, 0]])
    assert GroundingCounterfactual()([group]) == [[0, 1, 0, 0]]
    assert GroundingCounterfactual(paired=False)([group]) == [[0.5, 0.5, 0, 0]]
    paired, mean = (torch.tensor(GroundingCounterfactual(paired=p)([group])) for p in (True, False))
    first, second, *_ = GRPO().advantages(accuracy + paired)[0]
    assert second - first > 1
    torch.testing.assert_close(GRPO().advantages(accuracy + mean), GRPO().advantages(accuracy), rtol=0, atol=1e-3)


def test_a_completion_without_a_counterpart_is_compared_with_their_mean() -> None:
    assert GroundingCounterfactual()([group_with_view([1, 1, 1, 0], "blank", [1, 0])]) == [[0, 1, 0.5, 0]]
    assert GroundingCounterfactual()([group_with_view([1], "blank", [1, 0])]) == [[0]]


def test_completions_under_an_altered_view_have_no_counterpart() -> None:
    group = group_with_view([1, 1, 1, 1], "blank", [1, 0])
    for i in (0, 2):
        group.completions[i] = replace(group.completions[i], view="noise:300")
    assert GroundingCounterfactual()([group]) == [[0.5, 0, 0.5, 1]], "the second and the fourth were sampled first"


KITCHEN = Prompt(
    id="q",
    question="What should I do next in order to make tea?",
    options=("pour milk", "open fridge", "close tap", "wash cup"),
    answer="A",
    video="clip.mp4",
    narrations=("open fridge", "take milk", "fill kettle", "stir tea"),
)


def score_thoughts(*thoughts: str, prompt: Prompt = KITCHEN, **options: Any) -> list[float | None]:
    """Return the row of `grounding_narrations` for thoughts."""
    group = Group(prompt, [Completion(f"<think>{t}</think><answer>A</answer>") for t in thoughts])
    group.evidence["embeddings"] = embed
    return GroundingNarrations(**options)([group])[0]


def test_narrated_words_that_are_not_in_the_prompt_count_in_order() -> None:
    # what remains of the narrations: take, fill, kettle, stir
    assert score_thoughts("She took the milk, filled the kettle and stirred the tea.") == [1.0]
    assert score_thoughts("She stirred the tea, filled the kettle and took the milk.") == [pytest.approx(2 * 2 / 8)]
    assert score_thoughts("She took it.") == [pytest.approx(2 * 1 / 5)]
    assert score_thoughts("open fridge, pour milk, close tap, wash cup, make tea", "") == [0, 0]


def fact_counts(thought: str, **options: Any) -> list[int]:
    """Return the counts of facts told, of these not narrated, of facts narrated, of these not told."""
    group = Group(KITCHEN, [Completion(f"<think>{thought}</think><answer>A</answer>")])
    group.evidence["embeddings"] = embed
    GroundingNarrations(**options)([group])
    return [*group.evidence["grounding_narrations"][0].values()]


def test_invented_and_omitted_facts_are_counted_in_any_order() -> None:
    # what remains of the narrations: take, fill, kettle, stir
    assert fact_counts("She stirred it, then took an axe.") == [3, 1, 4, 2]
    assert fact_counts("") == [0, 0, 4, 4]
    assert fact_counts("Filled the kettle. Flew away.", by="embedding", leaks=True) == [2, 1, 4, 3]


def test_the_gate_pays_for_narrations_only_if_the_answer_is_right() -> None:
    group = Group(KITCHEN, [Completion(f"<think>She stirred.</think><answer>{a}</answer>") for a in "ABA"])
    group.columns["accuracy"] = [1.0, 0.0, None]
    plain, gated = GroundingNarrations()([group])[0], GroundingNarrations(gated=True)([group])[0]
    assert plain[0] > 0 and gated == [plain[0], 0.0, None]
    assert GroundingNarrations().needs == {"narrations"}
    assert GroundingNarrations(gated=True).needs == {"narrations", "column:accuracy"}


def test_facts_that_did_not_happen_lower_the_score() -> None:
    honest, stuffed = score_thoughts(
        "took milk, filled kettle, stirred", "took chopped fried filled grated kettle sliced stirred"
    )
    assert stuffed < honest == 1


def test_narrations_do_not_apply_if_the_prompt_contains_them_all() -> None:
    leaky = Prompt(id="q", question="?", options=("open fridge", "take milk"), narrations=("take milk",), video="v")
    assert score_thoughts("took milk", prompt=leaky) == [None]
    assert score_thoughts("took milk", prompt=leaky, leaks=True) == [1.0]
    assert score_thoughts("took milk", prompt=leaky, by="embedding") == [None]


@pytest.mark.parametrize("by", ["lemma", "embedding"])
def test_to_repeat_the_question_earns_nothing(by: str) -> None:
    question = "She opened the fridge. What next?"
    told = Prompt("q", question, ("wash cup", "close tap"), "A", "v", narrations=("open the fridge", "stir the tea"))
    assert score_thoughts("She opened the fridge.", "She stirred the tea.", prompt=told, by=by) == [0.0, 1.0]


def test_clauses_that_mean_a_narration_count_by_embedding() -> None:
    thoughts = "They filled up the kettle, then stirred the tea.", "They mowed the lawn."
    same_meaning, other = score_thoughts(*thoughts, by="embedding")
    assert same_meaning > 0.5 and other == 0


def test_an_unknown_way_to_compare_narrations_is_refused() -> None:
    with pytest.raises(UserError, match='by must be "lemma" or "embedding", not \'stem\''):
        build("rewards", "grounding_narrations", by="stem")


def test_an_option_without_effect_is_refused() -> None:
    with pytest.raises(UserError, match='similar has no effect: words are compared as they are; set by = "embedding"'):
        build("rewards", "grounding_narrations", similar=0.9)
    assert build("rewards", "grounding_narrations", similar=0.9, by="embedding").similar == 0.9
    with pytest.raises(UserError, match="threshold has no effect: with margin the bonus is in proportion to p - q"):
        build("rewards", "grounding_temporal", margin=True, threshold=1.0)
    assert build("rewards", "grounding_temporal", margin=True).threshold == 0.8


def test_words_become_dictionary_forms_and_texts_become_clauses() -> None:
    assert lemmas("Took the Knives, and was chopping 2 onions!") == ["take", "knife", "chop", "2", "onion"]
    assert clauses("He opened it, then poured milk and left. Done") == ["He opened it", "poured milk", "left", "Done"]
    assert clauses(" , then. ") == [] and sentences(" \nOne. Two!\n \n Three ") == ["One.", "Two!", "Three"]


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_common_length_is_that_of_the_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    def slow(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        return max(slow(i + 1, j), slow(i, j + 1), 1 + slow(i + 1, j + 1) if a[i] == b[j] else 0)

    assert common_length(a, b) == slow(0, 0)
    assert 0 <= ordered_f1(a, b) == ordered_f1(b, a) <= 1


def score(name: str, meta: dict[str, Any], *answers: str, **options: Any) -> list[float | None]:
    """Return a reward's row for answers to a record with this `meta`."""
    prompt = Prompt(id="q", question="When?", meta=meta)
    return build("rewards", name, **options)([Group(prompt, [Completion(f"<answer>{a}</answer>") for a in answers])])[0]


def test_temporal_iou_equals_hand_computed_values() -> None:
    span = {"span": (2, 6)}
    answers = "4 to 8", "from 2.0s to 6.0s", "0:02 - 0:06", "7 to 9", "8 to 4", "1 to 2 or 4 to 8", "soon", "2"
    assert score("grounding_tiou", span, *answers) == [pytest.approx(1 / 3), 1, 1, 0, 0, 0, 0, 0]
    units = "3 secs to 8 secs", "3 second to 8 second", "3 sec. to 8 sec.", "3s-8s"
    assert score("grounding_tiou", {"span": (3, 8)}, *units) == [1, 1, 1, 1]
    assert score("grounding_tiou", {"span": (62, 66)}, "1:02 - 1:06") == [1]
    hours = {"span": (3723, 3906)}  # 1:02:03 to 1:05:06
    answers = "1:02:03 to 1:05:06", "1:03:34.5 - 1:05:06", "62:03 to 65:06", "1:02:03:04 to 1:05:06", "2:03 to 1:05"
    assert score("grounding_tiou", hours, *answers) == [1, 0.5, 1, 0, 0]
    assert score("grounding_tiou", {}, "2 to 6") == [None]


def test_the_span_of_the_whole_video_earns_nothing_if_the_duration_is_known() -> None:
    assert score("grounding_tiou", {"span": (2, 6)}, "0 to 10") == [0.4]
    known = {"span": (2, 6), "duration": 10}
    assert score("grounding_tiou", known, "0 to 10", "2 to 6", "4 to 8") == [0, 1, 0]
    assert score("grounding_tiou", known, "2 to 7") == [pytest.approx((0.8 - 0.4) / 0.6)]
    assert score("grounding_tiou", known, "2 to 7", edges=True) == [pytest.approx(0.9 * (0.8 - 0.4) / 0.6)]
    later = {"span": (3, 7), "duration": 10}  # the start is 1 s early, the end 2 s late; the end is 1 s early
    expected = [0.9 * 0.8 * (4 / 7 - 0.4) / 0.6, 0.9 * (3 / 4 - 0.4) / 0.6]
    assert score("grounding_tiou", later, "2 to 9", "3 to 6", edges=True) == pytest.approx(expected)


def test_a_duration_that_is_unknown_or_no_longer_than_the_span_subtracts_nothing() -> None:
    assert score("grounding_tiou", {"span": (3, 7)}, "3 to 6", edges=True) == [0.75]
    for duration in (4, 3):  # 3: cut off in the metadata
        short = {"span": (3, 7), "duration": duration}
        assert score("grounding_tiou", short, "3 to 7", "3 to 6") == [1, 0.75]
        assert score("grounding_tiou", short, "3 to 11", edges=True) == [0], "4 s late is as far as any"


def test_box_iou_equals_hand_computed_values() -> None:
    box = {"box": (0, 0, 4, 4)}
    answers = "[0, 0, 4, 4]", "(2, 2, 6, 6)", "5 5 9 9", "4 4 0 0", "[0,0,4,4] or [1,1,2,2]", "left"
    assert score("grounding_box_iou", box, *answers) == [1, pytest.approx(4 / 28), 0, 0, 0, 0]
    assert score("grounding_box_iou", box, "4 0 0 4", "0 4 4 0") == [0, 0], "one pair of edges in the wrong order"
    # width 3 - 1, height 8 - 4: 8 of 18 + 24 - 8; and 2 * 2.5 of 25
    wide = {"box": (1, 2, 5, 8)}
    assert score("grounding_box_iou", wide, "[0, 4, 3, 10]", "[1, 2, 3, 4.5]") == pytest.approx([8 / 34, 5 / 24])
    assert score("grounding_box_iou", {"box": (-4, 0, 4, 4)}, "[-4, 0, 0, 4]") == [0.5]
    assert score("grounding_box_iou", {}, "[0, 0, 4, 4]") == [None]
