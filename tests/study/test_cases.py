"""The comparison of two runs: patterns, filters, error messages, and both completions side by side."""

from io import StringIO

import pytest
from rich.console import Console

from rlvid import api
from rlvid.errors import UserError
from rlvid.study.cases import PATTERNS, compare_runs, is_coherent, parse_condition, render_comparison, select_questions
from rlvid.utils.files import write_jsonl
from tests.helpers.runs import rlvid


def answer_row(id, answer, gold="A", domain="Daily life", length=9, **rewards):
    """A line of eval/LEVEL.jsonl."""
    completion = f"<think>{id}</think><answer>{answer}</answer>" if answer else "no answer"
    row = {"id": id, "domain": domain, "question": f"What about {id}?", "options": ["w", "x", "y", "z"]}
    row |= {"completion": completion, "answer": answer, "gold": gold, "correct": answer == gold, "length": length}
    return row | {f"rewards/{name}": value for name, value in rewards.items()}


@pytest.fixture
def runs(tmp_path):
    """The folders of two runs; the first one answered one more question."""
    levels_of_a = {
        "L1": [answer_row("q1", "A"), answer_row("q2", "B"), answer_row("q3", "C"), answer_row("q9", "A")],
        "L3": [answer_row("q4", "A")],
    }
    levels_of_b = {
        "L1": [
            answer_row("q2", "A", consistency_nli=0.2),
            answer_row("q1", "A", length=50),
            answer_row("q3", "C", consistency_nli=0.9),
        ],
        "L3": [answer_row("q4", None, domain="Work", consistency_nli=None)],
    }
    for run, levels in (("a", levels_of_a), ("b", levels_of_b)):
        for level, rows in levels.items():
            write_jsonl(tmp_path / run / "eval" / f"{level}.jsonl", rows)
    return tmp_path / "a", tmp_path / "b"


def ids(pairs):
    return [pair.a["id"] for pair in pairs]


def test_questions_match_their_patterns(runs):
    pairs = compare_runs(*runs)
    assert ids(pairs) == ["q1", "q2", "q3", "q4"], "in the order of the first run, without q9, which only it answered"
    assert {pair.a["id"]: pair.patterns for pair in pairs} == {
        "q1": ["both right"],
        "q2": ["a wrong, b right", "b right, incoherent"],
        "q3": ["both wrong", "same wrong answer", "b wrong, coherent"],
        "q4": ["a right, b wrong", "b malformed"],
    }
    assert is_coherent(pairs[0].b) is None


def test_coherence_is_read_before_the_gate():
    """Gated, a wrong answer scores 0; its agreement shows whether its reasoning leads to it."""
    wrong = answer_row("q1", "B", consistency_nli=0.0) | {"evidence": {"agreement/consistency_nli": [0.9]}}
    assert is_coherent(wrong) is True and PATTERNS["b wrong, coherent"](wrong, wrong)
    two = answer_row("q1", "B", consistency_nli=0.0, consistency_likelihood=0.3)
    assert is_coherent(two | {"evidence": {"agreement/consistency_nli": [0.8]}}) is True, "(.8 + .3) / 2 = .55"
    assert is_coherent(two | {"evidence": {"agreement/consistency_nli": [0.6]}}) is False, "(.6 + .3) / 2 = .45"
    not_judged = answer_row("q1", "B", consistency_nli=None) | {"evidence": {"agreement/consistency_nli": [None]}}
    assert is_coherent(not_judged) is None


def test_questions_are_selected_by_pattern_level_domain_and_column(runs):
    pairs = compare_runs(*runs)
    assert ids(select_questions(pairs, ["A wrong, B right"])) == ["q2"]
    assert ids(select_questions(pairs, ["both right", "both wrong"])) == ["q1", "q3"], "one of the patterns"
    assert ids(select_questions(pairs, levels=["L3"])) == ["q4"]
    assert ids(select_questions(pairs, domains=["Daily life"], where=["length>=50"])) == ["q1"]
    assert ids(select_questions(pairs, where=["consistency_nli<1"])) == ["q2", "q3"], "rows with the column"
    assert ids(select_questions(pairs, where=["consistency_nli<1", "consistency_nli>0.5"])) == ["q3"], "all conditions"


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (
            {"patterns": ["a wrong b right"]},
            "no pattern 'a wrong b right'. Known: a wrong, b right; a right",
        ),
        ({"levels": ["L2"]}, "no level 'L2'."),
        ({"domains": ["Daily lief"]}, "no domain 'Daily lief'. Known: Daily life"),
        ({"where": ["consistency_nil<0.5"]}, "no column 'consistency_nil'. Did you mean 'consistency_nli'?"),
        ({"where": ["length about 5"]}, "is not a condition such as"),
    ],
)
def test_an_unknown_name_is_an_error(runs, filters, message):
    with pytest.raises(UserError) as error:
        select_questions(compare_runs(*runs), **filters)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "value", "meets"),
    [("x<1", 1, False), ("x<=1", 1, True), ("x = -0.5", -0.5, True), ("x>2", 3, True), ("x>=2", None, False)],
)
def test_conditions(text, value, meets):
    assert parse_condition(text, {"x"})({"x": value}) is meets


