"""What is detectable under a table of accuracies."""

from rlvid.study.accuracy_tables import _level_lines
from rlvid.study.rows import LevelRow


def test_no_difference_is_detectable_where_it_would_have_to_exceed_all_answers():
    levels = [LevelRow(name, 10, detectable=size) for name, size in (("L1", 3.141), ("L2", 0.05), ("L3", None))]
    [(_, cells)] = _level_lines(levels).items()
    assert cells[0] == "none" and cells[1].strip().startswith("5.0")
