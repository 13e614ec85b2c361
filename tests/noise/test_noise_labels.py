"""Wrong labels beyond the symmetric: which letter, how often, what is left of the signal, and the oracle."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rlvid.config import NoiseConfig
from rlvid.data.seed_bench_r1 import load
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.noise import apply
from rlvid.noise.labels import LABELS, wrong_letters
from rlvid.registry import build
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.text import plain_words

OPTIONS = ("put the onion in the pot", "take the onion out of the pot", "wash the pan", "open the fridge")
EACH = {"symmetric": {}, "confusable": {}, "class_dependent": {"to": "A"}, "unproducible": {}}
ANSWERS = [Completion(f"<answer>{letter}</answer>") for letter in "ABCD"]


def corrupt(prompts, kind, seed=0, **fields):
    """The prompts under one kind of noise, and the manifest."""
    return apply.apply_noise(prompts, apply.build_noise(NoiseConfig(kind, seed, fields)))


@pytest.fixture(scope="module")
def clean(kitchen):
    """The embedded benchmark's training prompts."""
    return load(kitchen, "train")


def test_every_kind_is_tried_here():
    assert EACH.keys() == LABELS.keys()


@pytest.mark.parametrize("kind", EACH)
def test_flips_are_wrong_nested_and_the_same_in_any_order(clean, kind):
    rows = {rate: corrupt(clean, kind, rate=rate, **EACH[kind])[1] for rate in (0.2, 0.5)}
    low, high = ({row["id"]: row for row in rows[rate]} for rate in (0.2, 0.5))
    assert low.items() <= high.items() and 0 < len(low) < len(high)
    assert all(row["answer"]["clean"] != row["answer"]["noisy"] for row in rows[0.5])
    back = corrupt(clean[::-1], kind, rate=0.5, **EACH[kind])[1]
    assert back[::-1] == rows[0.5]
    some = corrupt(clean[:300], kind, rate=0.5, **EACH[kind])[0]
    assert some == corrupt(clean, kind, rate=0.5, **EACH[kind])[0][:300]


@pytest.mark.parametrize("kind", EACH)
def test_the_share_of_wrong_labels_and_j_are_what_the_closed_form_says(clean, kind):
    """J over every prompt and every option answered once: what the accuracy reward pays under the noisy labels."""
    source = apply.build_noise(NoiseConfig(kind, 0, {"rate": 0.4, **EACH[kind]}))
    noisy, manifest = apply.apply_noise(clean, source)
    paid = np.zeros((2, 2))
    for before, after in zip(clean, noisy, strict=True):
        group = Group(after, ANSWERS)
        for completion, verdict in zip(group, build("rewards", "accuracy")([group])[0], strict=True):
            paid[int(completion.answer == before.answer), int(verdict)] += 1
    right = paid[:, 1] / paid.sum(1)
    assert right[1] - right[0] == pytest.approx(source.youden_j(4), abs=4 * (0.25 / len(clean)) ** 0.5 * 4 / 3)
    told = apply.realised_rates(source, clean, manifest)
    assert (told["prompts"], told["changed"], told["dropped"]) == (1200, len(manifest), 0)
    assert told["rate"] == len(manifest) / 1200 == pytest.approx(source.flipped(4), abs=0.06)
    assert told["youden_j"] == source.youden_j(4)


def test_j_by_hand():
    def j(kind, options=4, **fields):
        return apply.build_noise(NoiseConfig(kind, 0, fields)).youden_j(options)

    assert [j("symmetric", rate=r) for r in (0.0, 0.3, 0.75)] == pytest.approx([1, 0.6, 0])
    assert j("symmetric", options=2, rate=0.5) == 0
    assert j("unproducible", rate=0.3) == 0.7
    assert j("class_dependent", rate=0.4, of="B") == pytest.approx(1 - 0.1 * 4 / 3)
    assert j("class_dependent", rate=0.4, to="B") == pytest.approx(0.6)
    assert j("symmetric", rate=0.3, drop=True) == j("unproducible", rate=0.3, drop=True) == 1


@pytest.mark.parametrize("kind", EACH)
def test_the_oracle_leaves_out_exactly_the_wrong_labels(clean, kind):
    noisy, wrong = corrupt(clean, kind, rate=0.3, **EACH[kind])
    kept, manifest = corrupt(clean, kind, rate=0.3, drop=True, **EACH[kind])
    assert kept == [p for p, q in zip(clean, noisy, strict=True) if p == q]
    assert manifest == [{"id": row["id"], "dropped": True, "u": row["u"]} for row in wrong]
    source = apply.build_noise(NoiseConfig(kind, 0, {"rate": 0.3, "drop": True, **EACH[kind]}))
    told = apply.realised_rates(source, clean, manifest)
    assert (told["changed"], told["dropped"], told["youden_j"]) == (0, len(wrong), 1.0)


def test_dropping_everything_is_refused():
    prompts = [Prompt("x", "?", OPTIONS, "A")]
    with pytest.raises(UserError, match="noise leaves none of 1 training samples to learn from: lower its rate"):
        corrupt(prompts, "symmetric", rate=1.0, drop=True)


