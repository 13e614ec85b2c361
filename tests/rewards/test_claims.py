"""Rewards that read claims about the video: timestamps, observations, and the grade of claimed evidence."""

import pytest

from rewards._timestamps import Claim, read_claims, told_claims
from rewards.observation_reasoning import observations
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.registry import build
from rlvid.types import Completion, Group, Prompt

OPTIONS = ("open tap", "close tap", "cut onion", "wash pan")
TRUTH = (("opens the fridge", 13), ("takes a carrot", 20), ("takes the carrot", 21))


def prompt(truth=TRUTH):
    """A question whose narrations are timed in seconds."""
    rows = [{"narration_text": text, "start_frame": at, "stop_frame": at} for text, at in truth]
    return Prompt(
        "q", "Next?", OPTIONS, "B", narrations=tuple(t for t, _ in truth), meta={"task_progress_metadata": rows}
    )


def reply(thought, answer="B"):
    return Completion(f"<think>{thought}</think><answer>{answer}</answer>")


def timestamps(thoughts, judge=None, truth=TRUTH, **fields):
    """The reward's row for thoughts, and the judge's prompts."""
    asked = []

    def replies(prompts):
        asked.extend(prompts)
        return [judge(one) for one in prompts]

    group = Group(prompt(truth), [reply(one) for one in thoughts], evidence={"embeddings": embed, "judge": replies})
    return build("rewards", "grounding_timestamps", fps=1.0, **fields)([group])[0], asked, group


# What calculate_grounding_reward of mbzuai-oryx/Video-R2 c9e6743 returned on 2026-11-29 for these claims, for
# the narrations `TRUTH` with the encoder that comes with rlvid.
PUBLISHED = [
    ('{"00:10": "opens fridge", "00:30": "other things happen"}', 0.5),
    ('{"00:08": "opens fridge"}', 0.0),
    ('{"00:09": "opens fridge"}', 1.0),  # 4 s early: both are widened by 2 s
    (
        '{"00:10-00:12": "opens fridge", "00:20": "takes a carrot", "00:22": "takes the carrot",'
        ' "00:24": "takes a carrot"}',
        0.75,  # each narration once
    ),
    ("{}", 0.0),
    ('{"00:12": "washes a pan"}', 0.0),
]


@pytest.mark.parametrize(("claims", "score"), PUBLISHED)
def test_precision_equals_the_released_code(claims, score):
    row, asked, _ = timestamps(["He looks."], judge=lambda p: f"Here: {claims}", by="judge")
    assert row == [score] and len(asked) == 1 and "He looks." in asked[0]


def test_the_released_code_rounds_times_and_ours_does_not():
    late = '{"00:08.6": "opens fridge"}'
    assert timestamps(["x"], judge=lambda p: late, by="judge")[0] == [0.0]  # there 8.6 is 9, and scores 1
    assert timestamps(["x"], judge=lambda p: late, by="judge", tolerance=2.2)[0] == [1.0]
    assert timestamps(["At 0:17 she opens the fridge.", "At 0:17.1 she opens the fridge."])[0] == [1, 0], "4 s late"


def test_precision_recall_and_f1_by_hand():
    """Two claims, one of them true, and three narrations: 1/2, 1/3, 2/5. One safe claim earns a full precision."""
    thoughts = ["At 0:10 she opens the fridge. At 0:30 a dog barks.", "At 0:13 she opens the fridge.", "No time."]
    assert timestamps(thoughts)[0] == [0.5, 1.0, 0.0]
    assert timestamps(thoughts, score="recall")[0] == pytest.approx([1 / 3, 1 / 3, 0])
    row, _, group = timestamps(thoughts, score="f1")
    assert row == pytest.approx([2 / 5, 1 / 2, 0])
    assert group.evidence["grounding_timestamps"][0] == {"told": 2, "narrated": 3, "matched": 1}


