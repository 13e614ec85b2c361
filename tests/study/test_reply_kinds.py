"""`rlvid replies`: shares of kinds of replies, and what rewards pay for them within groups, by hand-made samples."""

import pytest

from rlvid import api
from rlvid.__main__ import main
from rlvid.errors import UserError
from rlvid.study.pass_at_k import STEPS_AT_EACH_END, sample_ends
from rlvid.study.reply_kinds import parse_kinds, read_kinds
from rlvid.utils.files import write_jsonl

KINDS = ["habit=begins with", "looking=went in"]
HABIT, LOOK, NEITHER = "It begins with corn.", "Corn went in.", "B"


def group(replies, accuracy, attention, answers, clean="A"):
    totals = [a + 2.0 * (b or 0.0) for a, b in zip(accuracy, attention, strict=True)]
    columns = {"accuracy": accuracy, "attention": attention}
    return {"completions": replies, "answers": answers, "clean": clean, "columns": columns, "totals": totals}


@pytest.fixture
def run(tmp_path):
    """A run of one step. Looking earns less attention than the habit over all prompts, and more within a group."""
    (tmp_path / "config.toml").write_text("[rewards.accuracy]\nweight = 1.0\n[rewards.attention]\nweight = 2.0\n")
    rows = [
        group([HABIT, HABIT, LOOK, LOOK], [1, 1, 0, 0], [0.1, 0.1, 0.2, None], ["A", "A", "B", "B"]),
        group([HABIT, LOOK, f"{LOOK} {HABIT}", NEITHER], [1, 1, 0, 0], [0.2, 0.5, 0.4, 0.0], ["A", "A", "B", None]),
        group([HABIT] * 4, [0, 0, 1, 1], [0.9] * 4, ["B", "B", "A", "A"]),
    ]
    write_jsonl(tmp_path / "samples/step-000001.jsonl", rows)
    return tmp_path


def test_shares_and_how_often_a_kind_is_right(run):
    shares = {row.kind: row for row in read_kinds(run, parse_kinds(KINDS)).shares}
    assert {kind: row.replies for kind, row in shares.items()} == {"habit": 8, "looking": 3, "other": 1}
    assert shares["habit"].share == pytest.approx(8 / 12) and shares["habit"].right == pytest.approx(5 / 8)
    assert shares["looking"].right == pytest.approx(1 / 3) and shares["other"].right == 0


def test_rewards_are_compared_within_groups_that_have_both_kinds(run):
    found = read_kinds(run, parse_kinds(KINDS))
    paid = {(row.kind, row.reward): row for row in found.payments}
    # Group 1: looking has (0.2 + 0) / 2 and the habit 0.1. Group 2: looking 0.5, the habit (0.2 + 0.4) / 2. Group 3: -
    assert paid["looking", "attention"].differences == pytest.approx((0.0, 0.2))
    assert paid["looking", "accuracy"].differences == pytest.approx((-1.0, 0.5))
    assert paid["looking", "sum, weighted"].differences == pytest.approx((-1.0, 0.9))
    assert (paid["looking", "attention"].weight, paid["looking", "sum, weighted"].weight) == (2.0, None)
    # From this weight of attention on, its mean of 0.1 outweighs the -0.25 of accuracy.
    assert paid["looking", "attention"].from_weight == pytest.approx(2.5)
    assert paid["looking", "accuracy"].from_weight is None
    assert paid["other", "attention"].differences == pytest.approx((-0.3,))


def test_a_reward_that_alone_is_left_pays_more_from_any_weight(run):
    reversed_kinds = read_kinds(run, parse_kinds(KINDS[::-1]))
    paid = {row.reward: row for row in reversed_kinds.payments if row.kind == "habit"}
    # A reply of both kinds is of the first one that is named: in group 2 looking has two replies, the habit one.
    assert paid["accuracy"].differences == pytest.approx((1.0, 0.5))
    assert paid["accuracy"].from_weight == pytest.approx(2 * 0.125 / 0.75)


