"""`rlvid probe`: planted flaws are found, honest rewards pass, errors name the reply."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from rlvid import Prompt, UserError, probe
from rlvid.__main__ import main
from rlvid.config import load
from rlvid.probes.replies import saved_replies, shipped_replies
from rlvid.probes.result import FAIL
from rlvid.probes.run import run_probe
from rlvid.probes.subject import Subject
from rlvid.probes.verdicts import thresholds_with
from rlvid.types import Completion, Group
from tests.helpers import bad_rewards
from tests.helpers.bad_rewards import BAD
from tests.helpers.judge_server import JudgeServer

HONEST = ["accuracy", "format", "consistency_rule", "grounding_moves", "grounding_narrations"]


@pytest.mark.parametrize("name", BAD)
def test_a_planted_flaw_is_found(name):
    reward, threshold = BAD[name]
    result = probe(reward)
    missed = {finding.threshold for block in result.blocks for finding in block.failed}
    assert threshold in missed, result
    assert result[threshold.partition(".")[0]].verdict == FAIL


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_reward_passes(name):
    start = time.process_time()
    result = probe(name)
    assert result.failed == [], result
    assert time.process_time() - start < 20, "seconds of one core: other programs do not count"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "ZeroDivisionError: division by zero, in `return 1 / len("),
        ("hangs", "it does not return"),
        ("not_a_number", "returned nan"),
        ("says_yes", "returned 'yes' for a completion: return a number"),
    ],
)
def test_an_error_is_one_line_that_names_the_reply(name, words):
    reward = getattr(bad_rewards, name)
    with pytest.raises(UserError) as caught:
        probe(reward, timeout=2 if name == "hangs" else 30)
    line = str(caught.value)
    assert re.match(rf"reward '{name}', reply '.+' of sample \w+: ", line, re.S) and words in line
    quoted = line.partition("reply ")[2].partition(" of sample")[0]
    if name == "hangs":
        assert "That leaves beet" in quoted
    elif name == "raises":
        assert "<answer></answer>" in quoted or "<answer>" not in quoted


def test_an_error_of_a_group_names_its_size_and_the_reward_as_it_was_given():
    def short(groups):
        return [[1.0] for _ in groups]

    with pytest.raises(UserError, match=r"^reward 'short', on the group of 8 replies to sample \w+: reward 'short' at"):
        probe(short)


@pytest.mark.parametrize(
    ("value", "words"), [(1.0, "every reply earns 1, tricks"), (None, "the reward applies to none of the replies, t")]
)
def test_a_reward_with_one_value_says_why_no_trick_is_compared(value, words):
    result = probe(lambda groups: [[value] * len(group) for group in groups])
    assert result["tricks"].text.startswith(words) and result["value"].verdict == FAIL


FOREIGN = """
import re

def trl_reward(completions, answer, options, **kwargs):
    texts = [completion[0]["content"] for completion in completions]
    return [float(f"<answer>{a}</answer>" in text) for text, a in zip(texts, answer)]

async def slow_trl(prompts, completions, solution, **kwargs):
    return [float(f"<answer>{a}</answer>" in c[0]["content"]) for c, a in zip(completions, solution)]

def compute_score(data_source, solution_str, ground_truth, extra_info=None, scale=1.0):
    assert extra_info["options"]
    return {"score": scale * (f"<answer>{ground_truth}</answer>" in solution_str), "format": 1.0}

def easyr1(reward_input, format_weight=0.5):
    right = f"<answer>{reward_input['ground_truth']}</answer>" in reward_input["response"]
    return {"overall": float(right), "format": 1.0, "length": reward_input["response_length"]}

def easyr1_batch(reward_inputs, format_weight=0.5):
    return [easyr1(one) for one in reward_inputs]

def plain_trl(completions, answer, **kwargs):
    return [float(f"<answer>{a}</answer>" in c[0]["content"] and a in "ABCD") for c, a in zip(completions, answer)]

def forgotten(completion, prompt):
    return 1.0

