"""Replies with two answers: the reward, the parser, and the wording, beside VideoAuto-R1's code."""

import pytest

from rlvid.answer import has_two_answers, two_answers
from rlvid.protocols import PROTOCOLS, extract
from rlvid.registry import build
from rlvid.types import Completion, Group, Prompt

PROMPT = Prompt("q", "Which?", ("open tap", "close tap"), "B")
ABSTAIN = r"\boxed{Let's analyze the problem step by step.}"

# 0.9, 1.1 and 1 times the rewards accuracy_boxed1, accuracy_boxed2 and format_twice_boxed of IVUL-KAUST/VideoAuto-R1
# f7d91a3, summed, as its code returned them on 2026-11-29 for the gold answer "B"; and ours where it differs.
PUBLISHED = [
    (r"\boxed{B}<think>t</think>\boxed{B}", 3.0, None),
    (r"\boxed{B}<think>t</think>\boxed{A}", 1.9, None),
    (ABSTAIN + r"<think>t</think>\boxed{B}", 2.4, None),
    (r"\boxed{A}<think>t</think>\boxed{B}", 2.1, None),
    (r"\boxed{A}<think>t</think>\boxed{A}", 1.0, None),
    (ABSTAIN + r"<think>t</think>\boxed{A}", 1.0, None),
    (r"\boxed{B} so <think>t</think>\boxed{B}", 2.0, None),
    (r"<think>t</think>\boxed{B}", 1.1, None),
    (r"\boxed{B}\boxed{A}<think>t</think>\boxed{B}", 1.1, None),
    (r"\boxed{B}", 2.0, None),
    (r"\boxed{B}<think>t</think>\boxed{B} done", 2.0, None),
    (r"\boxed{B}<think>a</think><think>b</think>\boxed{B}", 2.0, None),
    (r"\boxed{B}<think></think>\boxed{B}", 3.0, 2.0),  # an empty thought
    (r"\boxed{B.}<think>t</think>\boxed{(B)}", 2.1, 3.0),  # "B." names the option
]


@pytest.mark.parametrize(("text", "theirs", "ours"), PUBLISHED)
def test_the_reward_equals_the_released_code_but_for_two_differences(text, theirs, ours):
    group = Group(
        PROMPT, [Completion(text), Completion(text.replace(r"\boxed{", "<answer>").replace("}", "</answer>"))]
    )
    expected = theirs if ours is None else ours
    assert build("rewards", "video_auto")([group]) == [[pytest.approx(expected)] * 2], "boxes and tags alike"


def test_abstaining_pays_if_the_first_answer_is_right_less_than_a_third_of_the_time():
    reward = build("rewards", "video_auto")
    right, wrong, abstain = (
        reward([Group(PROMPT, [Completion(first + r"<think>t</think>\boxed{B}")])])[0][0]
        for first in (r"\boxed{B}", r"\boxed{A}", ABSTAIN)
    )
    for share, pays in ((0.3, True), (0.4, False)):
        assert (abstain > share * right + (1 - share) * wrong) is pays


def test_what_is_read_of_a_reply_is_recorded():
    group = Group(PROMPT, [Completion(ABSTAIN + r"<think>t</think>\boxed{close tap}"), Completion("")])
    build("rewards", "video_auto")([group])
    assert group.evidence["video_auto"] == [
        {"first": None, "second": "B", "fallback": True},
        {"first": None, "second": None, "fallback": False},
    ]
    assert build("rewards", "video_auto")([Group(Prompt("o", "How?"), [Completion("x")])]) == [[None]]


def test_answers_of_a_reply_with_two():
    assert two_answers(r"\boxed{\frac{1}{2}}<think>x</think>\boxed{3}") == (r"\frac{1}{2}", "3")
    assert two_answers("<think>a</think><answer>B</answer>") == (None, "B")
    assert two_answers("<answer>B</answer>") == ("B", "B") and two_answers("B") == (None, None)
    assert two_answers("<answer>A<answer>B</answer><think>x</think>") == ("B", None)
    assert not has_two_answers("<answer>A</answer><think> \n</think><answer>B</answer>")
    assert not has_two_answers("<answer>A</answer><think>" + "x" * 200_000), "and it takes no hours to say so"
    assert has_two_answers(" <answer>A</answer>\n<think>x</think>\n<answer>B</answer>\n")


def test_the_protocol_asks_for_two_answers_and_reads_the_last():
    theirs = (  # their system prompt, built here as theirs is
        "FIRST: Output your initial answer inside the first \\boxed{...} without any analysis or explanations. "
        "If you cannot determine the answer without reasoning, output "
        "\\boxed{Let's analyze the problem step by step.} instead.\n"
        "THEN: Think through the reasoning as an internal monologue enclosed within <think>...</think>.\n"
        "AT LAST: Output the final answer again inside \\boxed{...}. If you believe the previous answer was correct, "
        "repeat it; otherwise, correct it.\n"
        "Output format: \\boxed{...}<think>...</think>\\boxed{...}"
    )
    text = PROTOCOLS["video_auto"].format("Which?", PROMPT.options)
    assert text == f"Which?\nA. open tap\nB. close tap\n{theirs}"
    tags = PROTOCOLS["video_auto_tags"].format("Which?", PROMPT.options)
    assert tags.endswith("Output format: <answer>...</answer><think>...</think><answer>...</answer>")
    for reply, letter in ((r"\boxed{A}<think>t</think>\boxed{B}", "B"), (r"\boxed{A}", "A"), ("B", None)):
        assert extract("two_answers", reply, PROMPT.options) == letter
