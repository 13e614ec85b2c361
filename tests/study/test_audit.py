"""Audits, on answers written by hand and on a real evaluation's."""

import json
import re

import pytest
from rich.console import Console

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.study.audit import audit, lenient, positions
from rlvid.trainer import evaluation
from rlvid.types import Completion, Group, Likelihood, Prompt
from tests.helpers.runs import TINY, train


def row(answer, gold="A", thought="It boils.", **more):
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    base = {"id": "q", "gold": gold, "completion": text, "answer": answer, "correct": answer == gold}
    return base | {"finished": True, "length": 10} | more


def written(folder, rows, views=()):
    for path, lines in {"eval/L1.jsonl": rows, **dict(views)}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def said(folder, every=False):
    """An audit's lines by their first words; with `every`, the shares of all lines that begin so."""
    console = Console(width=140)
    with console.capture() as captured:
        console.print(audit(folder))
    lines = [line for line in captured.get().splitlines() if line]
    if every:
        first = [(" ".join(line.split("  ")[0].split()), re.findall(r"[\d.]+%", line)) for line in lines]
        return {words: [share for other, found in first if other == words for share in found] for words, _ in first}
    return {" ".join(line.split("  ")[0].split()): line.split() for line in lines}


def test_the_shares_of_a_handful_of_answers(tmp_path):
    rows = [
        row("A"),
        row("A", thought="Another."),
        row("B", length=30),
        row(None, completion="<think>It boils.</think><answer>A or so</answer>"),
        row(None, completion="no end", finished=False),
    ]
    lines = said(written(tmp_path, rows, {"eval/views/blank/L1.jsonl": [row("B")] * 4 + [row("A")]}.items()))
    assert lines["right"][1] == "40.0%" and lines["no answer"][2] == "40.0%" and lines["truncated"][1] == "20.0%"
    assert lines["right, lenient parser"][3] == "60.0%" and lines["no thought"][2] == "20.0%"
    assert lines["commonest thought"][2] == "60.0%"
    assert lines["right, blank"][2] == "20.0%" and lines["same answer, blank"][3] == "20.0%"
    assert lines["tokens if right"][-1] == "10" and lines["tokens if wrong"][-1] == "17"


def test_coherence_is_crossed_with_correctness(tmp_path):
    rows = [row("A", evidence={"agreement/consistency_x": [c]}) for c in (0.9, 0.8, 0.1)]
    rows += [row("B", evidence={"agreement/consistency_x": [c]}) for c in (0.6, 0.2, None)]
    lines = said(written(tmp_path, rows))
    cells = {name: lines[f"{name}"][3] for name in ("coherent and right", "coherent and wrong", "incoherent and right")}
    assert cells == {"coherent and right": "40.0%", "coherent and wrong": "20.0%", "incoherent and right": "20.0%"}
    assert lines["not judged"][-1] == "1"
    assert lines["consistent, by consistency_x"][3:] == ["60.0%", "23–88"]


@pytest.mark.parametrize(("steps", "weight", "warned"), [(2, 0.5, True), (2, 0.0, False), (0, 0.5, False)])
def test_a_run_is_not_believed_about_the_reward_that_it_was_trained_on(tmp_path, steps, weight, warned):
    folder = written(tmp_path, [row("A", evidence={"agreement/consistency_reanswer": [1.0]})])
    settings = [f"train.max_steps={steps}", f"rewards.consistency_reanswer={weight}", "rewards.consistency_embedding=1"]
    (folder / "config.toml").write_text(load("nano", settings).to_toml())
    words = "This run was trained on consistency_reanswer: believe another reward about its coherence."
    assert (words in said(folder)) is warned


def counted(told, not_narrated, narrated, not_told):
    return {"grounding_narrations": [dict(locals())]}


def test_what_is_made_up_and_what_is_left_out(tmp_path):
    rows = [row("A", evidence=counted(4, 1, 2, 0)), row("B", evidence=counted(2, 1, 4, 2))]
    rows += [row("B", evidence=counted(0, 0, 2, 2)), row("B", evidence={"grounding_narrations": [None]}), row("B")]
    lines = said(written(tmp_path, rows))
    assert lines["told, not narrated"][3:] == ["37.5%", "20–55"]  # of 1/4 and 1/2: 0.375 +- 1.96 * 0.125 / sqrt(2)
    assert lines["narrated, not told"][3:] == ["50.0%", "4–96"]  # of 0, 1/2 and 1