def test_completions_are_shown_side_by_side_without_interpreting_markup(runs):
    completion = "<think>[bold]q2[/bold]</think><answer>A</answer>"
    path = runs[1] / "eval" / "L1.jsonl"
    path.write_text(path.read_text().replace("<think>q2</think><answer>A</answer>", completion))
    pairs = compare_runs(*runs)
    selected = select_questions(pairs, ["a wrong, b right"])
    console = Console(file=StringIO(), width=120)
    console.print(render_comparison(pairs, selected, ("base", "grpo"), limit=3))
    text = console.file.getvalue()
    assert "What about q2?" in text and "[bold]q2[/bold]" in text and "1 of 1 shown" in text
    assert any("─ base: B, wrong ─" in line and "─ grpo: A, right ─" in line for line in text.splitlines())
    assert "(right)" in text, "colours are not all that says which option is right"
    [counts] = [line.split()[-2:] for line in text.splitlines() if line.startswith("a wrong, b right")]
    assert counts == ["1", "0"]


def test_the_command_compares_two_run_folders(runs, tmp_path, capsys):
    api.compare(*map(str, runs), patterns=["both right"])
    assert "What about q1?" in capsys.readouterr().out
    done = rlvid("compare", str(runs[0]), str(runs[1]))
    assert done.returncode == 0 and not done.stderr
    for folder, message in ((tmp_path / "aa", "Did you mean 'a'?"), (tmp_path, "has no finished evaluation")):
        with pytest.raises(UserError) as error:
            api.compare(folder, runs[1])
        assert message in str(error.value)


def test_without_a_pattern_the_questions_that_one_run_alone_got_right_are_shown(runs, tmp_path, capsys):
    selected = api.compare(*runs)
    assert ids(selected) == ["q2", "q4"]
    assert "2 of 2 shown: a wrong, b right or a right, b wrong" in capsys.readouterr().out
    assert len(api.compare(*runs, patterns=())) == 4
    assert ids(api.compare(*runs, patterns="both right")) == ["q1"]
    alike = runs[0], runs[0]
    assert ids(api.compare(*alike)) == ["q2", "q3"], "both wrong, where the runs are right on the same questions"
    write_jsonl(tmp_path / "c" / "eval" / "L1.jsonl", [answer_row("q1", "A")])
    assert ids(api.compare(tmp_path / "c", tmp_path / "c")) == ["q1"], "and all, where nothing is wrong"


@pytest.mark.parametrize("number", ["1.2.3", ".", "-", "1-"])
def test_a_condition_needs_a_number(number):
    with pytest.raises(UserError, match="is not a condition such as"):
        parse_condition(f"length>{number}", {"length"})


def test_names_are_shown_as_they_are_and_an_empty_reply_is_no_unreadable_clip(tmp_path, capsys):
    """Brackets are markup for rich: a name in them would not be shown."""
    empty = answer_row("q1", "A") | {"completion": "", "answer": None, "correct": False, "finished": True}
    for run, row in (("[a]", answer_row("q1", "A") | {"finished": True}), ("[b]", empty)):
        write_jsonl(tmp_path / run / "eval" / "task [x].jsonl", [row])
    api.compare(tmp_path / "[a]", tmp_path / "[b]")
    shown = capsys.readouterr().out
    assert "a: [a]" in shown and "b: [b]" in shown and "task [x]" in shown and "could not be read" not in shown
    api.audit(tmp_path / "[a]")
    assert "task [x] n=1" in capsys.readouterr().out
    write_jsonl(tmp_path / "[b]" / "eval" / "task [x].jsonl", [empty | {"unread": 1}])
    api.compare(tmp_path / "[a]", tmp_path / "[b]")
    assert "(the clip could not be read)" in capsys.readouterr().out
