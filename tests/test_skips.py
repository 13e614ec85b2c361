"""The summary of skipped tests names each reason once, with its count and how to enable the tests."""

from types import SimpleNamespace

from tests.helpers.skips import skip_lines


def skipped(nodeid, reason):
    """A report of a skipped test, as pytest makes it."""
    return SimpleNamespace(nodeid=nodeid, longrepr=("test_x.py", 3, f"Skipped: {reason}"))


def test_skips_are_counted_by_reason():
    reports = [skipped("a", "no chromium"), skipped("b", "no chromium"), skipped("c", "a reason of its own")]
    lines = skip_lines(reports)
    assert lines[0] == "   2  no chromium. To enable: make system (Debian packages, as root)"
    assert lines[1] == "   1  a reason of its own"


def test_a_module_that_several_workers_skip_counts_once():
    reports = [skipped("m", "could not import 'vllm': No module named 'vllm'")] * 2
    (line,) = skip_lines(reports)
    assert line.startswith("   1  could not import 'vllm'") and "make test-vllm" in line
