"""The labelled pairs of reasoning and answer are sound, and the AUROC table in rewards/README.md is reproduced here.

python -m pytest tests/rewards/test_consistency_set.py -s    # prints the table
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from rlvid.answer import LETTERS
from rlvid.probes.reasoning_pairs import Pair, handwritten_pairs, split_halves
from tests.helpers.reward_audit import auroc, auroc_of_text_reward, demonstrated_pairs, draw_questions, pair_table
from tests.helpers.tables import README, rows


@pytest.fixture(scope="module", params=["generated", "handwritten"])
def pairs(request: pytest.FixtureRequest, kitchen: Path) -> list[Pair]:
    """Each of the two sets."""
    return demonstrated_pairs(kitchen) if request.param == "generated" else handwritten_pairs()


def test_the_sets_are_large_and_balanced_and_their_halves_share_no_question(pairs: list[Pair]) -> None:
    assert len(pairs) == 600 or (len(pairs) == 128 and pairs[0].prompt.question.startswith("What action"))
    tuning, reported = split_halves(pairs)
    assert min(len(tuning), len(reported)) >= 50 and len(tuning) + len(reported) == len(pairs)
    assert not {p.prompt.id for p in tuning} & {p.prompt.id for p in reported}
    assert Counter(p.consistent for p in reported) == {True: len(reported) // 2, False: len(reported) // 2}
    assert all(p.completion.thought == p.thought for p in pairs)


def test_neither_the_letter_nor_the_right_option_reveals_the_label(pairs: list[Pair]) -> None:
    counts = Counter((p.answer, p.consistent) for p in pairs)
    for letter in LETTERS[:4]:
        consistent_share = counts[letter, True] / (counts[letter, True] + counts[letter, False])
        assert 0.35 < consistent_share < 0.65, letter
    if pairs[0].prompt.answer:
        consistent_but_wrong = [p for p in pairs if p.consistent and p.answer != p.prompt.answer]
        inconsistent_but_right = [p for p in pairs if not p.consistent and p.answer == p.prompt.answer]
        assert len(consistent_but_wrong) > 50 and len(inconsistent_but_right) > 30


def test_the_last_word_of_a_generated_thought_is_its_conclusion(kitchen: Path) -> None:
    for pair in demonstrated_pairs(kitchen, 40):
        ingredient = re.search(r"Next is the (\w+)\.$", pair.thought)[1]
        chosen = pair.prompt.options["ABCD".index(pair.answer)]
        assert (ingredient in chosen.split()) == pair.consistent


def test_a_part_of_the_questions_is_drawn_whole_and_always_the_same() -> None:
    pairs = handwritten_pairs()
    drawn = draw_questions(pairs, 5)
    assert drawn == draw_questions(pairs, 5) and len({pair.prompt.id for pair in drawn}) == 5 and len(drawn) == 40
    assert drawn == [pair for pair in pairs if pair in drawn], "in their order"
    assert draw_questions(pairs, None) == draw_questions(pairs, 99) == pairs


def test_auroc_equals_that_of_sklearn(kitchen: Path) -> None:
    pairs = demonstrated_pairs(kitchen, 30)
    scores = [len(p.thought) % 7 + 2.0 * p.consistent for p in pairs]
    area = float(auroc(pairs, scores).partition(" ")[0])
    assert area == pytest.approx(roc_auc_score([p.consistent for p in pairs], scores), abs=0.005)


def test_a_judge_or_a_cross_encoder_fills_the_empty_cells(kitchen: Path) -> None:
    pairs = demonstrated_pairs(kitchen, 30)

    def judge(prompts: Sequence[str]) -> list[str | None]:
        """Reply with the letter that a generated thought concludes; every tenth call fails."""
        replies = []
        for i, prompt in enumerate(prompts):
            ingredient = re.search(r"Next is the (\w+)\.", prompt)[1]
            options = re.findall(r"^([A-D])\. (.+)$", prompt, re.M)
            letters = [letter for letter, option in options if ingredient in option.split()]
            replies.append(None if i % 10 == 9 else "".join(letters))
        return replies

    def nli(pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return 1 where the hypothesis shares a word with the end of the premise, else 0."""
        ends = [premise.split(" the ")[-1] for premise, _ in pairs]
        words = [
            ({*re.findall(r"\w+", end)}, {*re.findall(r"\w+", h)}) for end, (_, h) in zip(ends, pairs, strict=True)
        ]
        return [float(bool(end & hypothesis)) for end, hypothesis in words]

    assert 0.9 < float(auroc_of_text_reward(pairs, "consistency_judge", "judge", judge).split()[0]) < 1
    assert auroc_of_text_reward(pairs, "consistency_nli", "nli", nli).startswith("1.00")
    assert auroc_of_text_reward(pairs, "consistency_nli", "nli", None) == ""


def test_the_table_in_the_readme_is_reproduced(kitchen: Path) -> None:
    text = pair_table(kitchen)
    print(f"\n{text}")
    shown = rows(README.read_text())
    for reward, cells in rows(text).items():
        if reward not in ("reward", "---"):
            for computed, expected in zip(cells, shown[reward], strict=False):
                if computed:  # cells that need a model are empty here
                    numbers = [[*map(float, re.findall(r"\d\.\d\d", cell))] for cell in (computed, expected)]
                    assert numbers[0] == pytest.approx(numbers[1], abs=0.02), reward