def test_the_first_and_the_last_steps_of_a_longer_run(run):
    for step in range(2, 2 * STEPS_AT_EACH_END + 2):
        write_jsonl(run / f"samples/step-{step:06d}.jsonl", [group([LOOK], [1], [0.5], ["A"], clean=None)])
    shares = {(row.steps, row.kind): row for row in read_kinds(run, parse_kinds(KINDS)).shares}
    assert shares["first", "habit"].replies == 8 and shares["first", "looking"].replies == 3 + STEPS_AT_EACH_END - 1
    assert shares["last", "looking"].share == 1.0 and shares["last", "looking"].right is None, "nothing is labelled"


@pytest.mark.parametrize(("steps", "at_each_end"), [(11, 5), (12, 6), (19, 9), (20, 10), (60, 10)])
def test_no_step_is_both_first_and_last_and_their_number_is_printed(run, steps, at_each_end, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for step in range(2, steps + 1):
        write_jsonl(run / f"samples/step-{step:06d}.jsonl", [group([LOOK, HABIT], [1, 0], [0.5, 0.5], ["A", "B"])])
    first, last = sample_ends(run).values()
    assert len(first) == len(last) == at_each_end and not {*first} & {*last}
    assert main(["replies", str(run), "--kind", *KINDS]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"first {at_each_end} steps, n=" in shown and f"last {at_each_end} steps, {at_each_end} groups" in shown


def test_the_printed_tables(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    assert main(["replies", str(run), "--kind", *KINDS]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "habit 66.7% 62.5%" in lines
    assert "paid to looking, minus habit weight all 1 step, 2 groups more from a weight of" in lines
    assert "attention 2 +0.100 ±0.196 2.5" in lines, "the standard error of 0 and 0.2 is 0.1"
    assert "attention 2 -0.300 none" in lines


def test_kinds_that_no_prompt_has_both_of_are_not_compared_in_silence(run, capsys):
    assert main(["replies", str(run), "--kind", "nobody=nothing like this"]) == 0
    assert "no prompt has replies of the kind 'nobody' and of another one" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["habit"], "--kind 'habit': give a name and a regular expression"),
        (["a=b", "a=c"], "--kind 'a=c': the name 'a' is taken"),
        (["other=b"], "the name 'other' is taken"),
        (["a=("], "this is no regular expression"),
    ],
)
def test_a_wrong_kind(kinds, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        parse_kinds(kinds)


def test_damaged_files_are_named(run):
    write_jsonl(run / "samples/step-000002.jsonl", [{"completions": []}])
    with pytest.raises(UserError, match=r"step-000002\.jsonl: a line without 'answers'"):
        read_kinds(run, parse_kinds(KINDS))
    (run / "config.toml").write_text("x = [")
    with pytest.raises(UserError, match=r"config\.toml cannot be read as TOML"):
        read_kinds(run, parse_kinds(KINDS))
    (run / "config.toml").unlink()
    with pytest.raises(UserError, match=r"config\.toml cannot be read as TOML: .*No such file"):
        read_kinds(run, parse_kinds(KINDS))


def test_a_folder_without_samples(tmp_path):
    with pytest.raises(UserError, match="has no sampled replies"):
        read_kinds(tmp_path, parse_kinds(KINDS))


def test_a_kind_may_have_any_name(run, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    api.replies(run, ["[/think]=begins with", "[looking]=went in"])
    shown = capsys.readouterr().out
    assert "[/think]" in shown and "paid to [looking], minus [/think]" in shown


def test_no_kind_and_a_file_that_was_cut_off_are_one_line(run):
    with pytest.raises(UserError, match="no kinds of replies: give a name"):
        api.replies(run, ())
    (run / "samples/step-000001.jsonl").write_text('{"completions": ')
    with pytest.raises(UserError, match=r"step-000001\.jsonl: no groups of replies, so the file was cut off"):
        api.replies(run, KINDS)
