"""Audits: of answers written by hand, and of a real evaluation."""

import json
import re
from io import StringIO

import pytest
from rich.console import Console

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.study.audit import audit, is_right_leniently, position_table
from rlvid.trainer import evaluation
from rlvid.types import Completion, Group, Likelihood, Prompt
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.runs import TINY, train

pytestmark = pytest.mark.usefixtures("quick_runs")

CONSISTENCY_REWARDS = [f"consistency_{method}" for method in ("embedding", "judge", "likelihood", "nli", "reanswer")]


def answer_row(answer, gold="A", thought="It boils.", **entries):
    """A line of eval/LEVEL.jsonl."""
    completion = f"<think>{thought}</think><answer>{answer}</answer>"
    row = {"id": "q", "gold": gold, "completion": completion, "answer": answer, "correct": answer == gold}
    return row | {"finished": True, "length": 10} | entries


def write_answers(folder, rows, views=()):
    """Write the answers to L1, and those of views, view -> rows; returns the folder."""
    write_jsonl(folder / "eval" / "L1.jsonl", rows)
    for view, view_rows in dict(views).items():
        write_jsonl(folder / "eval" / "views" / view / "L1.jsonl", view_rows)
    return folder


def audit_lines(folder):
    """The printed lines of an audit that are not empty, as (row name, line)."""
    console = Console(file=StringIO(), width=140)
    console.print(audit(folder))
    lines = [line for line in console.file.getvalue().splitlines() if line]
    return [(" ".join(line.split("  ")[0].split()), line) for line in lines]


def audit_words(folder):
    """Row name -> the words of its line; of several lines with the same name, those of the last one."""
    return {name: line.split() for name, line in audit_lines(folder)}


def audit_shares(folder, name):
    """The shares in all lines with a row name."""
    return [share for row, line in audit_lines(folder) if row == name for share in re.findall(r"[\d.]+%", line)]


def test_the_shares_of_five_answers(tmp_path):
    rows = [
        answer_row("A"),
        answer_row("A", thought="Another."),
        answer_row("B", length=30),
        answer_row(None, completion="<think>It boils.</think><answer>A or so</answer>"),
        answer_row(None, completion="no end", finished=False),
    ]
    words = audit_words(write_answers(tmp_path, rows, {"blank": [answer_row("B")] * 4 + [answer_row("A")]}))
    assert words["right"][1] == "40.0%" and words["no answer"][2] == "40.0%" and words["truncated"][1] == "20.0%"
    assert words["right, lenient parser"][3] == "60.0%" and words["no thought"][2] == "20.0%"
    assert words["most common thought"][3] == "60.0%"
    assert words["right, blank"][2] == "20.0%" and words["same answer, blank"][3] == "20.0%"
    assert words["tokens if right"][-1] == "10" and words["tokens if wrong"][-1] == "17"


def test_coherence_is_crossed_with_correctness(tmp_path):
    rows = [answer_row("A", evidence={"agreement/consistency_x": [value]}) for value in (0.9, 0.8, 0.1)]
    rows += [answer_row("B", evidence={"agreement/consistency_x": [value]}) for value in (0.6, 0.2, None)]
    words = audit_words(write_answers(tmp_path, rows))
    assert words["coherent and right"][3] == "40.0%"
    assert words["coherent and wrong"][3] == "20.0%"
    assert words["incoherent and right"][3] == "20.0%"
    assert words["not judged"][-1] == "1"
    assert words["coherent, by consistency_x"][3:] == ["60.0%", "23–88"]


@pytest.mark.parametrize(("steps", "weight", "warns"), [(2, 0.5, True), (2, 0.0, False), (0, 0.5, False)])
def test_an_audit_warns_about_a_reward_that_the_run_was_trained_on(tmp_path, steps, weight, warns):
    folder = write_answers(tmp_path, [answer_row("A", evidence={"agreement/consistency_reanswer": [1.0]})])
    settings = [f"train.max_steps={steps}", f"rewards.consistency_reanswer={weight}", "rewards.consistency_embedding=1"]
    (folder / "config.toml").write_text(load("nano", settings).to_toml())
    text = " ".join(line for _, line in audit_lines(folder))
    assert ("This run was trained on consistency_reanswer: judge its coherence by a reward" in text) is warns


def fact_counts(told, not_narrated, narrated, not_told):
    """The evidence that `grounding_narrations` records."""
    return {"grounding_narrations": [dict(locals())]}


def test_facts_that_are_not_narrated_and_narrated_facts_that_are_left_out(tmp_path):
    rows = [
        answer_row("A", evidence=fact_counts(4, 1, 2, 0)),
        answer_row("B", evidence=fact_counts(2, 1, 4, 2)),
        answer_row("B", evidence=fact_counts(0, 0, 2, 2)),
        answer_row("B", evidence={"grounding_narrations": [None]}),
        answer_row("B"),
    ]
    words = audit_words(write_answers(tmp_path, rows))
    # 1/4 and 1/2: their sample standard deviation by the root of 2 is 0.125, so 0.375 +- 1.96 * 0.125
    assert words["facts stated, not narrated"][4:] == ["37.5%", "13–62"]
    assert words["facts narrated, not stated"][4:] == ["50.0%", "0–100"]  # 0, 1/2 and 1: 0.5 +- 0.566