def test_confusable_goes_to_the_nearest_option_and_passes_over_the_same_meaning():
    prompts = [Prompt(f"s{i}", "?", OPTIONS, "A") for i in range(3)]
    assert {p.answer for p in corrupt(prompts, "confusable", rate=1.0)[0]} == {"B"}
    same = Prompt("x", "?", ("turn on tap", "turn the tap on", "close tap", "wash pan"), "A")
    assert embed(same.options[:2])[0] @ embed(same.options[:2])[1] > 0.97  # though the words stand in another order
    assert corrupt([same], "confusable", rate=1.0)[0][0].answer == "C"
    other = Prompt("y", "?", ("pick up the cup", "take the cup", "close tap", "wash pan"), "A")
    assert corrupt([other], "confusable", rate=1.0)[0][0].answer == "B"
    assert corrupt([other], "confusable", rate=1.0, alike=0.8)[0][0].answer != "B"
    nowhere = replace(other, options=other.options[:2])
    assert corrupt([nowhere], "confusable", rate=1.0, alike=0.8) == ([nowhere], []), "refused, not claimed"


def test_confusable_needs_an_encoder_that_is_there():
    with pytest.raises(UserError, match="text encoder '/no/such/folder' cannot be loaded"):
        corrupt([Prompt("x", "?", OPTIONS, "A")], "confusable", rate=1.0, encoder="/no/such/folder")


def test_embeddings_have_length_one_and_do_not_depend_on_company():
    both, alone = embed(["open tap", "wash the pan and then dry it"]), embed(["open tap"])
    assert both.shape == (2, 384) and np.linalg.norm(both, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert both[0] == pytest.approx(alone[0], abs=1e-5)
    assert embed([]).shape[0] == 0


def test_class_dependent_keeps_to_its_letters(clean):
    noisy, _ = corrupt(clean, "class_dependent", rate=1.0, of="B", to="D")
    moves = Counter((p.answer, q.answer) for p, q in zip(clean, noisy, strict=True))
    assert set(moves) == {("A", "A"), ("B", "D"), ("C", "C"), ("D", "D")}
    noisy, _ = corrupt(clean, "class_dependent", rate=1.0, to="A")
    assert {p.answer for p in noisy} == {"A"}
    noisy, _ = corrupt(clean, "class_dependent", rate=1.0, of="B")
    assert {q.answer for p, q in zip(clean, noisy, strict=True) if p.answer == "B"} == {"A", "C", "D"}


def test_unproducible_pays_no_answer_at_all(clean):
    for prompt in corrupt(clean[:5], "unproducible", rate=1.0)[0]:
        assert prompt.answer == "E" and prompt.meta["clean_answer"] in "ABCD"
        said = [*ANSWERS, Completion("<answer>E</answer>"), Completion("E")]
        assert all(completion.answer != "E" for completion in Group(prompt, said))


@pytest.mark.parametrize("text", ["Open the tap.", "open tap", " open  a 'tap' ", "OPEN THE TAP!"])
def test_the_same_words(text):
    assert plain_words(text) == ["open", "tap"]


@pytest.mark.parametrize(("one", "other"), [("A", "the"), ("1.5 cups", "15 cups"), ("turn on", "turn off"), ("?", "")])
def test_different_words(one, other):
    assert plain_words(one) != plain_words(other)


def test_a_flip_never_goes_to_the_same_words():
    prompts = [Prompt(f"s{i}", "?", ("Open the tap.", "open tap", "cut onion", "open a tap"), "A") for i in range(20)]
    assert {p.answer for p in corrupt(prompts, "symmetric", rate=1.0)[0]} == {"C"}
    assert corrupt(prompts, "class_dependent", rate=1.0, to="B") == (prompts, [])


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        ("symmetric", {"rat": 0.1}, r"'symmetric' has no field 'rat'\. Did you mean 'rate'\?"),
        ("symmetric", {"rate": "half"}, "'symmetric': rate must be float, not 'half'"),
        ("symmetric", {"rate": True}, "rate must be float, not True"),
        ("symmetric", {"drop": 1}, "drop must be bool, not 1"),
        ("symmetric", {"rate": 1.5}, r"rate must be in \[0, 1\], not 1.5"),
        ("class_dependent", {"rate": 0.1}, "name the letter"),
        ("class_dependent", {"to": "B", "of": "B"}, "name the letter"),
        ("class_dependent", {"to": "b"}, "to must be a letter from A to Z, not 'b'"),
    ],
)
def test_bad_fields_are_refused(kind, fields, says):
    with pytest.raises(UserError, match=says):
        apply.build_noise(NoiseConfig(kind, 0, fields))


@pytest.mark.parametrize(
    ("truth", "other", "alike"),
    [
        ("put down the cup", "put the cup down", True),
        ("Pick up the cups.", "picks the cup up", True),
        ("washing the pan", "wash a pan", True),
        ("stir-fry the onion", "stir fry the onions", True),
        ("move the cup from the sink to the table", "move the cup from the table to the sink", False),
        ("put the cup on the plate", "put the plate on the cup", False),
        ("turn the tap on", "turn the tap off", False),
        ("-1", "1", False),
        ("pick up the cup", "take the cup", False),  # the same meaning, and not caught
    ],
)
def test_which_options_a_flip_takes_for_the_same(truth, other, alike):
    prompt = Prompt("s", "?", (truth, other, "cut the onion"), "A")
    assert wrong_letters(prompt) == (["C"] if alike else ["B", "C"])
