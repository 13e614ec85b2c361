"""Reports of run folders whose counts are known."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from rlvid.config import load
from rlvid.errors import UserError
from rlvid.study.comparison import compare, pairs
from rlvid.study.runs import read
from rlvid.study.stats import Interval, accuracy
from rlvid.study.tables import strip, would_take
from rlvid.utils.files import write_jsonl, write_text
from tests.helpers.reports import grid, line, printed, run

ROOT = Path(__file__).parents[2]


def planned(folder):
    """The cells of a grid.json."""
    cells = json.loads((folder / "grid.json").read_text())["cells"]
    return [(cell["arm"], cell["seed"], cell["folder"], cell["id"]) for cell in cells]


@pytest.fixture
def study(tmp_path):
    """A base with 40 of 100 right, and an arm of two seeds with 60 and 64, on L1; L2 is even."""
    even = "10" * 50
    base = run(tmp_path / "b", "train.max_steps=0", right=("1" * 40 + "0" * 60, even))
    ids = [
        run(tmp_path / f"a{s}", f"seed={s}", right=("1" * n + "0" * (100 - n), even), curve=np.linspace(0.4, 0.6, 60))
        for s, n in enumerate((60, 64))
    ]
    cells = [("base", 0, "b", base), ("grpo", 0, "a0", ids[0]), ("grpo", 1, "a1", ids[1])]
    grid(tmp_path, cells, [("grpo", "base")])
    return tmp_path


def test_the_table_holds_the_counts(study):
    text = printed(study)
    assert text.startswith("Does it help?") and "3 of 3 runs done" in text
    low, high = binomtest(40, 100).proportion_ci(method="wilson")
    assert line(text, "base").split() == [
        *["base", "1", "40.0", f"{100 * low:.1f}–{100 * high:.1f}", "50.0", "40.4–59.6", "90%", "31"]
    ]
    assert line(text, "grpo").split()[:3] == ["grpo", "2", "62.0"]
    assert line(text, "one letter always").split()[-2:] == ["50.0", "50.0"], "half of the right letters are A"
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("run folders"))


def test_what_is_equivalent_is_the_experiments_to_say(study):
    about = json.loads((study / "grid.json").read_text())
    write_text(study / "grid.json", json.dumps(about | {"equivalence_margin": 0.2}))
    assert "equivalent within 20" in printed(study)
    assert "an interval within 20 points of 0" in " ".join(printed(study).split())


def test_the_comparisons_are_paired_and_adjusted(study):
    first, second = compare(pairs(read(study)))
    assert (would_take(first), would_take(second)) == (("", ""), ("–", "–")), "of nothing, no number shows anything"
    gaps = {1.0: 20, 0.5: 4}  # 20 questions that both seeds gained, 4 that one did: all for the arm
    assert first.difference.value == pytest.approx(sum(size * n for size, n in gaps.items()) / 100)
    assert first.needed.questions < 1, "fewer would have done"
    assert first.p == pytest.approx(2 * 2 * 0.5**24), "two-sided, times two comparisons"
    assert (first.verdict, second.verdict) == ("better", "not distinguishable")
    assert (second.difference.value, second.p) == (0.0, 1.0)
    text = printed(study)
    assert "+22.0" in text and "<.001" in text
    assert "adjusted for all 2 comparisons" in " ".join(text.split())


def test_permutation_in_print(tmp_path):
    a, b = "1" * 60 + "0" * 35 + "1" * 205, "0" * 60 + "1" * 35 + "1" * 205
    ids = [run(tmp_path / name, f"seed={s}", right=(marks,)) for s, (name, marks) in enumerate((("b", b), ("a", a)))]
    grid(tmp_path, [("base", 0, "b", ids[0]), ("new", 1, "a", ids[1])], [("new", "base")])
    text = printed(tmp_path)
    assert "+8.3" in text and ".013" in text and "better" in text


def test_what_an_undecided_comparison_would_take(tmp_path):
    """One seed: Miller's number of questions, (2.80 / .04)^2 times the variance .1584, over the 100 that there are."""
    a, b = "1" * 10 + "0" * 6 + "1" * 84, "0" * 10 + "1" * 6 + "1" * 84
    ids = [run(tmp_path / name, f"seed={s}", right=(marks,)) for s, (name, marks) in enumerate((("b", b), ("a", a)))]
    grid(tmp_path, [("base", 0, "b", ids[0]), ("new", 1, "a", ids[1])], [("new", "base")])
    assert line(printed(tmp_path), " L1").split()[-4:] == ["not", "distinguishable", "x7.8", "–"]
    assert "distinguishable" in printed(tmp_path, 80) and "x7.8" not in printed(tmp_path, 80), "where there is room"


