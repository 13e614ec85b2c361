"""The parser of replies: what it credits, what it does not, and what published code credits wrongly."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlvid.answer import LETTERS, extract_thought, format_question, parse

pytestmark = pytest.mark.fast
KITCHEN = ("open tap", "close tap", "cut onion", "wash pan")


def reply_with(body: str) -> str:
    """Return a well-formed reply with `body` as its answer."""
    return f"<think>The tap is running.</think><answer>{body}</answer>"


BY_LETTER = ["B", "b", "B.", "B)", "(B)", "(b)", "(b).", "[B]", "**B**", "**(B)**", "`B`", '"B"', " \n B\t", "B:"]
BY_TEXT = ["close tap", "Close Tap", "close  tap.", " CLOSE\ntap ", "**close tap**.", "'close tap'"]
BY_BOTH = [
    "B. close tap",
    "b. Close Tap.",
    "B) close tap",
    "(B) close tap",
    "B: close tap",
    "B close tap",
    "B.close tap",
]
BY_BOTH += ["**B. close tap**", "**B**: close tap", "B. **close tap**", "B.\nclose tap"]


@pytest.mark.parametrize("body", BY_LETTER + BY_TEXT + BY_BOTH)
def test_an_option_is_named_by_letter_by_text_or_by_both(body: str) -> None:
    assert parse(reply_with(body), KITCHEN) == "B"


@pytest.mark.parametrize(
    "body",
    [
        "",
        " \n",
        ".",
        "**",
        "E",  # beyond the options
        "E. close tap",
        "B. open tap",  # letter and text disagree
        "open tap B",
        "A or B",
        "A, B",
        "A B",
        "AB",
        "A/B",
        "B. close tap or C. cut onion",
        "open tap, close tap",
        "Add oil",  # a first letter that happens to be an option's
        "Close the drawer",
        "Apple",
        "A cup is empty",
        "The answer is B",
        "Answer: B",
        "Option B",
        "tap",
        "close",
        "close tap now",
        "not B",
        "\u0412",  # Cyrillic Ve
        "\uff22",  # full-width B
        "\u24b7",  # circled B
        "B\u0301",  # B with an accent
        "2",
        "<b>B</b>",
    ],
)
def test_any_other_text_names_no_option(body: str) -> None:
    assert parse(reply_with(body), KITCHEN) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B",
        "The answer is B.",
        "<think>B</think>",
        "<answer>B",
        "B</answer>",
        "</answer>B<answer>",
        "<answer>A</answer><answer>B</answer>",
        "<answer>B</answer><answer>B</answer>",
        "<answer><answer>B</answer></answer>",
        "<answer>B</answer></answer>",
        "<answer>A<answer>B</answer>",
        "<think>so <answer>B</answer></think>",
        "<think>so <answer>A</answer></think><answer>B</answer>",
        "<think>so <answer>B</answer>",  # the reasoning never ends
        "<think>one</think><think>two <answer>B</answer>",
        "<answer>B</answer><think>because</think>",
        "<answer>B</answer></think>",
        "<answer><think>tap</think>B</answer>",
        "<ANSWER>B</ANSWER>",
        "<answer>A</answer><Answer>B</Answer>",
    ],
)
def test_a_reply_with_misplaced_or_repeated_tags_has_no_answer(text: str) -> None:
    assert parse(text, KITCHEN) is None


@pytest.mark.parametrize(
    "text",
    [
        "<answer>B</answer>",
        "It runs. <answer>B</answer>",
        "<think>B or A?</think> so:\n<answer>B</answer> That is all: A is wrong.",
        "it runs</think><answer>B</answer>",  # a chat template may open the reasoning
        "<think>one</think><think>two</think><answer>B</answer>",
        "<think></think><answer>B</answer>",
    ],
)
def test_an_answer_counts_even_where_the_rest_of_the_form_is_wrong(text: str) -> None:
    assert parse(text, KITCHEN) == "B"


def test_replies_that_published_code_scores_wrongly() -> None:
    """It compares the first character (SEED-Bench-R1), the first block (all), or strings (GRPO-CARE, Video-R1)."""
    assert parse(reply_with("Add oil"), KITCHEN) is None  # first character: A
    assert parse(reply_with("Close the tap"), KITCHEN) is None  # first character: C
    assert parse(reply_with("Answer: B"), KITCHEN) is None  # first character: A
    assert parse(reply_with("(B)"), KITCHEN) == parse(reply_with("**B**"), KITCHEN) == "B"  # scored 0 there
    assert parse(reply_with("C. cut onion"), KITCHEN) == "C"  # scored 0 by string equality
    assert parse("<answer>B</answer> or <answer>C</answer>", KITCHEN) is None  # first block: B
    assert parse("B. 1 + 1 = 2", KITCHEN) is None  # math_verify reads free text


def test_a_text_that_two_options_share_is_ambiguous_but_their_letters_are_not() -> None:
    twins = ("open tap", "Open tap.", "cut onion")
    assert parse(reply_with("open tap"), twins) is None
    assert parse(reply_with("B"), twins) == parse(reply_with("B. open tap"), twins) == "B"


def test_options_that_are_themselves_letters_count_only_where_letter_and_text_agree() -> None:
    assert parse(reply_with("A"), ("B", "A")) is None
    assert parse(reply_with("A"), ("A", "B")) == "A"
    assert parse(reply_with("A. B"), ("B", "A")) == "A"
    assert parse(reply_with("A cup"), ("cup", "a cup")) is None
    assert parse(reply_with("Add oil"), ("cut onion", "Add oil")) == "B"


def test_options_that_differ_by_one_character_are_told_apart() -> None:
    amounts = ("5 cups", "-5 cups", ".5 cups", "5 (cups)")
    for letter, amount in zip(LETTERS, amounts, strict=False):
        assert parse(reply_with(amount), amounts) == parse(reply_with(f"{letter}. {amount}"), amounts) == letter
    assert parse(reply_with("C. 5 cups"), amounts) is None


def test_a_prompt_has_the_wording_of_the_paper() -> None:
    assert format_question("What next?", ("open tap", "close tap")) == (
        "What next?\nA. open tap\nB. close tap\n Output the thinking process in <think> </think> and final answer in "
        "<answer> </answer> tags, i.e., <think> reasoning process here </think><answer> answer here </answer>. "
    )


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("<think> so\n</think>", "so"),
        ("<think></think>", ""),
        ("none", None),
        ("<think>cut off", None),
        ("</think>x<think>", None),
        ("<think>a</think><think>b</think>", None),
    ],
)
def test_the_thought_is_the_text_of_the_only_think_block(text: str, inside: str | None) -> None:
    assert extract_thought(text) == inside


WORDS = st.text(st.sampled_from("abcdefghiklmnoprstuwy "), min_size=2, max_size=20).map(str.strip)
OPTIONS = st.lists(WORDS.filter(lambda w: len(w) > 1), min_size=2, max_size=8, unique=True).map(tuple)
TAGGED = st.lists(  # text with many tags, letters and options in it
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<ANSWER>", "A", "B.", "open tap", " or ", "\n"])
    | st.text(max_size=5)
).map("".join)
DECORATIONS = ("{}", "{}.", "{})", "({})", "[{}]", "**{}**", "`{}`", '"{}"', " {}\n", "**({})**")
WITH_TEXT = ("{}. {}", "{}) {}", "({}) {}", "{}: {}", "{} {}.", "**{}. {}**", "**{}.** {}", "{}.\n{}")


@given(OPTIONS, st.data(), st.booleans())
def test_any_option_is_recognized_in_any_decoration(options: tuple[str, ...], data: st.DataObject, lower: bool) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    letter, option = LETTERS[index], options[index]
    written = letter.lower() if lower else letter
    for form in DECORATIONS:
        assert parse(reply_with(form.format(written)), options) == letter
    for form in WITH_TEXT:
        body = form.format(written, option)
        assume(" ".join(body.lower().rstrip(".").split()) not in options)
        assert parse(reply_with(body), options) == letter
        other = options[index - 1]
        assert parse(reply_with(form.format(written, other)), options) is None


@given(OPTIONS, st.data())
def test_any_option_is_recognized_by_its_text(options: tuple[str, ...], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    option = options[index]
    assume(f"{LETTERS[index]} " != option[:2].upper())
    assume(not any(option == f"{letter.lower()} {text}" for letter, text in zip(LETTERS, options, strict=False)))
    for body in (option, option.upper(), f"{option}.", f" {option}\n", f"**{option}**", option.replace(" ", "  ")):
        assert parse(reply_with(body), options) == LETTERS[index]


@given(st.text() | TAGGED, st.lists(st.text(max_size=8), max_size=30).map(tuple))
def test_parse_never_raises_and_returns_a_letter_of_an_option_or_none(text: str, options: tuple[str, ...]) -> None:
    for reply in (text, reply_with(text)):
        assert parse(reply, options) in (None, *LETTERS[: len(options)])


@given(TAGGED, st.sampled_from(["", " ", "\n\n", "\t \n"]))
def test_surrounding_white_space_changes_nothing(text: str, space: str) -> None:
    assert parse(space + text + space, KITCHEN) == parse(text, KITCHEN)
    assert parse(reply_with(space + text + space), KITCHEN) == parse(reply_with(text), KITCHEN)


@given(TAGGED, TAGGED, TAGGED, st.sampled_from("ABCD"))
def test_a_second_answer_block_makes_any_reply_invalid(before: str, between: str, after: str, letter: str) -> None:
    assert parse(f"{before}<answer>{letter}</answer>{between}<answer>B</answer>{after}", KITCHEN) is None
    assert parse(f"{before}{reply_with('B')}{between}<answer>{letter}</answer>{after}", KITCHEN) is None


@given(st.permutations(KITCHEN), st.sampled_from(KITCHEN))
def test_shuffling_the_options_moves_the_letter_with_the_text(options: list[str], option: str) -> None:
    letter = parse(reply_with(option), options)
    assert letter is not None and options[LETTERS.index(letter)] == option
