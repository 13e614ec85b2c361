"""The result of a probe, as a notebook shows it and as JSON."""

import json
from dataclasses import replace
from math import inf

import pytest
from rich.table import Table

from rlvid.config import load
from rlvid.probes.render import value_parts
from rlvid.probes.result import Block, Finding, ProbeResult
from rlvid.probes.subject import Subject, score_all
from rlvid.probes.value import measure_value
from rlvid.study.notebook import table_html
from rlvid.types import Completion, Group, Prompt


def test_replies_with_brackets_are_shown_as_they_are_in_a_notebook():
    groups = [Group(Prompt("q", "?", ("x", "y"), "A"), [Completion(text) for text in ("[/INST] see [a]", "[b] no")])]
    subject = Subject.read("length", {}, load("nano"), timeout=30)
    scored = replace(score_all(subject, groups), column=[[1.0, 0.0]])
    shown = "".join(table_html(part) for part in value_parts(measure_value(scored)) if isinstance(part, Table))
    assert "[/INST] see [a]" in shown and "[b] no" in shown


def test_a_threshold_that_is_switched_off_is_null_in_the_json():
    finding = Finding("value.max_seconds", inf, 0.1, False, "")
    block = Block("value", "pass", "", (finding,), {"mean": float("nan"), "rows": (1.0, -inf)})
    result = ProbeResult("r", "", {}, "", "words", 1, 1, 0.1, (block,))
    [read] = json.loads(result.to_json(), parse_constant=pytest.fail)["blocks"]
    assert read["findings"][0]["limit"] is None and read["numbers"] == {"mean": None, "rows": [1.0, None]}