def test_questions_about_one_video_are_one_cluster(study):
    """Five videos of twenty questions, all of whose gains are in one: no evidence, however many questions."""
    for path in study.glob("*/eval/L1.jsonl"):
        rows = [json.loads(row) for row in path.read_text().splitlines()]
        write_jsonl(path, [row | {"video": f"v{i // 20}"} for i, row in enumerate(rows)])
    first, _ = compare(pairs(read(study)))
    assert first.p == 1.0 and first.verdict == "not distinguishable", (
        "two videos gained, 1/4 to be alike in sign, times 2"
    )
    words = printed(study)
    assert line(words, "videos").split() == ["videos", "5", "100"]
    effect, even = line(words, "design effect").split()[2:]
    assert float(effect) > 15 and even == "1.0", "a video is right or wrong as a whole"


def test_the_least_difference_that_can_be_seen(study):
    """Of L2's questions none disagrees; of L1's 20 do between one seed and the base, 24 between the other and it."""
    assert line(printed(study), "80 % power from").split()[4:] == [f"{280.16 * np.sqrt(0.22 / 100):.1f}", "0.0"]


def test_what_is_not_finished_is_named(study):
    cells = planned(study)
    going = run(study / "x", "seed=2", right=("1" * 100,), state="running", step=20, phase="train")
    failed = run(study / "y", "seed=3", state="failed", step=41, message="RuntimeError: [red]no[/] memory\nand more")
    stale = run(study / "w", "seed=5", right=("1" * 100,))
    write_text(study / "z" / "output.log", "Loading\nrlvid: no model 'nanno'\n\n")
    more = [("grpo", 2, "x", going), ("grpo", 3, "y", failed), ("grpo", 4, "z", "0"), ("new", 0, "v", "0")]
    grid(study, [*cells, *more, ("new", 5, "w", stale[::-1])])
    text = printed(study, width=140)
    assert "3 of 8 runs done" in text
    assert line(text, "grpo").split()[:5] == ["grpo", "2", "of", "5", "62.0"], (
        "an unfinished run's answers do not count"
    )
    assert line(text, "new").split()[:4] == ["new", "0", "not", "started"]
    assert "running at step 20 of 60 (2026-01-02 03:04 UTC)" in text
    assert "failed at step 41 of 60: RuntimeError: [red]no[/] memory (2026" in text
    assert "rlvid: no model 'nanno'" in text and "not started" in text


def test_runs_without_a_grid_are_named_by_what_differs(tmp_path):
    for seed in (0, 1):
        run(tmp_path / f"a{seed}", f"seed={seed}", right=("1" * 50,))
        run(tmp_path / f"b{seed}", f"seed={seed}", "rewards.format=0.5", right=("0" * 50,))
    run(tmp_path / "untrained", "train.max_steps=0", right=("10" * 25,))
    study = read(tmp_path)
    own = load("nano").train.max_steps
    base, plain, more = (
        f"train.max_steps={n} rewards.format.weight={w}" for n, w in ((0, 0.2), (own, 0.2), (own, 0.5))
    )
    assert {arm: [run.seed for run in runs] for arm, runs in study.arms.items()} == {
        base: [0],
        plain: [0, 1],
        more: [0, 1],
    }
    assert study.comparisons == [(plain, base), (more, base)], "with the untrained one, in the absence of a control"
    assert "5 of 5 runs done" in printed(tmp_path)


def test_one_run_is_a_study_too(tmp_path):
    run(tmp_path / "mine", right=("1" * 30 + "0" * 10,))
    assert "75.0" in line(printed(tmp_path / "mine"), "mine  ")