def empty(reward_inputs):
    return []
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A file of other trainers' rewards in the working directory."""
    (tmp_path / "foreign.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("foreign", None)
    return tmp_path


@pytest.mark.parametrize("ref", ["trl_reward", "plain_trl", "slow_trl", "compute_score", "easyr1", "easyr1_batch"])
def test_rewards_of_other_trainers_are_accuracy_here_too(foreign, ref):
    result = probe(f"./foreign.py:{ref}" if ref != "easyr1" else "foreign:easyr1")
    assert result["information"].numbers["correlations"]["accuracy"] > 0.99
    forms = {
        "trl_reward": "TRL's reward_func",
        "plain_trl": "TRL's reward_func",
        "slow_trl": "TRL's reward_func",
        "compute_score": "verl's compute_score",
    }
    form = forms.get(ref, "EasyR1's compute_score")
    assert re.match(rf"foreign.py:\d+, {form}$", result.where) and f"{foreign.name}" not in result.reward
    assert result["groups"].numbers["is_accuracy"] and not result["groups"].failed


def test_options_and_mistakes_of_foreign_rewards(foreign):
    result = probe("./foreign.py:compute_score", ["scale=3"])
    assert result["value"].numbers["summary"]["max"] == 3 and result.options == {"scale": 3}
    for ref, words in {
        "./foreign.py:forgotten": "put @each from rlvid.reward above",
        "./foreign.py:empty": "returned [] for 1 responses: return a list with a dict for each",
        "./foreign.py:missing": "defines nothing callable named 'missing'",
        "acuracy": "Did you mean 'accuracy'?",
    }.items():
        with pytest.raises(UserError, match=re.escape(words)):
            probe(ref)
    with pytest.raises(UserError, match=r"has no option 'scael'. Did you mean 'scale'"):
        probe("./foreign.py:compute_score", "scael=3")


def test_the_command_prints_verdicts_writes_json_and_is_strict(foreign, capsys):
    assert main(["probe", "consistency_rule", "gated=false", "--json", "out.json", "--strict"]) == 0
    shown = capsys.readouterr().out
    for words in ("✓ value", "✓ information", "✓ in groups", "✓ tricks", "– video", "no block failed"):
        assert words in shown
    data = json.loads((foreign / "out.json").read_text())
    assert [block["name"] for block in data["blocks"]] == ["value", "information", "groups", "tricks", "video"]
    assert data["options"] == {"gated": False}
    assert main(["probe", "constant"]) == 0 and main(["probe", "constant", "--strict"]) == 1
    assert "every reply earns 1" in capsys.readouterr().out
    assert main(["probe", "constant", "--strict", "--threshold", "value.min_distinct=1"]) == 0
    assert main(["probe", "constant", "--threshold", "value.min_distnct=1"]) == 2
    assert "Did you mean 'value.min_distinct'?" in capsys.readouterr().err


def test_samples_of_ones_own_are_probed(foreign):
    row = {
        "id": "7",
        "question": "Which?\nA. a pan\nB. a cup",
        "gold": "B",
        "completions": ["<think>a cup</think><answer>B</answer>", "<think>a pan</think><answer>A</answer>"],
    }
    (foreign / "mine.jsonl").write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i in range(12)))
    result = probe("accuracy", on="mine.jsonl")
    assert (result.groups, result.replies, result.tokens) == (12, 24, "words")
    assert result["value"].numbers["right"]["mean"] == 1 and result["groups"].numbers["flat"] == 0
    (foreign / "mine.jsonl").write_text('{"question": "Which?"}\n')
    with pytest.raises(UserError, match=r"mine.jsonl:1: no completions: a line is"):
        probe("accuracy", on="mine.jsonl")
    with pytest.raises(UserError, match="no such run or file"):
        probe("accuracy", on="nothing.jsonl")


def test_a_result_shows_itself_in_a_notebook():
    result = probe("accuracy")
    html = result._repr_html_()
    assert "<table>" in html and "in groups" in html and "<answer>" not in html
    assert repr(result).startswith("ProbeResult(accuracy: value pass")


def test_the_shipped_groups_are_as_described():
    replies = shipped_replies()
    assert (len(replies.groups), replies.count) == (72, 576)
    assert {group.prompt.level for group in replies.groups} == {"L1", "L2", "L3"}
    right = np.array([[c.answer == g.prompt.answer for c in g] for g in replies.groups])
    assert 0.25 < right.mean() < 0.45
    assert all(c.tokens for g in replies.groups for c in g)


def test_a_judge_without_a_usable_reply_is_not_asked_about_tricks(tmp_path):
    server = JudgeServer(lambda prompt, attempt: "I would rather go on with the thought.")
    judge = [f"judge.url={server.url}", "judge.model=m", f"judge.cache_dir={tmp_path}"]
    subject = Subject.read("video_attention_score", {}, load("nano", judge), timeout=60)
    result = run_probe(subject, shipped_replies(), thresholds_with(), 1.0, at_most=2)
    assert [block.verdict for block in result.blocks] == ["fail", *["skipped"] * 4]
    assert result["tricks"].text == "not asked: it applies to none of the replies"
    asked = {body["messages"][-1]["content"] for body in server.requests}
    assert 0 < len(asked) <= result.replies == 16
    server.shutdown()
    server.server_close()