def test_consistency_is_asked_for_and_a_failed_call_is_no_zero():
    """Published: times TRUE or FALSE. Where a call fails, theirs is 0 and ours None."""
    thoughts = [f"At 0:13 she opens the fridge, {end}." for end in ("so yes", "so no", "perhaps")]

    def judge(text):
        return "TRUE\nboth" if "so yes" in text else "FALSE" if "so no" in text else None

    row, asked, _ = timestamps(thoughts, judge, consistent=True)
    assert row == [1.0, 0.0, None] and len(asked) == 3
    assert timestamps(thoughts, judge, by="judge")[0] == [None, None, None], "no JSON"
    for thought, truth, expected in (("", TRUTH, 0.0), ("At 0:13 it rings.", (), None)):
        assert timestamps([thought], judge, truth, by="judge")[:2] == ([expected], []), "nothing to be judged"


def test_frame_numbers_need_their_rate_and_prompts_without_times_are_left_out():
    group = Group(prompt(), [reply("At 0:13 she opens the fridge.")], evidence={"embeddings": embed})
    with pytest.raises(UserError, match="set the reward's `fps`"):
        build("rewards", "grounding_timestamps")([group])
    half = build("rewards", "grounding_timestamps", fps=0.5)([group])[0]  # the fridge is opened at 26 s
    assert half == [0.0] and timestamps(["At 0:13 x y z."], truth=())[0] == [None]


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("From 0:10 to 0:15 she cuts.", [Claim(10, 15, "she cuts")]),
        ("She cuts at around the 1:02:03 mark.", [Claim(3723, 3723, "She cuts")]),
        ("He waits 2.5 seconds.", [Claim(2.5, 2.5, "He waits")]),
        ("At the 16-second mark she cuts.", [Claim(16, 16, "she cuts")]),
        ("She cuts at the 2-minute mark.", [Claim(120, 120, "She cuts")]),
        ("From 1-2 minutes she cuts.", [Claim(60, 120, "she cuts")]),
        ("At 1 minute 5 seconds he leaves.", [Claim(65, 65, "he leaves")]),
        ("From 1 to 2 minutes she cuts.", [Claim(60, 120, "she cuts")]),
        ("At 1 hour 2 mins and 3.5 s he sits.", [Claim(3723.5, 3723.5, "he sits")]),
        ("He takes 2 cups and 3 pans.", []),
        ("At 5 s he sits, at 9 s he stands.", [Claim(5, 5, "he sits"), Claim(9, 9, "he stands")]),
        ("The man sits at 5 s and stands at 9 s.", [Claim(5, 5, "The man sits"), Claim(9, 9, "and stands")]),
        ("He sits at 5 s and stands at 9 s.", [Claim(5, 5, "and stands")]),  # two words do not precede a time
        ("They bathe 5 seconds.", [Claim(5, 5, "They bathe")]),  # no "the"
        ("the " * 50_000, []),  # at once, and not in hours
        ("Late at 0:20 he sits.\nAt 0:04 he runs", [Claim(4, 4, "he runs"), Claim(20, 20, "Late he sits")]),
    ],
)
def test_claims_that_the_rule_finds(text, claims):
    assert told_claims(text) == claims


def test_replies_of_a_judge_that_are_no_object_are_no_claims():
    assert read_claims("none") is None and read_claims(None) is None and read_claims("{}") == []
    assert read_claims('{"soon": "x", "00:10": "", "0:05-0:02": "y"}') == [Claim(2, 5, "y")]


def judged(thoughts, judge, answer="B", **fields):
    """The row of `observation_reasoning` for thoughts, by a judge."""
    group = Group(prompt(), [reply(one, answer) for one in thoughts], evidence={"judge": lambda ps: [*map(judge, ps)]})
    group.columns["accuracy"] = [float(answer == "B")] * len(thoughts)
    return build("rewards", "observation_reasoning", **fields)([group])[0], group


