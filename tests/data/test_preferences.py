"""Preference pairs from a file, and made from the samples of a run."""

import json

import pytest

from rlvid.data.preferences import attach_preferences, write_pairs_of_run
from rlvid.errors import UserError
from rlvid.types import Prompt

PROMPTS = [Prompt(id=name, question="?") for name in ("a", "b", "7")]


def write_lines(path, *rows):
    """Write rows as JSON lines, texts as they are; returns the path."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def pair(sample, chosen="yes", rejected="no"):
    return {"id": sample, "chosen": chosen, "rejected": rejected}


def test_pairs_are_attached_to_their_prompts(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", pair(7), "", pair("a", "fine"))
    prompts = attach_preferences(PROMPTS, path)
    assert [(p.id, p.demonstration, p.rejected) for p in prompts] == [("a", "fine", "no"), ("7", "yes", "no")]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([pair("a"), pair("a")], r"pairs.jsonl:2: id: a is the id of an earlier record too"),
        ([pair("a"), {"id": "b", "chosen": "yes"}], r"pairs.jsonl:2: rejected: missing; the record has id, chosen"),
        ([pair("a", 3)], r"pairs.jsonl:1: chosen: must be str, not 3"),
        ([pair("a", " ")], r"pairs.jsonl:1: chosen: is blank"),
        ([pair("a", "no")], r"pairs.jsonl:1: rejected: is the same text as chosen"),
        (["{"], r"pairs.jsonl:1: not JSON in UTF-8"),
        ([pair("a"), pair("x"), pair("y")], r"2 of 3 ids belong to no training sample: x, y; remove"),
        ([], r"pairs.jsonl: holds no pair"),
    ],
)
def test_a_bad_pair_is_refused_in_one_line(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        attach_preferences(PROMPTS, write_lines(tmp_path / "pairs.jsonl", *rows))


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none.jsonl: no such file"):
        attach_preferences(PROMPTS, tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="holds no samples"):
        write_pairs_of_run(tmp_path, tmp_path / "pairs.jsonl")


def test_pairs_are_made_from_the_samples_of_a_run(tmp_path):
    def group(sample, totals, finished=(True,) * 3, texts=("x", "y", "z")):
        return {"id": sample, "completions": list(texts), "totals": list(totals), "finished": list(finished)}

    samples = tmp_path / "samples"
    samples.mkdir()
    write_lines(samples / "step-000001.jsonl", group("a", (0, 1, 0.5)), group("b", (1, 1, 1)))
    later = group("a", (0.2, 0, 0.1)), group("7", (2, 1, 0), (False, True, True)), group("c", (1, 0, 0), texts="xxx")
    write_lines(samples / "step-000002.jsonl", *later)
    write_lines(samples / "step-000003-not-finite.jsonl", group("b", (0, 1, 2)))
    assert write_pairs_of_run(tmp_path, tmp_path / "pairs.jsonl") == 2
    prompts = attach_preferences(PROMPTS, tmp_path / "pairs.jsonl")
    assert [(p.id, p.demonstration, p.rejected) for p in prompts] == [("a", "x", "y"), ("7", "y", "z")]