def test_a_folder_without_runs_says_so(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nothing"):
        read(tmp_path / "nothing")
    with pytest.raises(UserError, match="no runs in"):
        read(tmp_path)
    grid(tmp_path / "quickstart", [("base", 0, "b", "0")])
    with pytest.raises(UserError, match=r"There are grids in .*quickstart"):
        read(tmp_path)


def test_answers_to_other_questions_are_left_out_and_named(study):
    cells = planned(study)
    more = run(study / "a2", "seed=2", right=("1" * 100, "10" * 40))
    fewer = run(study / "old", right=("1" * 50,))
    grid(study, [*cells, ("grpo", 2, "a2", more), ("old", 0, "old", fewer)], [("grpo", "base"), ("old", "grpo")])
    text = printed(study, width=140)
    assert line(text, "grpo").split()[:3] == ["grpo", "3", "74.7"], "60, 64 and 100 right on L1"
    words = " ".join(text.split())
    assert "grpo 2 L2 left out: it answered 80 of the 100 questions that others answered" in words
    assert line(text, "old").split() == ["old", "1", "–", "–", "–", "–"]
    assert "old 0 L1 left out: it answered 50 of the 100" in words and "L2 left out: it answered 0 of" in words
    assert [(c.a, c.place) for c in compare(pairs(read(study)))] == [("grpo", "L1"), ("grpo", "L2")]


def test_clips_that_could_not_be_read_are_counted(study):
    path = study / "a0" / "eval" / "L1.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    write_jsonl(path, [{"id": row["id"], "gold": "A", "correct": False, "unread": 1} for row in rows[:3]] + rows[3:])
    text = printed(study)
    assert line(text, "grpo").split()[2] == "60.5", "57 and 64 of 100"
    assert "L1: 3 clips could not be read and count as wrong" in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_shows_everything(study, width):
    base, *grpo = planned(study)
    cells = [base, *(("[red]grpo[/red] $x^$, 30 % flipped", *rest) for _, *rest in grpo), ("new", 0, "n", "0")]
    grid(study, cells, [(cells[1][0], "base")], question="[bold]Does it[/] help?")
    text = printed(study, width, plots=True)
    table = text[: text.index("picture ")]
    assert max(map(len, table.splitlines())) <= width and "…" not in text
    words = " ".join(table.split())
    for shown in ("[bold]Does it[/] help?", "[red]grpo[/red]", "$x^$,", "+22.0", "<.001", "better", "not started"):
        assert shown in words
    assert ("━●" in table) == (width == 100), "where there is room, intervals are drawn"


def test_a_folder_of_any_name_can_be_found_again(study):
    folder = study.rename(study.with_name("a [red]folder"))
    assert f"run folders  {folder}\n" in printed(folder)


@pytest.mark.parametrize(
    ("interval", "drawn"),
    [
        (Interval(0.5, 0.25, 0.75), "    │━●━ "),
        (Interval(0.0, -0.5, 0.5), "  ━━●━━  "),
        (Interval(-0.25, -0.5, 0.25), "  ━●┿━   "),
        (Interval(1.0, 1.0, 1.0), "    │   ●"),
    ],
)
def test_a_strip_is_to_scale(interval, drawn):
    assert strip(interval, 1.0, width=9) == drawn


def test_levels_stand_as_configured_then_those_of_transfer_by_size(tmp_path):
    id = run(tmp_path / "a", 'eval.splits=["L3", "L1"]', right=("10" * 10,) * 3)
    for name in ("600s", "60s", "15s", "3600s"):
        write_jsonl(tmp_path / "a" / "eval" / f"{name}.jsonl", [{"id": "q", "gold": "A", "correct": True}])
    grid(tmp_path, [("a", 0, "a", id)])
    order = ["L3", "L1", "15s", "60s", "600s", "3600s", "L2"]
    assert list(read(tmp_path).levels) == order, "L2 is in no config's splits"
    assert [part for part in printed(tmp_path, 140).split() if part in order][: len(order)] == [
        *(f"{level}" for level in order)
    ]


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_five_levels_and_long_names_fit(study, width):
    for path in study.glob("*/eval/L1.jsonl"):
        for name in ("15s", "60s", "600s"):
            rows = [json.loads(row) for row in path.read_text().splitlines()]
            write_jsonl(path.with_stem(name), [row | {"domain": f"Domain {i % 6}"} for i, row in enumerate(rows)])
    base, *grpo = planned(study)
    long = "sft, as many prompts, 100 % of data"
    grid(study, [base, *((long, *rest) for _, *rest in grpo)], [(long, "base")])
    text = printed(study, width)
    table = text[: text.index("run folders")]
    assert max(map(len, table.splitlines())) <= width and "…" not in text
    for level in ("L1", "L2", "15s", "60s", "600s"):
        assert f"{level} n=100" in table
    i = accuracy(read(study).column(long, "L1", "correct"))
    assert table.count(f"{100 * i.low:.1f}–{100 * i.high:.1f}") == 4, "whole intervals: L1's, and those of three more"
    assert table.count("Domain 5") == 3 and table.count("n=16") == 6, "of 100 questions, 16 are the fifth domain's"


def test_domains_are_counted_by_hand(study):
    for path in study.glob("*/eval/L1.jsonl"):
        rows = [json.loads(row) for row in path.read_text().splitlines()]
        write_jsonl(path, [row | {"domain": "Work" if i < 50 else "Play"} for i, row in enumerate(rows)])
    text = printed(study, 140)
    lines = text[text.index("Play") :].splitlines()
    first, second = (next(row.split() for row in lines if row.startswith(arm)) for arm in ("base", "grpo"))
    low, high = binomtest(40, 50).proportion_ci(method="wilson")
    assert first == ["base", "1", "0.0", "0.0–7.1", "80.0", f"{100 * low:.1f}–{100 * high:.1f}"], "40 of the first 50"
    assert second[2] == "24.0" and second[4] == "100.0", "of the last 50, 10 and 14; of the first, all"
    assert "L2" not in "".join(lines[:8]), "its questions are of one domain"


def test_the_design_is_told(study):
    text = printed(study)
    assert line(text, "seeds").split() == ["seeds", "0", "1", "·", "base:", "0"]
    assert line(text, "asked").split() == ["asked", "L1:", "100", "·", "L2:", "100"]
    assert line(text, "planned: grpo").split()[-2:] == ["against", "base"]


def test_piped_it_is_plain_and_whole(study):
    name = "an arm whose name is longer than any terminal would like to have it in one column of a table"
    base, *others = planned(study)
    grid(study, [base, *((name, *rest) for _, *rest in others)], [(name, "base")])
    done = subprocess.run([sys.executable, "-m", "rlvid", "report", study], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and "…" not in done.stdout
    words = " ".join(done.stdout.split())
    assert "62.0" in words and all(word in words for word in name.split())
    assert f"picture      {study / 'plots' / 'curves.png'}" in done.stdout


def test_pictures_show_each_arm_that_explores(study):
    cells = planned(study)
    sft = run(study / "s", "algorithm=sft", right=("10" * 50, "10" * 50), curve=[1.0] * 60, flat=True)
    grid(study, [*cells, ("sft", 0, "s", sft)])
    printed(study, plots=True)
    curves, dots = (np.asarray(Image.open(study / "plots" / f"{n}.png").convert("RGB")) for n in ("curves", "accuracy"))

    def ink(picture, colour):
        return (abs(picture.astype(int) - colour).max(-1) < 8).sum()

    blue, orange, green = (0, 114, 178), (213, 94, 0), (0, 158, 115)
    assert ink(dots, blue) and ink(dots, orange) and ink(dots, green), "every arm has its dot"
    assert ink(curves, orange) > 500 and not ink(curves, green) and not ink(curves, blue)


def test_it_starts_at_once():
    heavy = "{'torch', 'transformers', 'matplotlib', 'scipy.stats'}"
    code = f"import rlvid.study.report, rlvid.grids.grid, rlvid.study.stats, sys; assert not {heavy} & set(sys.modules)"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    seconds = time.perf_counter() - start
    print(f"imported in {seconds:.2f} s")
    assert seconds < 3, "about 0.5 s on an idle machine"


def test_arms_that_none_began_are_one_line(study):
    cells = planned(study)
    grid(study, [*cells, *((f"later {i}", seed, f"l{i}{seed}", "0") for i in range(9) for seed in (0, 1))])
    text = printed(study, width=140)
    assert "9 arms" in text and "later 0; later 1" in " ".join(text.split())
    assert not [row for row in text.splitlines() if row.startswith("later")]
