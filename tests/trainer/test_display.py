"""What a terminal shows during a run."""

import re
from io import StringIO

from rich.text import Text

from rlvid.trainer.display import Display
from tests.helpers.runs import TINY, train

METRICS = {
    "reward": 0.362,
    "rewards/accuracy/mean": 0.25,
    "completions/mean_length": 11.9,
    "loss": 0.00273,
    "rewards/format/mean": 0.562,
    "rewards/./my_reward.py:my_reward/mean": 0.5,
}


def test_the_numbers_of_a_step_do_not_cut_its_bar(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    display = Display("nano", 120, True, 0)
    display.console.file = StringIO()
    with display:
        display.step(7, METRICS, [])
    bar, note = Text.from_ansi(display.console.file.getvalue()).plain.splitlines()[-2:]
    assert re.fullmatch(r"train [━╸╺]+ +7/120 0:00:00 -:--:--", bar.strip())
    assert note.strip().startswith("reward 0.362  accuracy 0.25  length 11.9") and len(note) <= 80


def test_a_pipe_gets_plain_lines(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with Display("nano", 120, True, 0) as display:
        display.step(7, METRICS, [])
    assert capsys.readouterr().err.splitlines() == [
        "step 7/120  reward 0.362  accuracy 0.25  length 11.9  loss 0.00273  format 0.562  my_reward 0.5"
    ]


def test_the_line_of_an_evaluation_follows_that_of_its_step(kitchen, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    train(tmp_path / "run", *TINY, "train.max_steps=2", "train.eval_steps=1")
    shown = [line.split()[:2] for line in capsys.readouterr().err.splitlines() if line.startswith(("step ", "eval "))]
    assert shown == [["step", "1/2"], ["eval", "L1:"], ["step", "2/2"], ["eval", "L1:"]]
