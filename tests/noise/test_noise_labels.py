"""Every kind of label noise: which letter, how often, how much of the signal is left, and the oracle."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rlvid.answer import LETTERS
from rlvid.config import NoiseConfig
from rlvid.data.seed_bench_r1 import load
from rlvid.errors import UserError
from rlvid.judges.encoder import embed
from rlvid.noise.apply import apply_noise, build_noise, summarize_noise
from rlvid.noise.labels import LABEL_NOISES, QUESTION_FORM, first_named, wrong_letters
from rlvid.registry import build
from rlvid.scoring import score
from rlvid.types import Completion, Group, Prompt

OPTIONS = ("put the onion in the pot", "take the onion out of the pot", "wash the pan", "open the fridge")
REQUIRED_FIELDS = {  # kind -> fields besides `rate`
    "symmetric": {},
    "confusable": {},
    "class_dependent": {"to": "A"},
    "first_named": {},
    "unproducible": {},
}
ANSWERS = [Completion(f"<answer>{letter}</answer>") for letter in "ABCD"]


def corrupt(prompts, kind, seed=0, **fields):
    """The prompts under one kind of noise, and the manifest."""
    return apply_noise(prompts, build_noise(NoiseConfig(kind, seed, fields)))


@pytest.fixture(scope="module")
def clean(kitchen):
    """The embedded benchmark's training prompts."""
    return load(kitchen, "train")


def test_every_kind_has_a_test_here():
    assert REQUIRED_FIELDS.keys() == LABEL_NOISES.keys()


@pytest.mark.parametrize("kind", REQUIRED_FIELDS)
def test_flips_are_wrong_nested_and_the_same_in_any_order(clean, kind):
    fields = REQUIRED_FIELDS[kind]
    noisy, manifest = corrupt(clean, kind, rate=0.5, **fields)
    high = {row["id"]: row for row in manifest}
    low = {row["id"]: row for row in corrupt(clean, kind, rate=0.2, **fields)[1]}
    assert low.items() <= high.items() and 0 < len(low) < len(high)
    assert all(row["answer"]["clean"] != row["answer"]["noisy"] for row in manifest)
    assert corrupt(clean[::-1], kind, rate=0.5, **fields)[1][::-1] == manifest
    assert corrupt(clean[:300], kind, rate=0.5, **fields)[0] == noisy[:300]


@pytest.mark.parametrize("kind", REQUIRED_FIELDS)
def test_the_share_of_wrong_labels_and_j_agree_with_the_closed_form(clean, kind):
    """J is measured by answering every prompt once with each option: what does accuracy pay under noisy labels?"""
    noise = build_noise(NoiseConfig(kind, 0, {"rate": 0.4, **REQUIRED_FIELDS[kind]}))
    noisy, manifest = apply_noise(clean, noise)
    counts = np.zeros((2, 2))  # [answer is right, verdict]
    for before, after in zip(clean, noisy, strict=True):
        group = Group(after, ANSWERS)
        for completion, verdict in zip(group, build("rewards", "accuracy")([group])[0], strict=True):
            counts[int(completion.answer == before.answer), int(verdict)] += 1
    paid = counts[:, 1] / counts.sum(1)
    assert paid[1] - paid[0] == pytest.approx(noise.youden_j(4), abs=4 * (0.25 / len(clean)) ** 0.5 * 4 / 3)
    summary = summarize_noise(noise, clean, manifest)
    assert (summary["prompts"], summary["changed"], summary["dropped"]) == (1200, len(manifest), 0)
    assert summary["rate"] == len(manifest) / 1200 == pytest.approx(noise.flip_rate(4), abs=0.06)
    assert summary["youden_j"] == noise.youden_j(4)


def test_j_by_hand():
    def j(kind, num_options=4, **fields):
        return build_noise(NoiseConfig(kind, 0, fields)).youden_j(num_options)

    assert [j("symmetric", rate=r) for r in (0.0, 0.3, 0.75)] == pytest.approx([1, 0.6, 0])
    assert j("symmetric", num_options=2, rate=0.5) == 0
    assert j("unproducible", rate=0.3) == 0.7
    assert j("class_dependent", rate=0.4, of="B") == pytest.approx(1 - 0.1 * 4 / 3)
    assert j("class_dependent", rate=0.4, to="B") == pytest.approx(0.6)
    assert [j("first_named", num_options=n, rate=0.4) for n in (2, 4)] == pytest.approx([0.6, 0.6])
    assert j("symmetric", rate=0.3, drop=True) == j("unproducible", rate=0.3, drop=True) == 1


