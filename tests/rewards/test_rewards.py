"""Contracts that every reward in the folder keeps, and the values of rewards of text alone on known replies.

Rewards that read evidence are tested in test_consistency.py and test_grounding.py, tricks in test_hacks.py.
"""

import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl.rewards import get_repetition_penalty_reward

import rewards
from rlvid.answer import parse
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.registry import available, build
from rlvid.reward import Column
from rlvid.types import Completion, Group, Likelihood, Prompt
from rlvid.video.views import VIEWS

pytestmark = pytest.mark.fast
FOLDER = Path(rewards.__path__[0])
NAMES = available("rewards")
CONTENT_BLIND = {"random", "constant", "overlong", "repetition"}  # they do not depend on the meaning of a reply
PROMPT = Prompt(
    id="q1",
    question="What should I do next?",
    options=("open tap", "close tap", "cut onion", "wash pan"),
    answer="B",
    video="clip.mp4",
    narrations=("turn on tap", "rinse cup"),
)
GOLD = "<think>She rinsed a cup and the tap is running. So it is time to close the tap.</think><answer>B</answer>"
BAD = [
    "",
    "B",
    "<answer>",
    "<think>The tap is running.</think>",
    "<think></think><answer>A or B</answer>",
    "<answer>C</answer><think>The tap is running.</think>",
    "The tap <think>is</think> running. <answer>D</answer>",
    "<answer>A</answer><answer>B</answer>",
]


OTHER_RECORDS = {  # rewards for records of another kind: prompt, gold reply
    "open_ended": (Prompt(id="o", question="How long?", answer="boil the pasta"), "<answer>Boil pasta.</answer>"),
    "mra": (Prompt(id="n", question="How many chairs?", answer="8"), "<answer>8</answer>"),
    "grounding_tiou": (Prompt(id="s", question="When?", meta={"span": (2, 5)}), "<answer>2 to 5</answer>"),
    "grounding_moves": (
        Prompt(id="m", question="Next?", options=PROMPT.options, answer="B", narrations=("put the corn in the pot",)),
        "<think>The corn went in.</think><answer>B</answer>",
    ),
    "grounding_timestamps": (
        Prompt(
            id="t",
            question="Next?",
            options=PROMPT.options,
            answer="B",
            narrations=("rinse cup",),
            meta={"task_progress_metadata": [{"narration_text": "rinse cup", "start_frame": 8, "stop_frame": 10}]},
        ),
        "<think>At 0:04 she rinses a cup.</think><answer>B</answer>",
    ),
    "grounding_box_iou": (Prompt(id="b", question="?", meta={"box": (0, 0, 4, 4)}), "<answer>[0, 0, 4, 4]</answer>"),
}


FIELDS = {"grounding_timestamps": {"fps": 2.0}}  # options that the record of another kind needs


def judge(prompts: Sequence[str]) -> list[str]:
    """Reply as a language model that trusts whoever saw the cup, or speaks of closing the tap."""
    replies = []
    for text in prompts:
        saw, closes = "rinsed a cup" in text, "must be closed" in text or "close the tap" in text
        if "YES or NO" in text:
            replies.append("YES" if saw else "NO")
        elif "GRADE:" in text:
            replies.append("GRADE: 9" if saw else "GRADE: 2")
        else:
            replies.append("B" if closes or ("observations lead to" in text and saw) else "A")
    return replies