def test_observations_and_reasoning_by_hand():
    """Observations 1, 1, 0 and reasoning 1: 2/3 + 1, so that with accuracy and format the total is 3.667."""

    def judge(text):
        if "YES or NO" in text:
            return "NO" if "flies" in text else "YES."
        assert "Answer" not in text and "It closes." not in text, "the conclusion is not shown"
        return "B"

    thoughts = ["It opens. It rings. It flies. It closes.", "So B."]
    row, group = judged(thoughts, judge)
    assert row == pytest.approx([1 + 2 / 3, 0]), "a thought of one sentence has no observation"
    assert sum([row[0], 1, 1]) == pytest.approx(3.667, abs=1e-3)
    assert group.evidence["observation_reasoning"][0] == {"observations": [True, True, False], "leads_to": "B"}
    assert judged(thoughts, judge, answer="A")[0] == [0, 0], "gated by accuracy"
    assert judged(thoughts, judge, answer="A", gated=False)[0] == pytest.approx([1 + 2 / 3, 0])


def test_a_judge_that_fails_is_left_out_and_not_counted_as_no():
    def judge(text):
        return "B" if "lead to" in text else "YES" if "It opens" in text else None

    assert judged(["It opens. It rings. So."], judge)[0] == [2.0]
    assert judged(["It rings. So."], judge)[0] == [None]
    assert judged(["It opens. So."], lambda text: "YES" if "YES or NO" in text else "perhaps")[0] == [None]


def test_blocks_are_observations_where_there_are_some():
    text = "<observation>It opens.</observation><think>One. Two.</think><answer>B</answer>"
    assert observations(Completion(text)) == ["It opens."]
    assert observations(reply("One. Two. Three.")) == ["One.", "Two."]


def test_the_rule_is_a_stand_in_without_an_endpoint():
    """What the prompt says counts on neither side, so "the tap" is no observation of its own."""
    thoughts = ["She opens the fridge. A dog barks. So close it.", "The tap is there. So close it."]
    group = Group(prompt(), [reply(one) for one in thoughts], evidence={"reanswer": ["B", "A"]})
    group.columns["accuracy"] = [1.0, 1.0]
    reward = build("rewards", "observation_reasoning", by="rule")
    assert reward.needs == {"narrations", "reanswer", "column:accuracy"}
    assert reward([group]) == [[1.5, 0.0]]
    half = Group(prompt(), [reply("The fridge barks. A dog eats the fridge. So.")], evidence={"reanswer": [None]})
    half.columns["accuracy"] = [1.0]
    assert reward([half]) == [[0.5]], "one word of two is half of them, one of three is not"
    told = prompt((("close tap", 3),))
    known = Group(told, [reply("One. Two.")], evidence={"reanswer": ["B"]}, columns={"accuracy": [1.0]})
    assert reward([known]) == [[None]], "the prompt says all that is narrated"


def test_the_grade_of_claimed_evidence():
    replies = iter(["GRADE: 7", "7/10", None, "high", "It names 3 colours and 2 places. **GRADE:** 9"])
    group = Group(prompt(), [reply(f"He {x}.") for x in "abcde"] + [Completion("B")])
    group.evidence["judge"] = lambda prompts: [next(replies) for _ in prompts]
    assert build("rewards", "video_attention_score")([group]) == [[0.7, 0.7, None, None, 0.9, 0.0]]
    assert "He a." in group.evidence["video_attention_score"][0]["asked"]


def test_an_observation_that_suffices_and_one_that_states_the_answer():
    """VideoP2R's judge is shown the right answer, so stating it suffices; `leaks = false` closes that."""
    seen = ("She came.", "Close it!", "")
    texts = [f"<observation>{one}</observation><think>So.</think><answer>B</answer>" for one in seen]
    texts += ["<think>She came.</think><answer>B</answer>", "B"]
    asked = []

    def judge(prompts):
        asked.extend(prompts)
        return ["YES" if "came" in one or "Close it" in one else "NO" for one in prompts]

    def row(**fields):
        group = Group(prompt(), [Completion(text) for text in texts], evidence={"judge": judge})
        return build("rewards", "perception_judge", **fields)([group])[0]

    assert row() == [2, 2, 0, 1, 0], "an empty block has no form, and no block: the thought is judged"
    assert "The right answer is: B. close tap" in asked[0]
    assert row(leaks=False) == [2, 1, 0, 1, 0] and row(form=0.0) == [1, 1, 0, 1, 0]