@pytest.mark.parametrize("kind", REQUIRED_FIELDS)
def test_the_oracle_leaves_out_exactly_the_wrong_labels(clean, kind):
    noisy, changed = corrupt(clean, kind, rate=0.3, **REQUIRED_FIELDS[kind])
    kept, manifest = corrupt(clean, kind, rate=0.3, drop=True, **REQUIRED_FIELDS[kind])
    assert kept == [p for p, q in zip(clean, noisy, strict=True) if p == q]
    assert manifest == [{"id": row["id"], "dropped": True, "u": row["u"]} for row in changed]
    noise = build_noise(NoiseConfig(kind, 0, {"rate": 0.3, "drop": True, **REQUIRED_FIELDS[kind]}))
    summary = summarize_noise(noise, clean, manifest)
    assert (summary["changed"], summary["dropped"], summary["youden_j"]) == (0, len(changed), 1.0)
    assert not noise.errs_for_whole_groups, "no wrong label is left"


def test_dropping_every_sample_is_refused():
    prompts = [Prompt("x", "?", OPTIONS, "A")]
    with pytest.raises(UserError, match="noise leaves none of 1 training samples to learn from: lower its rate"):
        corrupt(prompts, "symmetric", rate=1.0, drop=True)


def test_confusable_flips_to_the_most_similar_option_that_does_not_mean_the_same():
    prompts = [Prompt(f"s{i}", "?", OPTIONS, "A") for i in range(3)]
    assert {p.answer for p in corrupt(prompts, "confusable", rate=1.0)[0]} == {"B"}
    reordered = Prompt("x", "?", ("turn on tap", "turn the tap on", "close tap", "wash pan"), "A")
    first, second = embed(reordered.options[:2])
    assert first @ second > 0.97  # although the words have another order
    assert corrupt([reordered], "confusable", rate=1.0)[0][0].answer == "C"
    paraphrased = Prompt("y", "?", ("pick up the cup", "take the cup", "close tap", "wash pan"), "A")
    assert corrupt([paraphrased], "confusable", rate=1.0)[0][0].answer == "B"
    assert corrupt([paraphrased], "confusable", rate=1.0, alike=0.8)[0][0].answer != "B"
    no_other_option = replace(paraphrased, options=paraphrased.options[:2])
    unchanged = ([no_other_option], [])
    assert corrupt([no_other_option], "confusable", rate=1.0, alike=0.8) == unchanged


def test_confusable_with_a_missing_encoder_is_refused():
    with pytest.raises(UserError, match="text encoder '/no/such/folder': no such folder"):
        corrupt([Prompt("x", "?", OPTIONS, "A")], "confusable", rate=1.0, encoder="/no/such/folder")