def group(*texts: str, prompt: Prompt = PROMPT) -> Group:
    """Return replies to one prompt, 400 tokens each, with all evidence: strong for the gold reply, weak for others."""
    replies = Group(prompt, [Completion(text, tokens=tuple(range(400))) for text in texts])
    count = len(prompt.options)
    certain = (0.1, 0.9, 0.0, 0.0)[:count]
    even = (1 / count,) * count if count else ()
    replies.columns["accuracy"] = build("rewards", "accuracy")([replies])[0]
    replies.evidence = {
        "narrations": prompt.narrations,
        "embeddings": embed,
        "nli": lambda pairs: [0.9 * ("close" in premise and "close" in h) for premise, h in pairs],
        "judge": judge,
        "answer_probs": [certain if t == GOLD else even for t in texts],
        "forced_probs": [certain if t == GOLD else even for t in texts],
        "answer_likelihood": [
            Likelihood(certain, even, certain) if t == GOLD else Likelihood(even, even, even) for t in texts
        ],
        "reanswer": ["B" if t == GOLD else None for t in texts],
        "ref_logps": [(-1.0,) * 400 for _ in texts],
        "visual_attention": [0.5 if t == GOLD else 0.1 for t in texts],
    }
    for view in VIEWS:
        replies.evidence[f"view:{view}"] = other = Group(prompt, [Completion("") for _ in texts])
        other.columns["accuracy"] = build("rewards", "accuracy")([other])[0]
    return replies


def score(name: str, *texts: str, **fields: object) -> Sequence[float | None]:
    """Return one reward's row for replies to the prompt."""
    return build("rewards", name, **fields)([group(*texts)])[0]


@pytest.fixture(params=NAMES)
def reward(request: pytest.FixtureRequest) -> Callable[[Sequence[Group]], Column]:
    """Each reward in the folder, with its defaults."""
    return build("rewards", request.param)


def test_a_reward_returns_one_row_per_group_and_one_number_or_none_per_completion(reward: Callable) -> None:
    groups = [group(GOLD, *BAD), group(GOLD), group(*BAD, prompt=Prompt(id="q2", question="?", options=("a", "b")))]
    column = reward(groups)
    assert [len(row) for row in column] == [len(g) for g in groups]
    assert all(v is None or (isinstance(v, float) and isfinite(v)) for row in column for v in row)
    assert reward([]) == []


def test_equal_replies_get_equal_numbers_in_any_order(reward: Callable) -> None:
    replies, rng = [GOLD, *BAD, GOLD], random.Random(0)
    row = reward([group(*replies)])[0]
    assert row == reward([group(*replies)])[0]
    for _ in range(5):
        order = rng.sample(range(len(replies)), len(replies))
        reordered = group(*(replies[i] for i in order))
        first, second = reward([group(GOLD), reordered])  # beside another group
        assert second == [row[i] for i in order] and len(first) == 1


BARE = Prompt(id="bare", question="What next?")  # no options, no answer, no pixels, no narrations
ALWAYS_APPLY = {"random", "constant", "consistency_likelihood", "format", "length", "overlong", "repetition"}
ALWAYS_APPLY |= {"grounding_attention", "video_attention_score"}  # None only where its evidence is None


@pytest.mark.parametrize("name", NAMES)
def test_a_reward_is_none_only_where_it_does_not_apply(name: str) -> None:
    """With all evidence, every reply to a record of the reward's kind gets a number, however bad it is."""
    prompt, reply = OTHER_RECORDS.get(name, (PROMPT, GOLD))
    assert None not in build("rewards", name, **FIELDS.get(name, {}))([group(reply, *BAD, prompt=prompt)])[0]
    if name in OTHER_RECORDS:
        assert score(name, GOLD, *BAD) == [None] * (1 + len(BAD))
    bare = build("rewards", name)([group(GOLD, *BAD, prompt=BARE)])[0]
    assert None not in bare if name in ALWAYS_APPLY else bare == [None] * len(bare)


@pytest.mark.parametrize("name", sorted({*NAMES} - CONTENT_BLIND))
def test_no_reply_scores_above_the_gold_reply(name: str) -> None:
    prompt, reply = OTHER_RECORDS.get(name, (PROMPT, GOLD))
    gold, *bad, _ = build("rewards", name, **FIELDS.get(name, {}))([group(reply, *BAD, reply, prompt=prompt)])[0]
    assert gold is not None and gold > min(v for v in bad if v is not None)
    assert gold == max(gold, *(v for v in bad if v is not None))


