"""Command lines: options of several values."""

import pytest

from rlvid.cli.parser import parser
from rlvid.utils.arguments import ArgumentParser


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], ["trl"]),
        (["--against", "rows"], ["rows"]),
        (["--against", "rows", "views"], ["rows", "views"]),
        (["--against", "rows", "--against", "views"], ["rows", "views"]),
        (["--against"], []),
    ],
)
def test_an_option_that_is_given_twice_keeps_all_its_values_and_replaces_the_default(words, values):
    one = ArgumentParser()
    one.add_argument("--against", nargs="*", default=["trl"])
    assert one.parse_args(words).against == values
    assert one.parse_args([]).against == ["trl"], "the default is not changed"


def test_rlvid_compare_takes_its_lists_in_both_forms():
    together = parser().parse_args(["compare", "a", "b", "--level", "L1", "L2"])
    apart = parser().parse_args(["compare", "a", "b", "--level", "L1", "--level", "L2"])
    assert together.level == apart.level == ["L1", "L2"]


def test_an_assignment_after_an_option_of_several_values_is_an_assignment():
    parsed = parser().parse_args(["eval", "run", "eval.limit=5", "--split", "L1", "L2", "video.fps=1.0"])
    assert (parsed.split, parsed.overrides) == (["L1", "L2"], ["eval.limit=5", "video.fps=1.0"])
    parsed = parser().parse_args(["probe", "accuracy", "--threshold", "tricks.max_gain=0.2"])
    assert (parsed.threshold, parsed.overrides) == (["tricks.max_gain=0.2"], [])
