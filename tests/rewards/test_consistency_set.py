"""Labelled reasonings: the sets are sound, and the AUROC table in rewards/README.md is what is computed here.

python -m pytest tests/test_consistency_set.py -s    # shows the table
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from rlvid.answer import LETTERS
from tests.helpers.reasoning_pairs import Pair, drawn, halves, real
from tests.helpers.reward_audit import auroc, by_text, pair_table
from tests.helpers.tables import README, rows


@pytest.fixture(scope="module", params=["drawn", "real"])
def pairs(request: pytest.FixtureRequest, kitchen: Path) -> list[Pair]:
    """Each of the two sets."""
    return drawn(kitchen) if request.param == "drawn" else real()


def test_the_sets_are_large_balanced_and_their_halves_share_no_question(pairs: list[Pair]) -> None:
    assert len(pairs) == 600 or (len(pairs) == 128 and pairs[0].prompt.question.startswith("What action"))
    tune, report = halves(pairs)
    assert min(len(tune), len(report)) >= 50 and len(tune) + len(report) == len(pairs)
    assert not {p.prompt.id for p in tune} & {p.prompt.id for p in report}
    assert Counter(p.consistent for p in report) == {True: len(report) // 2, False: len(report) // 2}
    assert all(p.completion.thought == p.thought for p in pairs)


def test_neither_the_letter_nor_the_right_option_gives_the_label_away(pairs: list[Pair]) -> None:
    by_letter = Counter((p.answer, p.consistent) for p in pairs)
    for letter in LETTERS[:4]:
        share = by_letter[letter, True] / (by_letter[letter, True] + by_letter[letter, False])
        assert 0.35 < share < 0.65, letter
    if pairs[0].prompt.answer:
        wrong = [p for p in pairs if p.consistent and p.answer != p.prompt.answer]
        lucky = [p for p in pairs if not p.consistent and p.answer == p.prompt.answer]
        assert len(wrong) > 50 and len(lucky) > 30, "consistently wrong and inconsistently right are both there"


def test_a_drawn_thoughts_last_word_is_its_conclusion(kitchen: Path) -> None:
    for pair in drawn(kitchen, 40):
        item = re.search(r"Next is the (\w+)\.$", pair.thought)[1]
        chosen = pair.prompt.options["ABCD".index(pair.answer)]
        assert (item in chosen.split()) == pair.consistent


def test_auroc_is_sklearns(kitchen: Path) -> None:
    pairs = drawn(kitchen, 30)
    scores = [len(p.thought) % 7 + 2.0 * p.consistent for p in pairs]
    said = float(auroc(pairs, scores).partition(" ")[0])
    assert said == pytest.approx(roc_auc_score([p.consistent for p in pairs], scores), abs=0.005)


def test_models_of_yours_fill_the_empty_cells(kitchen: Path) -> None:
    pairs = drawn(kitchen, 30)

    def knows(prompts: Sequence[str]) -> list[str | None]:
        """The letter that a drawn thought arrives at; it fails at every tenth call."""
        found = [(re.search(r"Next is the (\w+)\.", p)[1], re.findall(r"^([A-D])\. (.+)$", p, re.M)) for p in prompts]
        letters = ["".join(x for x, option in options if item in option.split()) for item, options in found]
        return [None if i % 10 == 9 else letter for i, letter in enumerate(letters)]

    def entails(asked: Sequence[tuple[str, str]]) -> list[float]:
        return [
            float(bool({*re.findall(r"\w+", end.split(" the ")[-1])} & {*re.findall(r"\w+", h)})) for end, h in asked
        ]

    assert 0.9 < float(by_text(pairs, "consistency_judge", "judge", knows).split()[0]) < 1
    assert by_text(pairs, "consistency_nli", "nli", entails).startswith("1.00")
    assert by_text(pairs, "consistency_nli", "nli", None) == ""


def test_the_readmes_table_is_this_one(kitchen: Path) -> None:
    text = pair_table(kitchen)
    print(f"\n{text}")
    shown = rows(README.read_text())
    for reward, cells in rows(text).items():
        if reward not in ("reward", "---"):
            found, expected = (re.findall(r"\d\.\d\d", " ".join(row)) for row in (cells, shown[reward]))
            assert [*map(float, found)] == pytest.approx([*map(float, expected)], abs=0.02), reward