def test_rewards_can_be_imported_without_torch() -> None:
    code = f"import sys\nfor n in {NAMES}: __import__('rewards.' + n)\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_in_the_readme_names_every_reward() -> None:
    table = re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text().partition("\n## ")[0], re.M)
    assert table == NAMES


def test_the_examples_in_the_readme_run(tmp_path: Path) -> None:
    python = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.S)
    names = "a/my_reward", "b/my_reward", "rarity", "helps"
    plain, with_options, rarity, helps = (tmp_path / f"{name}.py" for name in names)
    for path, block in zip((plain, with_options, rarity, helps), python, strict=False):
        path.parent.mkdir(exist_ok=True)
        path.write_text(block)
    assert build("rewards", str(plain))([group(GOLD, "B")]) == [[pytest.approx(0.83), None]]
    assert build("rewards", str(with_options), words=34)([group(GOLD, "B")]) == [[pytest.approx(0.5), None]]
    assert build("rewards", f"{rarity}:Rarity", floor=0.6)([group(GOLD, GOLD, GOLD, "B")]) == [[0.6, 0.6, 0.6, 0.0]]
    assert build("rewards", f"{helps}:Helps")([group(GOLD, "B")]) == [[pytest.approx(0.9 - 0.25), 0.0]]


def test_accuracy_compares_the_parsed_letter_with_the_gold_one() -> None:
    replies = [GOLD, "<think>.</think><answer>close tap.</answer>", "<answer>(b)</answer>"]
    assert score("accuracy", *replies) == [1.0, 1.0, 1.0]
    assert score("accuracy", "<answer>A</answer>", "<answer>A or B</answer>", "B", "") == [0.0, 0.0, 0.0, 0.0]


def test_accuracy_does_not_apply_without_a_gold_answer() -> None:
    unlabelled = Prompt(id="q", question="?", options=("a", "b"))
    assert build("rewards", "accuracy")([group(GOLD, "", prompt=unlabelled)]) == [[None, None]]


@pytest.mark.parametrize(
    ("text", "strict", "partial"),
    [
        (GOLD, 1, 1.0),
        (" \n<think>so</think>\n\n<answer>B</answer>\n", 1, 1.0),
        ("<think>a < b</think><answer>A or B</answer>", 1, 1.0),  # accuracy checks what the answer is
        ("<think>so</think><answer>B</answer> and so on", 0, 0.75),  # SEED-Bench-R1: 1
        ("So: <think>so</think><answer>B</answer>", 0, 0.75),
        ("<think>so</think> thus <answer>B</answer>", 0, 0.75),
        ("<think> </think><answer>B</answer>", 0, 0.75),  # all published code: 1
        ("<think>so</think><answer>\n</answer>", 0, 0.75),
        ("<think>so</think><answer>B", 0, 0.75),
        ("so</think><answer>B</answer>", 0, 0.5),
        ("<think><think>so</think></think><answer>B</answer>", 0, 0.5),  # all published code: 1
        ("<think>so</think><answer>A</answer><answer>B</answer>", 0, 0.5),  # all published code: 1
        ("<think>so<answer>B</answer></think>", 0, 0.5),
        ("<answer>B</answer><think>so</think>", 0, 0.25),
        ("<answer>B</answer>", 0, 0.25),
        ("<THINK>so</THINK><ANSWER>B</ANSWER>", 0, 0.0),
        ("B", 0, 0.0),
        ("", 0, 0.0),
    ],
)
def test_format_is_strict_or_counts_the_tags_in_position(text: str, strict: float, partial: float) -> None:
    assert score("format", text) == [strict]
    assert score("format", text, partial=True) == [partial]


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "B", " "]), max_size=9).map("".join)
BODIES = st.text().filter(lambda text: text.strip() and "<" not in text)


