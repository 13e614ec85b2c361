"""Grounding rewards, by hand: T-GRPO as published with its flaw, twins without pixels, narrations, spans and boxes."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.dr_grpo import DrGRPO
from algorithms.grpo import GRPO
from rewards._words import clauses, common_length, lemmas, ordered_f1
from rewards.grounding_counterfactual import GroundingCounterfactual
from rewards.grounding_narrations import GroundingNarrations
from rewards.grounding_temporal import GroundingTemporal
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.registry import build
from rlvid.types import Completion, Group, Prompt


def verdicts(accuracy: list[float], view: str, other: list[float], video: str | None = "clip.mp4") -> Group:
    """A group with these verdicts, and another under a view."""
    prompt = Prompt(id="q", question="?", options=("a", "b"), answer="A", video=video)
    altered = Group(prompt, [Completion("")] * len(other), columns={"accuracy": [*other]})
    group = Group(prompt, [Completion("")] * len(accuracy), columns={"accuracy": [*accuracy]})
    group.evidence[f"view:{view}"] = altered
    return group


def test_temporal_pays_right_answers_if_order_hardly_hurts() -> None:
    better, worse, far = ([1, 1, 1, 0], [1, 0]), ([1, 0, 0, 0, 1], [1, 0]), ([1, 0, 0, 0], [1, 1])
    assert GroundingTemporal()([verdicts(better[0], "shuffled", better[1])]) == [[0.3, 0.3, 0.3, 0]]
    assert GroundingTemporal()([verdicts(worse[0], "shuffled", worse[1])]) == [[0.3, 0, 0, 0, 0.3]], ".4 >= .8 of .5"
    assert GroundingTemporal(threshold=1.0)([verdicts(worse[0], "shuffled", worse[1])]) == [[0] * 5]
    assert GroundingTemporal()([verdicts(far[0], "shuffled", far[1])]) == [[0] * 4]


def test_temporals_margin_pays_by_how_much_order_matters() -> None:
    assert GroundingTemporal(margin=True)([verdicts([1, 1, 1, 0], "shuffled", [1, 0])])[0] == pytest.approx(
        [0.3 * 0.25] * 3 + [0]
    )
    assert GroundingTemporal(margin=True)([verdicts([1, 0, 0, 0], "shuffled", [1, 0])]) == [[0] * 4]


def test_no_video_has_no_order() -> None:
    assert GroundingTemporal()([verdicts([1, 0], "shuffled", [1, 0], video=None)]) == [[None, None]]
    assert GroundingCounterfactual()([verdicts([1, 0], "blank", [1, 0], video=None)]) == [[None, None]]


@pytest.mark.parametrize("margin", [False, True])
def test_temporals_bonus_vanishes_in_grpos_advantages_and_weighs_questions_in_dr_grpos(margin: bool) -> None:
    accuracy = torch.tensor([[1.0, 1, 0, 0]])
    bonus = torch.tensor(GroundingTemporal(margin=margin)([verdicts([1, 1, 0, 0], "shuffled", [0, 0])]))
    assert bonus.sum() > 0
    torch.testing.assert_close(GRPO().advantages(accuracy + bonus), GRPO().advantages(accuracy), rtol=0, atol=1e-3)
    assert (DrGRPO().advantages(accuracy + bonus).abs() > 1.1 * DrGRPO().advantages(accuracy).abs()).all()


def test_twins_tell_right_answers_of_a_group_apart_and_their_mean_does_not() -> None:
    group = verdicts([1, 1, 0, 0], "blank", [1, 0, 1, 0])
    accuracy, plain = torch.tensor([[1.0, 1, 0, 0]]), GRPO().advantages(torch.tensor([[1.0, 1, 0, 0]]))
    assert GroundingCounterfactual()([group]) == [[0, 1, 0, 0]]
    assert GroundingCounterfactual(paired=False)([group]) == [[0.5, 0.5, 0, 0]]
    paired, mean = (torch.tensor(GroundingCounterfactual(paired=p)([group])) for p in (True, False))
    first, second, *_ = GRPO().advantages(accuracy + paired)[0]
    assert second - first > 1
    torch.testing.assert_close(GRPO().advantages(accuracy + mean), plain, rtol=0, atol=1e-3)


def test_a_reply_without_a_twin_meets_their_mean() -> None:
    assert GroundingCounterfactual()([verdicts([1, 1, 1, 0], "blank", [1, 0])]) == [[0, 1, 0.5, 0]]
    assert GroundingCounterfactual()([verdicts([1], "blank", [1, 0])]) == [[0]]


KITCHEN = Prompt(
    id="q",
    question="What should I do next in order to make tea?",
    options=("pour milk", "open fridge", "close tap", "wash cup"),
    answer="A",
    video="clip.mp4",
    narrations=("open fridge", "take milk", "fill kettle", "stir tea"),
)


def told(*thoughts: str, prompt: Prompt = KITCHEN, **fields: Any) -> list[float | None]:
    """The row of `grounding_narrations` for some thoughts."""
    group = Group(prompt, [Completion(f"<think>{t}</think><answer>A</answer>") for t in thoughts])
    group.evidence["embeddings"] = embed
    return GroundingNarrations(**fields)([group])[0]


def test_narrated_words_that_the_prompt_does_not_say_count_in_order() -> None:
    # left of the narrations: take, fill, kettle, stir
    assert told("She took the milk, filled the kettle and stirred the tea.") == [1.0]
    assert told("She stirred the tea, filled the kettle and took the milk.") == [pytest.approx(2 * 2 / 8)]
    assert told("She took it.") == [pytest.approx(2 * 1 / 5)]
    assert told("open fridge, pour milk, close tap, wash cup, make tea", "") == [0, 0]


def counts(thought: str, **fields: Any) -> list[int]:
    """Told, of these not narrated, narrated, of these not told."""
    group = Group(KITCHEN, [Completion(f"<think>{thought}</think><answer>A</answer>")])
    group.evidence["embeddings"] = embed
    GroundingNarrations(**fields)([group])
    return [*group.evidence["grounding_narrations"][0].values()]


def test_what_is_made_up_and_what_is_left_out_is_counted_in_whatever_order() -> None:
    # left of the narrations: take, fill, kettle, stir
    assert counts("She stirred it, then took an axe.") == [3, 1, 4, 2]
    assert counts("") == [0, 0, 4, 4]
    assert counts("Filled the kettle. Flew away.", by="embedding", leaks=True) == [2, 1, 4, 3]


def test_the_gate_pays_for_looking_only_where_the_answer_is_right() -> None:
    group = Group(KITCHEN, [Completion(f"<think>She stirred.</think><answer>{a}</answer>") for a in "ABA"])
    group.columns["accuracy"] = [1.0, 0.0, None]
    plain, gated = GroundingNarrations()([group])[0], GroundingNarrations(gated=True)([group])[0]
    assert plain[0] > 0 and gated == [plain[0], 0.0, None]
    assert GroundingNarrations().needs == {"narrations"}
    assert GroundingNarrations(gated=True).needs == {"narrations", "column:accuracy"}


def test_what_did_not_happen_costs() -> None:
    honest, stuffed = told(
        "took milk, filled kettle, stirred", "took chopped fried filled grated kettle sliced stirred"
    )
    assert stuffed < honest == 1


def test_where_the_prompt_says_it_all_there_is_nothing_to_check() -> None:
    leaky = Prompt(id="q", question="?", options=("open fridge", "take milk"), narrations=("take milk",), video="v")
    assert told("took milk", prompt=leaky) == [None]
    assert told("took milk", prompt=leaky, leaks=True) == [1.0]
    assert told("took milk", prompt=leaky, by="embedding") == [None]


def test_clauses_that_mean_a_narration_count_by_embedding() -> None:
    said, other = told("They filled up the kettle, then stirred the tea.", "They mowed the lawn.", by="embedding")
    assert said > 0.5 and other == 0


def test_another_way_to_compare_is_refused() -> None:
    with pytest.raises(UserError, match='by must be "lemma" or "embedding", not \'stem\''):
        build("rewards", "grounding_narrations", by="stem")


def test_words_become_dictionary_forms() -> None:
    assert lemmas("She took the knives, and was chopping 2 onions!") == ["take", "knife", "chop", "2", "onion"]
    assert clauses("He opened it, then poured milk and left. Done") == ["He opened it", "poured milk", "left", "Done"]


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_common_is_the_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    def slow(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        return max(slow(i + 1, j), slow(i, j + 1), 1 + slow(i + 1, j + 1) if a[i] == b[j] else 0)

    assert common_length(a, b) == slow(0, 0)
    assert 0 <= ordered_f1(a, b) == ordered_f1(b, a) <= 1


def score(name: str, meta: dict[str, Any], *answers: str, **fields: Any) -> list[float | None]:
    """A row for answers to a record with such gold."""
    prompt = Prompt(id="q", question="When?", meta=meta)
    return build("rewards", name, **fields)([Group(prompt, [Completion(f"<answer>{a}</answer>") for a in answers])])[0]


def test_temporal_iou_by_hand() -> None:
    span = {"span": (2, 6)}
    said = "4 to 8", "from 2.0s to 6.0s", "0:02 - 0:06", "7 to 9", "8 to 4", "1 to 2 or 4 to 8", "soon", "2"
    assert score("grounding_tiou", span, *said) == [pytest.approx(1 / 3), 1, 1, 0, 0, 0, 0, 0]
    assert score("grounding_tiou", {"span": (62, 66)}, "1:02 - 1:06") == [1]
    assert score("grounding_tiou", {}, "2 to 6") == [None]


def test_the_whole_video_earns_nothing_where_its_length_is_known() -> None:
    assert score("grounding_tiou", {"span": (2, 6)}, "0 to 10") == [0.4]
    known = {"span": (2, 6), "duration": 10}
    assert score("grounding_tiou", known, "0 to 10", "2 to 6", "4 to 8") == [0, 1, 0]
    assert score("grounding_tiou", known, "2 to 7") == [pytest.approx((0.8 - 0.4) / 0.6)]
    assert score("grounding_tiou", known, "2 to 7", edges=True) == [pytest.approx(0.9 * (0.8 - 0.4) / 0.6)]


def test_box_iou_by_hand() -> None:
    box = {"box": (0, 0, 4, 4)}
    said = "[0, 0, 4, 4]", "(2, 2, 6, 6)", "5 5 9 9", "4 4 0 0", "[0,0,4,4] or [1,1,2,2]", "left"
    assert score("grounding_box_iou", box, *said) == [1, pytest.approx(4 / 28), 0, 0, 0, 0]
    assert score("grounding_box_iou", {}, "[0, 0, 4, 4]") == [None]
