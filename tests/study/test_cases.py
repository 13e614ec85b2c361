"""Cases: which questions fall under which pattern, and what is said where something asked for does not exist."""

import json
from io import StringIO

import pytest
from rich.console import Console

from rlvid import api
from rlvid.errors import UserError
from rlvid.study.cases import choose, coherent, condition, pairs, show
from tests.helpers.runs import rlvid


def row(id, answer, gold="A", domain="Daily life", length=9, **rewards):
    text = f"<think>{id}</think><answer>{answer}</answer>" if answer else "no answer"
    about = {"id": id, "domain": domain, "question": f"What about {id}?", "options": ["w", "x", "y", "z"]}
    about |= {"completion": text, "answer": answer, "gold": gold, "correct": answer == gold, "length": length}
    return about | {f"rewards/{name}": value for name, value in rewards.items()}


@pytest.fixture
def runs(tmp_path):
    """Two runs, one of which answered a question more."""
    answers = {
        "a": {"L1": [row("q1", "A"), row("q2", "B"), row("q3", "C"), row("q9", "A")], "L3": [row("q4", "A")]},
        "b": {
            "L1": [row("q2", "A", consistency_nli=0.2), row("q1", "A", length=50), row("q3", "C", consistency_nli=0.9)],
            "L3": [row("q4", None, domain="Work", consistency_nli=None)],
        },
    }
    for run, levels in answers.items():
        (tmp_path / run / "eval").mkdir(parents=True)
        for level, rows in levels.items():
            (tmp_path / run / "eval" / f"{level}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path / "a", tmp_path / "b"


def ids(cases):
    return [case.a["id"] for case in cases]


def test_questions_fall_under_their_patterns(runs):
    cases = pairs(*runs)
    assert ids(cases) == ["q1", "q2", "q3", "q4"], "in the first run's order; what one did not answer is left out"
    assert {case.a["id"]: case.holds for case in cases} == {
        "q1": ["both right"],
        "q2": ["a wrong, b right", "b right, incoherent"],
        "q3": ["both wrong", "same wrong answer", "b wrong, coherent"],
        "q4": ["a right, b wrong", "b malformed"],
    }
    assert coherent(cases[0].b) is None


def test_cases_are_chosen_by_pattern_level_domain_and_column(runs):
    cases = pairs(*runs)
    assert ids(choose(cases, ["A wrong, B right"])) == ["q2"]
    assert ids(choose(cases, ["both right", "both wrong"])) == ["q1", "q3"], "of any pattern"
    assert ids(choose(cases, levels=["L3"])) == ["q4"]
    assert ids(choose(cases, domains=["Daily life"], where=["length>=50"])) == ["q1"]
    assert ids(choose(cases, where=["consistency_nli<1"])) == ["q2", "q3"], "a row without the column fails"
    assert ids(choose(cases, where=["consistency_nli<1", "consistency_nli>0.5"])) == ["q3"], "all conditions"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"patterns": ["a wrong b right"]}, "no pattern 'a wrong b right'. Did you mean 'a wrong, b right'?"),
        ({"levels": ["L2"]}, "no level 'L2'."),
        ({"domains": ["Daily lief"]}, "Did you mean 'Daily life'?"),
        ({"where": ["consistency_nil<0.5"]}, "no column 'consistency_nil'. Did you mean 'consistency_nli'?"),
        ({"where": ["length about 5"]}, "is no condition, such as"),
    ],
)
def test_what_does_not_exist_is_said(runs, asked, says):
    with pytest.raises(UserError) as error:
        choose(pairs(*runs), **asked)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("where", "value", "holds"),
    [("x<1", 1, False), ("x<=1", 1, True), ("x = -0.5", -0.5, True), ("x>2", 3, True), ("x>=2", None, False)],
)
def test_conditions(where, value, holds):
    assert condition(where, {"x"})({"x": value}) is holds


def test_replies_stand_side_by_side_and_nothing_in_them_is_markup(runs):
    text = "<think>[bold]q2[/bold]</think><answer>A</answer>"
    path = runs[1] / "eval" / "L1.jsonl"
    path.write_text(path.read_text().replace("<think>q2</think><answer>A</answer>", text))
    cases = pairs(*runs)
    console = Console(file=StringIO(), width=120)
    console.print(show(cases, choose(cases, ["a wrong, b right"]), ("base", "grpo"), limit=3))
    said = console.file.getvalue()
    assert "What about q2?" in said and "[bold]q2[/bold]" in said and "1 of 1 shown" in said
    assert any("─ base ─" in line and "─ grpo ─" in line for line in said.splitlines())
    (counts,) = [line.split()[-2:] for line in said.splitlines() if line.startswith("a wrong, b right")]
    assert counts == ["1", "0"]


def test_the_verb(runs, tmp_path, capsys):
    api.compare(*map(str, runs), patterns=["both right"])
    assert "What about q1?" in capsys.readouterr().out
    for folder, says in (
        (tmp_path / "aa", "Did you mean 'a'?"),
        (tmp_path, "holds no finished evaluation"),
        (runs[0], ""),
    ):
        done = rlvid("compare", str(folder), str(runs[1]))
        assert done.returncode == (2 if says else 0) and says in done.stderr