@given(PIECES)
def test_format_accepts_exactly_one_form(text: str) -> None:
    tags = re.findall(r"</?(?:think|answer)>", text)
    before, thought, gap, answer, after = (*re.split(r"</?(?:think|answer)>", text), *[""] * 5)[:5]
    tags_fit = tags == ["<think>", "</think>", "<answer>", "</answer>"]
    well_formed = tags_fit and bool(thought.strip() and answer.strip()) and not (before + gap + after).strip()
    assert score("format", text) == [float(well_formed)]
    [partial] = score("format", text, partial=True)
    assert partial == 1.0 if well_formed else partial < 1


@given(BODIES, st.sampled_from("ABCD"))
def test_a_letter_in_a_well_formed_reply_is_always_parsed(thought: str, letter: str) -> None:
    text = f"<think>{thought}</think><answer>{letter}</answer>"
    assert score("format", text) == [1.0]
    assert parse(text, PROMPT.options) == letter


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"'format' has no field 'partail'. Did you mean 'partial'\?"):
        build("rewards", "format", partail=True)


def test_an_ambiguous_answer_is_wrong() -> None:
    replies = ["<think>The tap is running.</think><answer>B</answer>", "<answer>A or B</answer>"]
    assert build("rewards", "accuracy")([group(*replies)]) == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("tokens", "fields", "expected"),
    [(0, {}, 0), (192, {}, 0), (208, {}, -0.25), (256, {}, -1), (300, {}, -1), (64, {"cache": 256}, -0.25)],
)
def test_overlong_falls_linearly_to_minus_1(tokens: int, fields: dict[str, int], expected: float) -> None:
    row = build("rewards", "overlong", **fields)([Group(PROMPT, [Completion(GOLD, tokens=(1,) * tokens)])])
    assert row == [[pytest.approx(expected)]]


