"""Long runs use no more memory at the end than in the middle. `make soak` runs all but the last test."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from statistics import median

import psutil
import pytest

from rlvid.study.report import report
from rlvid.study.runs import Run
from rlvid.utils.files import read_last_jsonl
from tests.helpers.processes import Child
from tests.helpers.reports import write_run

TINY = ["train.prompts_per_step=1", "train.num_generations=2", "train.max_completion_length=8", "train.save_steps=500"]
CELLS = """
from rlvid.grids import Grid
small = {"train.max_steps": 0, "eval.splits": ["L1"], "eval.transfer": [], "eval.limit": 1}
GRID = Grid(name="many", question="", arms={"base": small}, seeds=tuple(range(200)), control="base")
if __name__ == "__main__":
    raise SystemExit(GRID.main())
"""


def watched(process, done, every=2.0):
    """Sample the resources of a process and its children until it ends: (done, MB, files, threads, core seconds).

    The seconds are those spent at work, children's that have ended included: a busy machine adds none.
    """
    seen = []
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        held = [0.0, 0, 0, 0.0]
        with suppress(psutil.NoSuchProcess):  # one that ends meanwhile is left out
            for one in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess), one.oneshot():
                    now = one.memory_info().rss / 1e6, one.num_fds(), one.num_threads(), sum(one.cpu_times()[:4])
                    held = [a + b for a, b in zip(held, now, strict=True)]
            seen.append((done(), *held))
        time.sleep(every)
    return seen


def on_disk(folder):
    """The total size of all files under a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def flat(seen, whole):
    """Medians over the second and the last quarter of a run: MB, open files, threads, core seconds per unit of work."""
    parts = [[s for s in seen if low * whole <= s[0] < high * whole] for low, high in ((0.25, 0.5), (0.75, 1.0))]
    found = []
    for part in parts:
        pace = (part[-1][4] - part[0][4]) / (part[-1][0] - part[0][0])
        found.append([median(s[i] for s in part) for i in (1, 2, 3)] + [pace])
    print(*(f"{m:.0f} MB, {f:.0f} files, {t:.0f} threads, {1000 * s:.0f} ms each" for m, f, t, s in found), sep="\n")
    (memory, files, threads, pace), (late, more_files, more_threads, slow) = found
    assert late < 1.05 * memory + 20 and slow < 1.3 * pace
    assert more_files <= 1.1 * files + 2 and more_threads <= 1.1 * threads


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_thousand_steps_stay_flat(kitchen, tmp_path):
    out = tmp_path / "run"
    child = Child(out, *TINY, "train.max_steps=2000")
    seen = watched(psutil.Process(child.process.pid), lambda: read_last_jsonl(out / "timing.jsonl").get("step", 0))
    assert child.end()[0] == 0 and read_last_jsonl(out / "timing.jsonl")["step"] == 2000
    flat(seen, 2000)
    kept = sorted((out / "checkpoints").iterdir())
    sizes = [sum(f.stat().st_size for f in (out / "samples").glob(f"step-00{k}*")) for k in (0, 1)]
    print(f"{len(kept)} checkpoints; samples of steps 1 to 999: {sizes[0]} bytes, 1000 to 1999: {sizes[1]}")
    assert len(kept) <= 3 and sizes[1] < 1.2 * sizes[0]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_hundred_cells_stay_flat(kitchen, tmp_path):
    (tmp_path / "many.py").write_text(CELLS)
    grid = subprocess.Popen([sys.executable, "many.py", "--jobs", "2"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    runs = tmp_path / "runs" / "many"
    seen = watched(psutil.Process(grid.pid), lambda: len(list(runs.glob("*/eval/L1.jsonl"))), every=5)
    cells = sorted(runs.glob("*/eval/L1.jsonl"), key=lambda path: path.stat().st_mtime)
    assert grid.wait() == 0 and len(cells) == 200
    flat(seen, 200)
    sizes = [on_disk(cell.parent.parent) for cell in cells]
    early, late = sum(sizes[50:100]), sum(sizes[150:])
    print(f"{on_disk(runs)} bytes on the disk; cells 51 to 100: {early}, 151 to 200: {late}")
    assert late < 1.2 * early and on_disk(runs) < 1.2 * sum(sizes) + 1e6


def test_of_a_hundred_thousand_steps_a_report_parses_few_lines(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "long", right=("10" * 20,))
    row = {f"rewards/reward_{i}/mean": 0.123456789 for i in range(30)} | {"frac_reward_zero_std": 0.5, "reward": 0.25}
    with (tmp_path / "long" / "metrics.jsonl").open("w") as file:
        for step in range(1, 100_001):
            evaluated = {"eval/L1/accuracy": 0.5} if step in (777, 99_999) else {}
            file.write(json.dumps({"step": step, **row, **evaluated}) + "\n")
    parsed, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text, **options: parsed.append(1) or loads(text, **options))
    report(tmp_path)
    assert 2000 < len(parsed) < 10_000
    result = Run("long", 0, tmp_path / "long", "")
    assert 2000 <= len(result.metrics) <= 2100 and result.metrics[-1]["step"] == 100_000
    assert [row["step"] for row in result.metrics if "eval/L1/accuracy" in row] == [777, 99_999]