def test_coherence_is_measured_before_rewards_are_gated_by_accuracy(tmp_path):
    """A coherent but wrong completion gets no reward from a gated consistency reward, and the audit still counts it."""
    thoughts = [("B", "The tap runs. Close the tap."), ("A", "The cup is dry. Open the tap."), ("A", "Close the tap.")]
    prompt = Prompt("q", "What next?", ("open tap", "close tap", "cut onion", "wash pan"), "B")
    rows = []
    for letter, thought in thoughts:
        group = Group(prompt, [Completion(f"<think>{thought}</think><answer>{letter}</answer>")])
        implied = "B" if "Close" in thought else "A"
        uniform, certain = (0.25,) * 4, tuple(0.9 * (x == implied) + 0.025 for x in "ABCD")

        def entailment(pairs, implied=implied):
            return [0.9 * (("close" in option) == (implied == "B")) * ("tap" in option) for _, option in pairs]

        group.evidence = {
            "embeddings": embed,
            "nli": entailment,
            "judge": lambda prompts, implied=implied: [implied for _ in prompts],
            "reanswer": [implied],
            "answer_likelihood": [Likelihood(certain, uniform, certain)],
        }
        RewardMix({name: build("rewards", name) for name in CONSISTENCY_REWARDS}, {})([group])
        assert letter == "B" or all(group[name] == [0.0] for name in CONSISTENCY_REWARDS)
        rows.append(evaluation.result_row(group))
    write_answers(tmp_path, rows)
    for name in ("coherent and right", "coherent and wrong", "incoherent and wrong"):
        assert audit_shares(tmp_path, name) == ["33.3%"] * len(CONSISTENCY_REWARDS), name
    assert audit_shares(tmp_path, "incoherent and right") == ["0.0%"] * len(CONSISTENCY_REWARDS)


def test_position_bias_is_relative_to_the_positions_of_the_right_answers():
    fair = [answer_row(letter, gold=letter) for letter in "ABCD" for _ in range(25)]
    biased = [answer_row("A", gold=letter) for letter in "ABCD" for _ in range(25)]
    table = position_table({"fair": fair, "biased": biased})
    assert list(table.columns[1].cells) == ["25% / 25%", "100% / 25%"]
    assert list(table.columns[-2].cells) == ["1.000", "0.000"]
    assert list(table.columns[-1].cells) == ["0 of 100", "0 of 100"]
    never_right = [answer_row("A", gold="D"), answer_row("D", gold="D")]
    p, left_out = (list(column.cells) for column in position_table({"L1": never_right}).columns[-2:])
    assert p == ["1.000"] and left_out == ["1 of 2"], "A is left out: it is never right"


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("<answer>A</answer>", True),
        ("The answer is (A), not B. So: A", True),
        ("<answer>Answer: A</answer>", True),
        ("A? No: B", False),
        ("Apples", False),
    ],
)
def test_the_lenient_parser_accepts_more_than_the_strict_one(completion, right):
    assert is_right_leniently({"completion": completion, "gold": "A"}) is right


def test_a_folder_without_answers_is_an_error(tmp_path):
    with pytest.raises(UserError, match="has no finished evaluation"):
        audit(tmp_path)


@pytest.fixture(scope="module")
def evaluated(kitchen, tmp_path_factory):
    """An untrained run that answered six questions, also in two views, and measured two rewards."""
    settings = ["eval.limit=6", 'eval.views=["blank","text_only"]', "eval.rewards.consistency_embedding=1"]
    settings += ["eval.rewards.grounding_narrations=1"]
    return train(tmp_path_factory.mktemp("evaluated") / "base", *TINY, "train.max_steps=0", *settings)


def test_a_real_evaluation_with_views_and_rewards_is_audited_and_repeatable(evaluated, tmp_path, capsys):
    api.evaluate(evaluated, out=tmp_path / "again")
    text = capsys.readouterr().out
    assert "right, blank" in text and "coherent and right" in text and "facts stated, not narrated" in text
    assert "coherent, by consistency_embedding" in text and "trained on" not in text
    for level in ("L1.jsonl", "views/blank/L1.jsonl"):
        first, again = ((folder / "eval" / level).read_text() for folder in (evaluated, tmp_path / "again"))
        assert first == again and len(first.splitlines()) == 6
    assert "rewards/consistency_embedding" in json.loads((evaluated / "eval/L1.jsonl").read_text().splitlines()[0])


def test_saved_completions_are_scored_again_without_sampling(evaluated, tmp_path):
    overrides = [f"eval.completions={evaluated / 'eval'}", "eval.rewards.random=1"]
    api.evaluate(evaluated, overrides=overrides, out=tmp_path / "again")
    first, again = (read_jsonl(folder / "eval/L1.jsonl") for folder in (evaluated, tmp_path / "again"))
    assert [row | {"rewards/random": new["rewards/random"]} for row, new in zip(first, again, strict=True)] == again
    assert "timing_s/generate" not in (tmp_path / "again/timing.jsonl").read_text()
    with pytest.raises(UserError, match=r"L1\.jsonl lacks 2 of 8 questions"):
        api.evaluate(evaluated, overrides=[*overrides, "eval.limit=8"], out=tmp_path / "more")


def test_saved_completions_of_a_view_are_used_for_that_view(evaluated, tmp_path):
    overrides = [f"eval.completions={evaluated / 'eval'}"]
    view = evaluated / "eval/views/text_only"
    completions = {path.name: path.read_text() for path in view.iterdir()}
    assert completions["L1.jsonl"] != (evaluated / "eval/L1.jsonl").read_text(), "otherwise this shows nothing"
    api.evaluate(evaluated, overrides=overrides, out=tmp_path / "again")
    again = tmp_path / "again/eval/views/text_only"
    assert {path.name: path.read_text() for path in again.iterdir()} == completions
    with pytest.raises(UserError, match=r"views/reversed/L1\.jsonl lacks 6 of 6 questions"):
        api.evaluate(evaluated, overrides=[*overrides, 'eval.views=["reversed"]'], out=tmp_path / "more")