@pytest.mark.parametrize(("cache", "max_length"), [(0, 256), (-8, 256), (64, 32), (0, 0)])
def test_a_ramp_without_length_is_refused_when_it_is_built(cache: int, max_length: int) -> None:
    with pytest.raises(UserError, match=rf"^reward 'overlong': cache must be from 1 to max_length, {max_length}, not"):
        build("rewards", "overlong", cache=cache, max_length=max_length)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("length", {"low": 600}, "low must not be above high, 600 > 512"),
        ("consistency_embedding", {"sentences": 0}, "sentences 1 or more, not 0.05 and 0"),  # it read the whole thought
        ("consistency_embedding", {"tau": 0.0}, "tau must be above 0"),
        ("consistency_nli", {"sentences": -1}, "sentences must be 1 or more, not -1"),
    ],
)
def test_a_number_outside_its_range_is_refused(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("rewards", name, **options)


def test_the_random_reward_has_mean_p_and_depends_only_on_seed_sample_and_text() -> None:
    texts = [f"reply {i}" for i in range(2000)]
    low, high = (score("random", *texts, p=p) for p in (0.3, 0.6))
    assert sum(low) / 2000 == pytest.approx(0.3, abs=0.05) and sum(high) / 2000 == pytest.approx(0.6, abs=0.05)
    assert all(a <= b for a, b in zip(low, high, strict=True))  # the ones at a low p are ones at a higher p
    other_seed = score("random", *texts, p=0.3, seed=1)
    assert sum(a * b for a, b in zip(low, other_seed, strict=True)) / 2000 == pytest.approx(0.09, abs=0.03)
    relabelled = group(*texts, prompt=replace(PROMPT, answer="C"))
    assert build("rewards", "random", p=0.3)([relabelled]) == [low]
    assert score("random", "", GOLD, p=1.0) == [1.0, 1.0] and score("random", "", GOLD, p=0.0) == [0.0, 0.0]


def test_the_constant_reward_is_its_value() -> None:
    assert score("constant", GOLD, "", value=0.5) == [0.5, 0.5] and score("constant", "") == [1.0]


def test_length_pays_right_answers_within_its_bounds() -> None:
    replies = Group(PROMPT, [Completion(GOLD, tokens=(1,) * n) for n in (319, 320, 512, 513, 400)])
    replies.columns["accuracy"] = [1.0, 1.0, 1.0, 1.0, 0.0]
    assert build("rewards", "length")([replies]) == [[0, 0.2, 0.2, 0, 0]]


def test_length_pays_as_published_only_where_several_replies_are_right() -> None:
    replies = Group(PROMPT, [Completion(GOLD, tokens=(1,) * 400)] * 3)
    for accuracies, expected in (([1.0, 0.0, None], [0, 0, 0]), ([1.0, 0.0, 1.0], [0.2, 0, 0.2])):
        replies.columns["accuracy"] = accuracies
        assert build("rewards", "length")([replies]) == [expected]


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_repetition_equals_that_of_trl(tokens: list[int], n: int) -> None:
    row = build("rewards", "repetition", n=n)([Group(PROMPT, [Completion("", tokens=tuple(tokens))])])
    assert row == [get_repetition_penalty_reward(n)([tokens])]


@pytest.mark.parametrize("n", [0, -1])
def test_repetition_of_no_tokens_is_refused(n: int) -> None:
    with pytest.raises(UserError, match=f"must be 1 or more, not {n}"):
        score("repetition", GOLD, n=n)


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("12", "12", 1),
        ("0.5", "1/2", 1),
        ("$\\frac{1}{2}$", "0.5", 1),
        ("12", "13", 0),
        ("12", "a dozen", 0),
        ("3", "3 apples", 1),
        ("1,000", "1000", 1),
        ("1 000", "1 000", 1),
        ("+5", "+5", 1),  # as plain text it reads neither this nor "{1,2}"
        ("+5", "5", 1),
        ("+5", "-5", 0),
        ("{1,2}", "{2,1}", 1),
        ("(3, 4)", "(3,4)", 1),
        ("(3, 4)", "4", 0),  # of plain text it reads the last number
        ("3, 4", "4", 0),
        ("8", "$2^3$", 1),
        ("24", "$4!$", 1),
        ("1/2", r"$\dfrac{1}{2}$", 1),
        (r"$\binom{4}{2}$", r"$\binom{4}{2}$", 1),
        ("12", "There are 12 apples!", 1),
        ("8", "9^9^9", 0),  # these would be evaluated for ever
        ("8", r"$\Gamma(10^9)$", 0),
        ("8", r"$\dbinom{99999999}{49999999}$", 0),
        ("8", r"${99999999 \choose 49999999}$", 0),
        ("8", "$2^{99999999}$", 0),
        ("8", "99999999!", 0),
        ("$2^{99999999}$", "$2^{99999999}$", 1),
        ("boil the pasta", "Boiling pasta", 1),
        ("boil the pasta", "first boil water, then add pasta", 2 * 2 / (2 + 6)),
        ("boil the pasta", "pasta boil", 2 * 1 / (2 + 2)),  # order counts
        ("boil the pasta", "wash a pan", 0),
        ("No", "no", 1),
        ("No", "Yes", 0),
        ("A", "a", 1),
        ("on", "It is on.", 2 * 1 / (1 + 3)),
        ("open the tap", "do not open the tap", 2 * 2 / (2 + 4)),
        ("她打开水龙头", "她打开水龙头", 1),
        ("она открыла кран", "она закрыла кран", 2 * 2 / (3 + 3)),
    ],
)
def test_open_answers_are_compared_as_numbers_or_by_shared_words(gold: str, answer: str, expected: float) -> None:
    prompt = Prompt(id="o", question="?", answer=gold)
    replies = Group(prompt, [Completion(f"<think>so</think><answer>{answer}</answer>"), Completion(answer)])
    assert build("rewards", "open_ended")([replies]) == [[pytest.approx(expected), 0.0]]
    assert build("rewards", "accuracy")([replies]) == [[None, None]]