def test_a_judge_that_does_not_answer_ends_a_probe_before_it_begins(tmp_path):
    judge = ["judge.url=http://127.0.0.1:9/v1", "judge.model=m", f"judge.cache_dir={tmp_path}", "judge.retries=0"]
    subject = Subject.read("consistency_judge", {}, load("nano", judge), timeout=60)
    with pytest.raises(UserError, match=r"judge 'm' at http://127\.0\.0\.1:9/v1 does not answer"):
        run_probe(subject, shipped_replies(), thresholds_with(), 1.0, at_most=2)


def test_what_a_judge_takes_is_not_the_rewards_time(tmp_path):
    """Its calls have a limit of their own, and a whole set of replies takes a judge longer than one call."""
    server = JudgeServer(lambda prompt, attempt: (time.sleep(0.8), "B")[1])
    judge = [f"judge.url={server.url}", "judge.model=m", f"judge.cache_dir={tmp_path}"]
    subject = Subject.read("consistency_judge", {}, load("nano", judge), timeout=0.5)
    replies = [Completion(f"<think>It is {what}.</think><answer>B</answer>") for what in ("a cup", "a pan")]
    assert subject.score([Group(Prompt("q", "Which?", ("a pan", "a cup"), "B"), replies)]) == [[1.0, 1.0]]
    server.shutdown()
    server.server_close()


def test_fewer_groups_are_probed_where_calls_are_dear(capsys):
    result = probe("accuracy", groups=24)
    assert (result.groups, result.replies) == (24, 192)
    assert {reply["sample"] for reply in result["value"].numbers["best"]} <= {
        group.prompt.id for group in shipped_replies().groups[::3]
    }, "they are evenly spaced"
    assert main(["probe", "accuracy", "--groups", "0"]) == 2
    assert "--groups 0: give how many groups" in capsys.readouterr().err


def test_a_file_named_rewards_does_not_hide_rlvids_own(foreign):
    """`python -m rlvid`, scripts and notebooks look for modules in the working directory first."""
    (foreign / "rewards.py").write_text(FOREIGN)
    (foreign / "experiments").mkdir()
    (foreign / "experiments" / "__init__.py").touch()
    script = "from rlvid import probe; print(probe('./rewards.py:compute_score', groups=4, json='out.json'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "ProbeResult(compute_score: value pass" in done.stdout, done.stderr
    assert json.loads((foreign / "out.json").read_text())["where"] == "rewards.py:11, verl's compute_score"
    mistaken = "import rewards, rlvid; rlvid.probe('accuracy')"
    done = subprocess.run([sys.executable, "-c", mistaken], capture_output=True, text=True)
    assert "rewards.py was imported as 'rewards', which is a folder of rlvid: rename that file" in done.stderr


def test_a_module_that_is_a_file_here_is_answered_with_its_path(foreign, monkeypatch):
    (foreign / "mine.py").write_text(FOREIGN)
    (foreign / "rewards.py").write_text(FOREIGN)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(foreign)])
    for name in ("mine", "rewards"):
        with pytest.raises(UserError, match=f"for the file here write ./{name}.py:compute_score$"):
            probe(f"{name}:compute_score")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"completions": [1, 2]}, "completions are no list of texts: a line is"),
        ({"options": "a pan"}, "options are no list of texts"),
        ({"finished": [True]}, "1 finished for 2 completions"),
        ({"gold": "Z"}, "gold 'Z' is none of the options: give a letter from A to B, or its text"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, changes, words):
    row = {"question": "Which?", "options": ["a pan", "a cup"], "gold": "B", "completions": ["...", "..."]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | changes) + "\n")
    with pytest.raises(UserError, match=rf"mine.jsonl:2: {re.escape(words)}"):
        saved_replies(tmp_path / "mine.jsonl")


def test_a_line_may_give_the_right_option_by_its_text(tmp_path):
    row = {"question": "Which?", "options": ["a pan", "a cup"], "gold": "a cup", "completions": ["..."]}
    open_ended = row | {"options": [], "gold": "12 cm"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(open_ended) + "\n")
    assert [group.prompt.answer for group in saved_replies(tmp_path / "mine.jsonl").groups] == ["B", "12 cm"]
    (tmp_path / "mine.jsonl").write_text("[1, 2]\n")
    with pytest.raises(UserError, match=r"mine.jsonl:1: no question: a line is"):
        saved_replies(tmp_path / "mine.jsonl")


def test_accuracy_does_not_help_to_tell_whether_an_answer_follows_from_its_reasoning():
    """Each answer counts as the right one, so that a gate is open."""
    assert probe("accuracy", groups=24)["information"].numbers["coherence"] == {"kitchen": 0.5, "prose": 0.5}
    gated, plain = (probe("consistency_rule", groups=24, gated=gated)["information"].numbers for gated in (True, False))
    assert gated["coherence"] == plain["coherence"] and gated["coherence"]["kitchen"] > 0.9