def test_a_gate_does_not_hide_who_reasons_well_to_a_wrong_answer(tmp_path):
    """Every reward for consistency, gated as by default: coherent and wrong is paid nothing, and seen all the same."""
    thoughts = [("B", "The tap runs. Close the tap."), ("A", "The cup is dry. Open the tap."), ("A", "Close the tap.")]
    prompt = Prompt("q", "What next?", ("open tap", "close tap", "cut onion", "wash pan"), "B")
    rows = []
    for letter, thought in thoughts:
        group = Group(prompt, [Completion(f"<think>{thought}</think><answer>{letter}</answer>")])
        means = "B" if "Close" in thought else "A"
        even, sure = (0.25,) * 4, tuple(0.9 * (x == means) + 0.025 for x in "ABCD")
        group.evidence = {
            "embeddings": embed,
            "nli": lambda pairs, means=means: [
                0.9 * (("close" in h) == (means == "B")) * ("tap" in h) for _, h in pairs
            ],
            "judge": lambda prompts, means=means: [means for _ in prompts],
            "reanswer": [means],
            "answer_likelihood": [Likelihood(sure, even, sure)],
        }
        RewardMix({name: build("rewards", name) for name in JUDGES}, {})([group])
        assert letter == "B" or all(group[name] == [0.0] for name in JUDGES)
        rows.append(evaluation.result_row(group))
    lines = said(written(tmp_path, rows), every=True)
    for words in ("coherent and right", "coherent and wrong", "incoherent and wrong"):
        assert lines[words] == ["33.3%"] * len(JUDGES), words
    assert lines["incoherent and right"] == ["0.0%"] * len(JUDGES)


JUDGES = [f"consistency_{how}" for how in ("embedding", "judge", "likelihood", "nli", "reanswer")]


def test_position_bias_is_against_where_the_right_ones_are():
    fair = [row(letter, gold=letter) for letter in "ABCD" for _ in range(25)]
    biased = [row("A", gold=letter) for letter in "ABCD" for _ in range(25)]
    table = positions({"fair": fair, "biased": biased})
    assert list(table.columns[1].cells) == ["25% for 25%", "100% for 25%"]
    assert list(table.columns[-1].cells) == ["1.000", "0.000"]
    two = [row("A", gold="D"), row("D", gold="D")]
    assert list(positions({"two": two}).columns[-1].cells) == ["1.000"], "A is never right here: no letter of this test"


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("<answer>A</answer>", True),
        ("The answer is (A), not B. So: A", True),
        ("<answer>Answer: A</answer>", True),
        ("A? No: B", False),
        ("Apples", False),
    ],
)
def test_the_lenient_parser_takes_what_the_strict_one_refuses(reply, right):
    assert lenient({"completion": reply, "gold": "A"}) is right


def test_a_folder_without_answers_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no finished evaluation"):
        audit(tmp_path)


def test_a_real_evaluation_under_views_with_measures(kitchen, tmp_path, capsys):
    extra = ["eval.limit=6", 'eval.views=["blank"]', "eval.rewards.consistency_embedding=1"]
    extra += ["eval.rewards.grounding_narrations=1"]
    out = train(tmp_path / "base", *TINY, "train.max_steps=0", *extra)
    api.evaluate(out, out=tmp_path / "again")
    printed = capsys.readouterr().out
    assert "right, blank" in printed and "coherent and right" in printed and "told, not narrated" in printed
    assert "consistent, by consistency_embedding" in printed and "trained on" not in printed
    for level in ("L1.jsonl", "views/blank/L1.jsonl"):
        first, again = ((folder / "eval" / level).read_text() for folder in (out, tmp_path / "again"))
        assert first == again and len(first.splitlines()) == 6
    assert "rewards/consistency_embedding" in json.loads((out / "eval/L1.jsonl").read_text().splitlines()[0])


def test_saved_replies_are_judged_anew_without_sampling(kitchen, tmp_path):
    out = train(tmp_path / "base", *TINY, "train.max_steps=0", "eval.limit=4")
    extra = [f"eval.completions={out / 'eval'}", "eval.rewards.random=1"]
    api.evaluate(out, overrides=extra, out=tmp_path / "again")
    first, again = (
        [json.loads(line) for line in (folder / "eval/L1.jsonl").read_text().splitlines()]
        for folder in (out, tmp_path / "again")
    )
    assert [row | {"rewards/random": again[i]["rewards/random"]} for i, row in enumerate(first)] == again
    assert "timing_s/generate" not in (tmp_path / "again/timing.jsonl").read_text()
    with pytest.raises(UserError, match=r"L1\.jsonl lacks 2 of 6 questions"):
        api.evaluate(out, overrides=[*extra, "eval.limit=6"], out=tmp_path / "more")


def test_saved_replies_of_a_view_are_that_views(kitchen, tmp_path):
    out = train(tmp_path / "base", *TINY, "train.max_steps=0", "eval.limit=4", 'eval.views=["text_only"]')
    again = [f"eval.completions={out / 'eval'}"]
    replies = {path.name: path.read_text() for path in (out / "eval/views/text_only").iterdir()}
    assert replies["L1.jsonl"] != (out / "eval/L1.jsonl").read_text(), "or this would show nothing"
    api.evaluate(out, overrides=again, out=tmp_path / "again")
    assert {p.name: p.read_text() for p in (tmp_path / "again/eval/views/text_only").iterdir()} == replies
    with pytest.raises(UserError, match=r"views/blank/L1\.jsonl lacks 4 of 4 questions"):
        api.evaluate(out, overrides=[*again, 'eval.views=["blank"]'], out=tmp_path / "more")