def test_embeddings_have_length_one_and_do_not_depend_on_the_batch():
    both, alone = embed(["open tap", "wash the pan and then dry it"]), embed(["open tap"])
    assert both.shape == (2, 384) and np.linalg.norm(both, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert both[0] == pytest.approx(alone[0], abs=1e-5)
    assert embed([]).shape[0] == 0


def test_class_dependent_flips_only_its_letters(clean):
    noisy, _ = corrupt(clean, "class_dependent", rate=1.0, of="B", to="D")
    moves = Counter((p.answer, q.answer) for p, q in zip(clean, noisy, strict=True))
    assert set(moves) == {("A", "A"), ("B", "D"), ("C", "C"), ("D", "D")}
    noisy, _ = corrupt(clean, "class_dependent", rate=1.0, to="A")
    assert {p.answer for p in noisy} == {"A"}
    noisy, _ = corrupt(clean, "class_dependent", rate=1.0, of="B")
    assert {q.answer for p, q in zip(clean, noisy, strict=True) if p.answer == "B"} == {"A", "C", "D"}


def test_first_named_flips_to_the_first_step_of_the_recipe_only(clean):
    noisy, manifest = corrupt(clean, "first_named", rate=1.0)
    for before, after in zip(clean, noisy, strict=True):
        first = before.question.split(", then ")[0].split()[-1]
        assert before.options[LETTERS.index(after.answer)] == f"put the {first} in the pot"
        assert after.meta.get("clean_answer") == (before.answer if before.answer != after.answer else None)
    assert len(manifest) == sum(p.answer != q.answer for p, q in zip(clean, noisy, strict=True))


def test_first_named_needs_a_word_of_one_option_alone_in_the_goal():
    def first(question, *options):
        return first_named(Prompt("s", question, options, "A"))

    assert first("Cut the onions, then wash the pan.", "wash the pan", "cutting an onion") == "B"
    assert first("I washed a pan and cut.", "open the fridge", "wash pans") == "B"  # dictionary forms
    assert first("Which pan?", "wash the pan", "dry the pan") is None  # both options have the word
    assert first("What now?", "wash the pan", "dry it") is None
    assert first(f"{QUESTION_FORM} make tea?", "take the video", "make tea") == "B"  # "take" is in every question
    kept = Prompt("s", "What now?", ("wash the pan", "dry it"), "A")
    assert corrupt([kept], "first_named", rate=1.0) == ([kept], [])


def test_the_filter_leaves_out_every_label_that_names_the_first_option(clean):
    noisy, _ = corrupt(clean, "first_named", rate=0.4)
    kept, manifest = corrupt(clean, "first_named", rate=0.4, drop_suspects=True)
    assert kept == [prompt for prompt in noisy if prompt.answer != first_named(prompt)]
    assert [row["id"] for row in manifest] == [p.id for p in noisy if p.answer == first_named(p)]
    true_labels = {prompt.id: prompt.answer for prompt in clean}
    assert all(prompt.answer == true_labels[prompt.id] for prompt in kept)  # it knows no label, and keeps right ones
    noise = build_noise(NoiseConfig("first_named", 0, {"rate": 0.4, "drop_suspects": True}))
    assert (noise.youden_j(4), noise.errs_for_whole_groups) == (1.0, False)
    summary = summarize_noise(noise, clean, manifest)
    assert (summary["changed"], summary["dropped"]) == (0, len(manifest))


def test_under_unproducible_labels_no_answer_is_right(clean):
    for prompt in corrupt(clean[:5], "unproducible", rate=1.0)[0]:
        assert prompt.answer == "E" and prompt.meta["clean_answer"] in "ABCD"
        replies = [*ANSWERS, Completion("<answer>E</answer>"), Completion("E")]
        assert all(completion.answer != "E" for completion in Group(prompt, replies))


def test_a_label_never_flips_to_an_option_with_the_same_words():
    prompts = [Prompt(f"s{i}", "?", ("Open the tap.", "open tap", "cut onion", "open a tap"), "A") for i in range(20)]
    assert {p.answer for p in corrupt(prompts, "symmetric", rate=1.0)[0]} == {"C"}
    assert corrupt(prompts, "class_dependent", rate=1.0, to="B") == (prompts, [])


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("symmetric", {"rat": 0.1}, r"'symmetric' has no field 'rat'\. Did you mean 'rate'\?"),
        ("symmetric", {"rate": "half"}, "'symmetric': rate must be a number, not 'half'"),
        ("symmetric", {"rate": True}, "rate must be a number, not True"),
        ("symmetric", {"drop": 1}, "drop must be bool, not 1"),
        ("symmetric", {"rate": 1.5}, r"rate must be in \[0, 1\], not 1.5"),
        ("class_dependent", {"rate": 0.1}, "name the letter"),
        ("class_dependent", {"to": "B", "of": "B"}, "name the letter"),
        ("first_named", {"drop": True, "drop_suspects": True}, "set one of the two"),
        ("class_dependent", {"to": "b"}, "to must be a letter from A to Z, not 'b'"),
    ],
)
def test_bad_fields_are_refused(kind, fields, message):
    with pytest.raises(UserError, match=message):
        build_noise(NoiseConfig(kind, 0, fields))


@pytest.mark.parametrize(
    ("truth", "other", "same_meaning"),
    [
        ("put down the cup", "put the cup down", True),
        ("Pick up the cups.", "picks the cup up", True),
        ("washing the pan", "wash a pan", True),
        ("stir-fry the onion", "stir fry the onions", True),
        ("move the cup from the sink to the table", "move the cup from the table to the sink", False),
        ("put the cup on the plate", "put the plate on the cup", False),
        ("turn the tap on", "turn the tap off", False),
        ("-1", "1", False),
        ("pick up the cup", "take the cup", False),  # the same meaning, but not recognised
    ],
)
def test_which_options_count_as_the_same(truth, other, same_meaning):
    prompt = Prompt("s", "?", (truth, other, "cut the onion"), "A")
    assert wrong_letters(prompt) == (["C"] if same_meaning else ["B", "C"])


def test_rewards_that_read_the_right_option_do_not_apply_to_unproducible_labels():
    [prompt] = corrupt([Prompt("1", "Which?", ("open tap", "cut onion"), "B")], "unproducible", rate=1.0)[0]
    reply, probs = "<think>x</think><answer>A</answer>", (0.25, 0.75)
    assert prompt.answer == "C" and prompt.right_option is None
    assert score("forced_choice", prompt, [reply], evidence={"forced_probs": [probs]}) == [None]
    assert score("soft_accuracy", prompt, [reply], evidence={"answer_probs": [probs]}) == [None]
