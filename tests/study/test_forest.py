"""Forest plots: each row stands at its numbers, and a file of effects is checked before it is drawn."""

from math import inf

import pytest
from matplotlib.image import imread

from rlvid.errors import UserError
from rlvid.study.comparison import Comparison
from rlvid.study.contrasts import Needed
from rlvid.study.forest import GREY, SIGN_COLORS, Effect, Group, comparison_figure, effects_figure, main, read_effects
from rlvid.study.report import build_report
from rlvid.study.stats import Interval
from rlvid.study.study import read_study
from tests.helpers.reports import printed_report

EFFECTS = """
title = "What helped?"
xlabel = "points"
[[group]]
title = "Rewards"
effects = [
    { name = "looks", points = 21.2, interval = [9.0, 33.3], role = "positive control" },
    { name = "narrations", points = 16.7, interval = [8.4, 25.0] },
]
"""


def comparison(a, condition, *interval):
    return Comparison(a, "grpo", condition, Interval(*interval), None, None, None, "undecided", Needed(0, 1.0))


def bars(panel):
    """(y, ends, color) of each interval."""
    lines = [line for line in panel.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]
    return [(line.get_ydata()[0], list(line.get_xdata()), line.get_color()) for line in lines]


def test_a_comparison_stands_in_the_panel_of_its_condition_in_points():
    rows = [comparison("a", "all levels", 0.1, 0.05, 0.15), comparison("b", "all levels", -0.1, -0.2, -0.01)]
    rows += [comparison("b", "L1", 0.0, -0.3, 0.3)]
    everything, l1 = comparison_figure(rows, 0.03, "accuracy").together().axes
    assert [label.get_text() for label in everything.get_yticklabels()] == ["a\nagainst grpo", "b\nagainst grpo"]
    assert bars(everything) == [(0, [5, 15], SIGN_COLORS[1]), (1, [-20, -1], SIGN_COLORS[-1])]
    assert bars(l1) == [(1, [-30, 30], GREY)] and l1.get_xlim() == everything.get_xlim()
    assert (everything.get_title(), l1.get_title(), l1.get_xlabel()) == ("all levels", "L1", "accuracy, points")
    [band] = everything.patches
    assert (band.get_x(), band.get_width()) == (-3, 6), "the margin of equivalence"
    top, bottom = sorted(everything.get_ylim())
    assert everything.yaxis_inverted() and top < 0 and bottom > 1, "the first comparison is at the top, none is cut off"


def test_an_interval_without_an_end_leaves_the_axes_and_squeezes_no_other():
    rows = [comparison("a", "all levels", 0.1, -inf, inf), comparison("b", "all levels", 0.1, 0.05, 0.15)]
    [panel] = comparison_figure(rows, 0.03, "accuracy").together().axes
    low, high = panel.get_xlim()
    [(_, ends, _), _] = bars(panel)
    assert -1 < low < 0 and 15 < high < 17 and ends[0] < low and ends[1] > high
    rows[0] = comparison("a", "all levels", 0.1, -5, 5)
    [panel] = comparison_figure(rows, 0.03, "accuracy").together().axes
    assert panel.get_xlim() == pytest.approx((-64.8, 64.8)), "60 points and some space"


def test_without_comparisons_there_is_no_figure():
    assert comparison_figure([], 0.03, "accuracy") is None


def test_a_report_draws_its_comparisons(study_folder):
    assert "comparisons.png" in printed_report(study_folder, plots=True)
    report = build_report(read_study(study_folder))
    first = comparison_figure(report.comparisons, report.equivalence_margin, report.endpoint).together().axes[0]
    [(_, ends, _)] = bars(first)
    shown = report.comparisons[0].difference
    assert ends == pytest.approx([100 * shown.low, 100 * shown.high])


def test_effects_stand_under_their_headings_with_their_numbers(tmp_path):
    (tmp_path / "effects.toml").write_text(EFFECTS)
    title, xlabel, groups = read_effects(tmp_path / "effects.toml")
    looks = Effect("looks", Interval(21.2, 9.0, 33.3), "positive control")
    assert groups == [Group("Rewards", [looks, Effect("narrations", Interval(16.7, 8.4, 25.0))])]
    [panel] = effects_figure(title, xlabel, groups).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["looks", "narrations"]
    assert [text.get_text() for text in panel.texts] == ["Rewards", "+21.2  [+9.0, +33.3]", "+16.7  [+8.4, +25.0]"]
    assert [ends for _, ends, _ in bars(panel)] == [[9.0, 33.3], [8.4, 25.0]]
    main([str(tmp_path / "effects.toml"), str(tmp_path / "effects.png")])
    assert imread(tmp_path / "effects.png").std() > 0.05, "something is drawn"
    assert (tmp_path / "effects.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("16.7", "26.7", "narrations: 26.7 is not inside of its interval, 8.4 to 25"),
        ("[8.4, 25.0]", "[8.4]", "narrations: points is a number and interval two of them, such as [-1.0, 2.5]"),
        ("16.7", '"16.7"', "narrations: points is a number and interval two of them, such as [-1.0, 2.5]"),
        ('"positive control"', '"positive"', "looks: role is one of method, positive control, negative control, not"),
        ('xlabel = "points"', "", "xlabel is missing; rlvid/study/forest.py shows such a file"),
        ("points = 16.7,", "", "points is missing; rlvid/study/forest.py shows such a file"),
        ("[[group]]", "[[group]", "Expected ']]' at the end of an array declaration"),
        ("[[group]]", "[group]", "group or effects is no list of tables; rlvid/study/forest.py shows such a file"),
        (EFFECTS[EFFECTS.index("[[group]]") :], "group = []", "no effects; rlvid/study/forest.py shows such a file"),
    ],
)
def test_a_mistake_in_a_file_of_effects_is_one_line(old, new, message, tmp_path):
    path = tmp_path / "effects.toml"
    path.write_text(EFFECTS.replace(old, new))
    with pytest.raises(UserError) as error:
        read_effects(path)
    assert str(error.value).startswith(f"{path}: {message}") and "\n" not in str(error.value)


def test_a_missing_file_of_effects_is_one_line_and_a_missing_folder_is_made(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main([str(tmp_path / "none.toml"), str(tmp_path / "a.png")])
    line = f"python -m rlvid.study.forest: {tmp_path}/none.toml: No such file or directory\n"
    assert error.value.code == 2 and capsys.readouterr().err == line
    (tmp_path / "effects.toml").write_text(EFFECTS)
    main([str(tmp_path / "effects.toml"), str(tmp_path / "new" / "a.png")])
    assert (tmp_path / "new" / "a.png").is_file()


def test_an_estimate_above_60_points_is_inside_of_the_axes():
    rows = [comparison("a", "all levels", 0.8, 0.7, 0.9), comparison("b", "all levels", -7.0, -8.0, -6.0)]
    [panel] = comparison_figure(rows, 0.03, "accuracy").together().axes
    low, high = panel.get_xlim()
    assert low < -700 and 80 < high < 120
