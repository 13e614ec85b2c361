"""A step of a run is given credit again: its tokens, what they depend on, and what is refused."""

import pytest
import torch

from rlvid import api
from rlvid.errors import UserError
from rlvid.study.token_credit import TokenCredit, render, token_credit
from rlvid.utils.files import read_jsonl
from tests.helpers.runs import TINY, train


@pytest.fixture(scope="module")
def run(kitchen, tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "vppo", *TINY, "algorithm=vppo", "rewards.length=0.1")


def test_the_tokens_of_a_step_with_their_credit(run, tmp_path, capsys):
    completions = api.credit(run, html=tmp_path / "credit.html")
    [row] = [r for r in read_jsonl(run / "samples/step-000001.jsonl") if len(set(r["totals"])) > 1][:1]
    assert [c.total for c in completions] == row["totals"]
    for completion, text in zip(completions, row["completions"], strict=True):
        assert "".join(completion.tokens).startswith(text)
        assert len(completion.tokens) == len(completion.pixels) == len(completion.order) == len(completion.credit)
    credit = torch.tensor([sum(completion.credit) for completion in completions])
    assert credit[torch.tensor(row["totals"]).argmax()] > 0 > credit[torch.tensor(row["totals"]).argmin()]
    assert max(abs(value) for c in completions for value in c.credit) == 1
    assert any(value == 0 for c in completions for value in c.credit), "vppo leaves tokens out"
    assert any(abs(value) > 1e-3 for c in completions for value in c.pixels)
    assert "pixels" in capsys.readouterr().out and "<html" in (tmp_path / "credit.html").read_text()
    assert token_credit(run, row["id"], 1) == completions


def test_what_is_not_there_is_refused(run):
    for arguments, message in ((("nobody",), "has no sample 'nobody'"), (("", 7), "has no samples of step 7")):
        with pytest.raises(UserError, match=message):
            token_credit(run, *arguments)


def test_it_says_of_what_it_is_and_prints_numbers_where_there_are_no_colours(run, capsys):
    [first, *_] = api.credit(run)
    out = capsys.readouterr().out
    assert f"sample {first.sample}, step {first.step}, scored with the last checkpoint" in " ".join(out.split())
    assert " ".join(first.question.split())[:30] in " ".join(out.split()) and "positive: likelier with the clip" in out
    plain = render([TokenCredit(("a", "b"), (0.421, -0.5), (0.0,) * 2, (0.0,) * 2, 1.0)], colors=False).renderables
    assert str(plain[1]).endswith("a(+0.42)b(-0.50)")


def test_positive_values_are_blue_and_negative_ones_red():
    [_, pixels, _, _] = render(
        [TokenCredit(("a", "b", "c"), (2.0, -0.5, 0.0), (0.0,) * 3, (0.0,) * 3, 1.0)]
    ).renderables
    assert [span.style for span in pixels.spans] == ["black on #0000ff", "black on #ff8080", "black on #ffffff"]


@pytest.mark.parametrize("page", [None, "page.html"])
def test_a_pipe_and_a_terminal_without_colours_get_numbers_also_beside_a_page(page, tmp_path, monkeypatch, capsys):
    credit = [TokenCredit(("a", "b"), (0.421, -0.5), (0.0,) * 2, (0.0,) * 2, 1.0)]
    monkeypatch.setattr("rlvid.study.token_credit.token_credit", lambda run, sample, step: credit)
    (tmp_path / "config.toml").touch()
    monkeypatch.setenv("TERM", "xterm-256color")
    html = tmp_path / "new" / page if page else None
    for variables, numbers in (({}, True), ({"FORCE_COLOR": "1"}, False), ({"NO_COLOR": "1"}, True)):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        api.credit(tmp_path, html=html)
        shown = capsys.readouterr().out
        assert ("a(+0.42)b(-0.50)" in shown) == numbers
        assert not page or (f"page: {html}\n" in shown and "background-color" in html.read_text())
