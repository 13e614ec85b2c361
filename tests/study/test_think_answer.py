"""TAC and VAS beside what they miss, by hand and as Video-R2's code counts the same letters."""

import pytest

from rlvid.study.think_answer import think_answer_rows, think_answer_table


def row(thought_letter, answer, gold="A", grade=None, facts=None, source="consistency_judge"):
    """A line of eval/LEVEL.jsonl; None as the thought's letter is a failed call."""
    reply = {"asked": "p", "replied": thought_letter}
    evidence = {source: [reply if source == "consistency_judge" else thought_letter]}
    if facts:
        evidence["grounding_narrations"] = [dict(zip(("told", "not_narrated"), facts, strict=True))]
    line = {"gold": gold, "options": list("wxyz"), "answer": answer, "correct": answer == gold, "evidence": evidence}
    text = f"<think>So.</think><answer>{answer}</answer>"
    return line | {"completion": text} | ({} if grade is None else {"rewards/video_attention_score": grade})


def shares(rows):
    return {one.measure: (round(one.share, 4), one.judged) for one in think_answer_rows({"L1": rows})}


def test_tac_calls_two_different_wrong_letters_consistent():
    """Of six replies the released code counts 4 as consistent: one with both right, three with both wrong."""
    rows = [row("A", "A"), row("B", "B"), row("B", "C"), row("NONE", "B"), row("A", "B"), row("B", "A")]
    found = shares(rows)
    assert found["TAC, by consistency_judge"] == (0.6667, 6)
    assert found["same letter, by consistency_judge"] == (0.3333, 6)
    assert found["TAC, letters differ, by consistency_judge"] == (0.3333, 6), "B and C, NONE and B"
    assert found["thought right, by consistency_judge"] == (0.3333, 6)


def test_failed_calls_are_left_out_and_missing_thoughts_are_wrong():
    silent = row("A", "A") | {"completion": "<answer>A</answer>"}
    silent["evidence"] = {"consistency_judge": [None]}
    no_answer = row("A", None)
    no_answer["evidence"] = {"consistency_judge": [None]}  # the reward does not ask: there is nothing to compare
    assert shares([row(None, "A"), row("either", "A"), no_answer, silent])["TAC, by consistency_judge"] == (0.0, 1)
    assert shares([{**row("A", "A"), "gold": None}]) == {}


def test_the_policys_own_letter_is_a_stand_in():
    rows = [row("A", "A", source="reanswer"), row("B", "C", source="reanswer")]
    assert shares(rows)["TAC, by reanswer"] == (1.0, 2)
    [how] = {one.how for one in think_answer_rows({"L1": rows}) if one.measure.startswith("TAC, by")}
    assert "stand-in" in how


def test_a_high_grade_of_what_was_not_narrated():
    rows = [row("A", "A", grade=g, facts=f) for g, f in ((0.9, (4, 4)), (0.8, (4, 1)), (0.1, (4, 4)), (0.7, None))]
    found = shares(rows)
    assert found["VAS"] == (6.25, 4)
    assert found["graded 7 or more, not narrated"] == (0.5, 2)
    table = think_answer_table(think_answer_rows({"L1": rows}), {"L1": rows, "L2": []})
    cells = dict(zip(table.columns[0].cells, table.columns[1].cells, strict=True))
    assert cells["VAS"] == "6.2 n=4" and [*table.columns[2].cells] == ["–"] * len(cells)
    assert cells["TAC, by consistency_judge"] == pytest.approx("100.0% n=4")
