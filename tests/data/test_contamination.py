"""What training and evaluation share: found by content and by words, and not where a benchmark only uses templates."""

import itertools
import json

import pytest

from rlvid.__main__ import main
from rlvid.data.contamination import Located, NearDuplicates, contamination
from rlvid.types import Prompt

QUESTION = "Which of the red boxes on the left side of the large table falls down first?"
OPTIONS = ("the upper one", "the lower one", "none of them")


def located(name, question=QUESTION, options=OPTIONS, answer="A", video=None):
    """A question with its place, NAME:1."""
    return Located(Prompt(name, question, options, answer, video=None if video is None else str(video)), f"{name}:1")


@pytest.fixture
def clips(tmp_path):
    """Three clips: a, b with the same content, and c of the same size with another."""
    for name, content in {"a": b"11", "b": b"11", "c": b"22"}.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    return {name: tmp_path / f"{name}.mp4" for name in "abc"}


def test_a_question_or_a_clip_that_training_has_too_is_found_by_content(clips):
    training = [located("t", video=clips["a"])]
    found = [
        list(contamination(training, [held_out]))
        for held_out in (
            located("h", options=OPTIONS[::-1], answer="C", video=clips["b"]),
            located("h", question="And who takes it away?", video=clips["b"]),
            located("h", question="And who takes it away?", video=clips["a"]),
            located("h", video=clips["c"]),
        )
    ]
    assert [[kind for kind, _ in problems] for problems in found] == [["contamination"], *[["shared clip"]] * 2, []]
    assert found[0][0][1] == "h:1: the question and its media are in training too: t:1"


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"question": QUESTION.replace("Which", "WHICH").replace("large ", "")}, ["near-duplicate"]),
        ({"question": f"{QUESTION} Say it."}, []),  # 2 words more than 15
        ({"question": QUESTION.replace("red boxes", "blue cups")}, []),
        ({"answer": "B", "question": f"So: {QUESTION}"}, []),  # another answer
    ],
)
def test_a_question_of_nearly_the_same_words_is_found(change, kinds):
    assert [kind for kind, _ in contamination([located("t")], [located("h", **change)])] == kinds


def test_the_same_words_about_another_clip_or_of_a_template_are_no_problem(clips, tmp_path):
    other = located("h", question=f"So: {QUESTION}", video=clips["c"])
    assert not list(contamination([located("t", video=clips["a"])], [other]))
    (tmp_path / "small").mkdir()
    (tmp_path / "small/a.mp4").write_bytes(b"1")  # the same clip encoded anew: its name stays
    small = located("h", question=f"So: {QUESTION}", video=tmp_path / "small/a.mp4")
    assert [kind for kind, _ in contamination([located("t", video=clips["a"])], [small])] == ["near-duplicate"]
    template = [located("t1"), located("t2", question=QUESTION.upper())]
    assert not list(contamination(template, [located("h", question=f"So: {QUESTION}")]))
    for name in ("t1", "demonstration"):  # one sample of two splits is no template: the same id, or the same clip
        splits = [located("t1", video="n/115.mp4"), located(name, video="n/115.mp4")]
        near = located("h", question=f"So: {QUESTION}", video="m/7.mp4")
        assert [kind for kind, _ in contamination(splits, [near])] == ["near-duplicate"]


def test_the_same_sample_is_found_in_another_wording_and_with_other_negatives():
    """As EgoPlan-Bench has a question of SEED-Bench-R1, by a clip's name; `a/1.mp4` and `b/1.mp4` name no clip."""
    words = "what action should I take next in order to store cereal?"
    ours = f"Considering the progress shown in the video and my current observation shown in the image, {words}"
    theirs = f"Considering the progress shown in the video, {words}"
    training = [located("1", ours, ("open tap", "close door"), "B", "n/115.mp4")]
    for options, answer, clip, found in (
        (("open tap", "close door"), "B", "m/115.mp4", 1),
        (("close door", "wash pan"), "A", "m/115.mp4", 1),
        (("close door", "wash pan"), "B", "m/115.mp4", 0),
        (("close door", "wash pan"), "A", "m/116.mp4", 0),
    ):
        assert len(list(contamination(training, [located("h", theirs, options, answer, clip)]))) == found
    folders = [*training, located("2", "Who?", ("he", "she"), "A", "k/115.mp4")]
    assert not list(contamination(folders, [located("h", theirs, ("close door", "wash pan"), "A", "m/115.mp4")]))


def test_a_part_of_a_film_is_shared_if_its_seconds_overlap(clips):
    film, part = [located("t", video=clips["a"])], [located("t", video=f"{clips['a']}#t=3,6.5")]
    found = [
        [kind for kind, _ in contamination(training, [located("h", "And who?", video=f"{clips['b']}{span}")])]
        for training, span in ((film, "#t=0.5,3"), (part, ""), (part, "#t=6,9"), (part, "#t=0,3"))
    ]
    assert found == [["shared clip"], ["shared clip"], ["shared clip"], []]


def test_another_benchmark_is_searched_for_training_questions(tmp_path, capsys):
    """As the questions of SEED-Bench-R1 are in EgoPlan-Bench: without media on disk, by their words."""
    fields = 'layout = "multiple_choice"\npath = "q.jsonl"\nquestion = "q"\noptions = "o"\nanswer = "a"\nlevel = "l"\n'
    for name, question, level in (("mine", QUESTION, "train"), ("theirs", f"So: {QUESTION}", "val")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.toml").write_text(fields)
        records = [{"q": question, "o": OPTIONS, "a": "A", "l": level}]
        records.append({"q": "What else can be seen on the table?", "o": ["a pan", "a cup"], "a": "B", "l": "L1"})
        (tmp_path / name / "q.jsonl").write_text("\n".join(map(json.dumps, records)))
    mine, theirs = (str(tmp_path / name / "m.toml") for name in ("mine", "theirs"))
    assert main(["data", "check", mine]) == 0
    assert main(["data", "check", mine, "--against", theirs]) == 2
    assert f"near-duplicate: {theirs}: 1: nearly the words of a training question: " in capsys.readouterr().out
    assert main(["data", "check", theirs, "--against", mine]) == 2
    assert "has no training questions" in capsys.readouterr().err


def test_the_index_finds_what_comparing_all_pairs_finds():
    words = [f"w{i}" for i in range(12)]
    texts = [frozenset(words) - set(left_out) for left_out in itertools.combinations(words[:6], 2)]
    texts.append(frozenset(words))
    for text in (*texts, frozenset([*words, "more"])):
        for other in texts:
            near = len(text & other) >= 0.9 * len(text | other)
            assert (NearDuplicates([other]).matching(text) == [0]) is near
