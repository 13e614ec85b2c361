"""The exact rules for the kitchen's language, against hand-made thoughts and the kitchen's own demonstrations."""

import numpy as np
import pytest

from rewards.consistency_rule import ConsistencyRule, named_options
from rewards.grounding_moves import GroundingMoves
from rlvid.data import kitchen_world as world
from rlvid.errors import UserError
from rlvid.scoring import score
from rlvid.types import Completion, Group, Prompt

pytestmark = pytest.mark.fast
score_moves = GroundingMoves().score
OPTIONS = tuple(world.Move(item).narration for item in ("corn", "onion", "beet", "carrot"))
MOVES = ("put the corn in the pot", "put the beet in the pot", "take the corn out of the pot")
PROMPT = Prompt("q", "What next?", OPTIONS, "B", narrations=MOVES)


def reply(thought: str, letter: str = "B") -> Completion:
    return Completion(f"<think>{thought}</think><answer>{letter}</answer>")


@pytest.mark.parametrize(
    ("thought", "letter", "consistent"),
    [
        ("That leaves onion, corn. Next is the onion.", "B", 1),
        ("That leaves onion, corn. Next is the corn.", "B", 0),  # the letter of what is left
        ("That leaves onion, corn. Next is the corn.", "A", 1),  # consistent and wrong
        ("Next is the onion. That leaves corn.", "B", 0),  # only the last sentence counts
        ("That leaves onion, corn.", "B", 0),  # two options
        ("Next is the tomato.", "B", 0),  # no option
        ("Put it in the pot.", "B", 0),  # words that all options share
        ("NEXT IS THE ONION", "B", 1),
        ("Next is the onions.", "B", 0),  # exact words
        ("", "B", 0),
        ("Next is the onion.", "B or C", 0),  # no answer
    ],
)
def test_the_last_sentence_must_name_the_chosen_option_alone(thought: str, letter: str, consistent: float) -> None:
    assert ConsistencyRule(gated=False).agreement([Group(PROMPT, [reply(thought, letter)])]) == [[consistent]]


def test_the_gate_pays_right_answers_only() -> None:
    group = Group(PROMPT, [reply("Next is the onion."), reply("Next is the corn.", "A"), reply("Next is the corn.")])
    group.columns["accuracy"] = [1.0, 0.0, 1.0]
    assert ConsistencyRule()([group]) == [[1, 0, 0]]
    assert group.evidence["agreement/consistency_rule"] == [1, 1, 0]


def test_options_are_named_by_words_that_no_other_option_has() -> None:
    assert named_options("close it", ("open tap", "close tap")) == ["B"]
    assert named_options("the tap", ("open tap", "close tap")) == []
    assert named_options("open and close", ("open tap", "close tap")) == ["A", "B"]


@pytest.mark.parametrize(
    ("thought", "f1"),
    [
        ("The corn went in, the beet went in, the corn came out. Now the pot shows the beet.", 1),
        ("The corn went in, the beet went in, the corn came out.", 1),
        ("The corn went in, the beet went in, the corn came out. That leaves onion. Next is the onion.", 1),  # free
        ("The beet went in, the corn went in, the corn came out.", 2 * 2 / 6),  # order counts
        ("The corn went in, the beet went in.", 2 * 2 / 5),
        ("The corn went in, the beet went in, the beet came out. Now the pot shows the corn.", 2 * 2 / 6),  # on top
        ("The corn went in. Now the pot shows the beet.", 2 * 2 / 5),  # what the image shows is told, too
        ("The corn went in. Now the pot shows the tomato.", 2 * 1 / 5),
        ("The corn went in, the beet went in, the corn came out, the onion went in.", 2 * 3 / 7),  # not filmed
        ("That leaves onion. Next is the onion.", 0),
    ],
)
def test_told_moves_are_compared_with_the_narrated_ones_in_order(thought: str, f1: float) -> None:
    assert score_moves(reply(thought), PROMPT) == pytest.approx(f1)


def test_the_rule_for_moves_does_not_apply_without_moves() -> None:
    assert score_moves(reply("The corn went in."), Prompt("q", "?", OPTIONS, "B")) is None
    assert score_moves(reply("The corn went in."), Prompt("q", "?", OPTIONS, "B", narrations=("cut corn",))) is None


def test_every_demonstration_of_the_kitchen_has_all_of_both() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = world.draw_scene(rng)
        options = tuple(world.Move(item).narration for item in scene.recipe)
        narrations = tuple(move.narration for move in scene.moves if scene.filmed)
        prompt = Prompt("q", "?", options, narrations=narrations)
        completion = Completion(f"<think>{scene.reasoning}</think><answer>{scene.answer}</answer>")
        assert score_moves(completion, prompt) == (1 if scene.filmed else None), scene
        assert ConsistencyRule(gated=False).agreement([Group(prompt, [completion])]) == [[1]], scene


def test_the_mean_relative_accuracy_pays_for_near_misses():
    prompt = Prompt("q", "How many chairs?", answer="10")
    replies = ["<answer>10</answer>", "<think>3 or 4</think><answer>7.5</answer>", "<answer>10 chairs</answer>", "10"]
    assert score("mra", prompt, replies) == [1.0, 0.6, 0.0, 0.0]
    assert score("mra", prompt, replies, inequality="<") == [1.0, 0.5, 0.0, 0.0]
    assert score("mra", Prompt("q", "Who?", answer="the cook"), replies) == [None] * 4
    assert score("mra", Prompt("q", "Which?", ("10", "20"), "A"), replies) == [None] * 4
    assert score("mra", Prompt("q", "How warm?", answer="0"), ["<answer>0</answer>", "<answer>1</answer>"]) == [
        1.0,
        0.0,
    ]
    huge = ["<answer>1e99</answer>", "<answer>-1e999</answer>"]
    assert score("mra", prompt, huge) == score("mra", prompt, huge, inequality="<") == [0.0, 0.0]
    with pytest.raises(UserError, match='inequality must be "<" or "<="'):
        score("mra", prompt, replies, inequality=">")
