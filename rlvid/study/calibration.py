"""Measure on simulated grids how often verdicts are wrong, and how often they find what is there.

    python -m rlvid.study.calibration --jobs 2 --json calibration.json

Every grid is simulated from a `Scenario` with known true accuracies and goes through the same `Family` and
`AdaptiveGrid` as a real one. Reported are percentages of grids, with Monte-Carlo standard errors:

- false: at least one verdict of the whole family is wrong: better or worse where the truth is equal or the other way
  round, or equivalent where the truth differs by the margin or more. Planned are at most 5.
- missed: at least one of the family's simultaneous intervals does not hold the truth. Planned are at most 5.
- found: share of the comparisons with a given true difference that are called better (worse, for negative ones), by
  that difference in points: on all levels together, and on single levels.
- equal: share of the comparisons that are truly equal on all levels together that are called equivalent.
- runs: training runs, where a grid adds seeds until it is decided; fixed grids of 5 and 8 seeds stand beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rlvid.study.contrasts import SHARE, Family, difference, verdict
from rlvid.study.power import ALPHA
from rlvid.study.seed_model import ALL_LEVELS, SeedModel
from rlvid.study.sequential import AdaptiveGrid
from rlvid.study.simulated_grids import BASE, TWO_MODES, Scenario, Scores, draw, simulate, videos

Outcome = dict[str, float]
GRIDS, ADAPTIVE_GRIDS, CHUNK = 400, 200, 20
NULL, HARD, NEW, POWER_TABLE, RANDOM, ADAPTIVE = (
    "no differences",
    "hard cases of the design",
    "new cases",
    "power, with mixed truth",
    "scenarios at random",
    "until decided",
)


def groups() -> dict[str, list[Scenario]]:
    """Table -> its scenarios. Those of `RANDOM` are drawn anew for every grid."""
    return {
        NULL: [Scenario(f"S={s}, SD {sd}", seeds=s, sd=sd) for s, sd in product((2, 3, 5), (0, 1, 2, 3, 4, 6))],
        HARD: [replace(x, name=f"S={s}: {x.name}", seeds=s) for x in _hard() for s in (2, 3, 5)],
        NEW: [replace(x, name=f"S={s}: {x.name}", seeds=s) for x in _new() for s in (2, 3)] + _unequal(),
        POWER_TABLE: [
            Scenario(f"S={s}, SD {sd}", arms=5, seeds=s, sd=sd, effects=(0, 3, 5, 10, 0))
            for s, sd in product((2, 3, 5), (1, 2, 4))
        ],
        RANDOM: [*(Scenario(f"S={s}", seeds=s) for s in (2, 3, 5)), Scenario("S=1 to 6", seeds=[1])],
        ADAPTIVE: _adaptive(),
    }


def _hard() -> list[Scenario]:
    return [
        Scenario("one arm of four SD 6, others 1", sd=(1, 1, 6, 1)),
        Scenario("one arm of nine SD 6, others 1", arms=9, sd=(1,) * 6 + (6,) + (1,) * 2),
        Scenario("two levels scatter 3x, SD 2", scales=(1, 1, 1, 3, 3)),
        Scenario("seed effects correlate .95, SD 3", sd=3, correlation=0.95),
        Scenario("10 % of runs lose 15", sd=1, collapse=0.1),
        Scenario("arms differ on 43 %, SD 4", sd=4, agreement=0.2),
        Scenario("14 arms", arms=14),
    ]


def _new() -> list[Scenario]:
    return [
        Scenario("t effects, SD 3, correlated .6", sd=3, shape="t3", correlation=0.6),
        Scenario("skewed effects, SD 3, correlated .6", sd=3, shape="skewed", correlation=0.6),
        Scenario("15 % lose 8, SD 1", arms=7, sd=1, collapse=0.15, drop=8),
        Scenario("7 questions a video, SD 1", sd=1, per_video=7),
        Scenario("25 questions a video, SD 2", per_video=25, sizes=(500, 500, 250)),
        Scenario("two arms, SD 4", arms=2, sd=4, sizes=(600, 300)),
        Scenario("two arms, correlated .9", arms=2, sd=3, correlation=0.9),
        Scenario("one arm and the base, SD 3", arms=1, sd=3),
        Scenario("eleven arms, SD .5 to 5", arms=11, sd=tuple(np.geomspace(0.5, 5, 11)), correlation=0.5),
        Scenario("control SD 5, seven others 1", arms=8, sd=(5,) + (1,) * 7),
        Scenario("control SD 5, seven others 1, correlated .9", arms=8, sd=(5,) + (1,) * 7, correlation=0.9),
        Scenario("one level of 1000", sizes=(1000,), sd=1.5),
        Scenario("seven levels of 60 to 900", sizes=(60, 900, 100, 300, 500, 80, 200), sd=2.5),
        Scenario("levels of 3000, SD .7, truth mixed", arms=5, sizes=(3000,) * 3, sd=0.7, effects=(0, 3, -3, 6, 0)),
        Scenario("+6 on one level only", sd=1.5, effects=(0, 6, 6, 0), only_level=0),
        Scenario("SD 9", sd=9),
        TWO_MODES,
    ]


def _unequal() -> list[Scenario]:
    return [
        Scenario("seeds 3, 3, 1, 2", seeds=(3, 3, 1, 2), sd=3),
        Scenario("seeds 2, 6, 6, 6, first SD 4, others 1", seeds=(2, 6, 6, 6), sd=(4, 1, 1, 1)),
        Scenario("seeds 8, 1, 8, 8, SD 2", seeds=(8, 1, 8, 8), effects=(0, 10, 0, 5)),
        Scenario("seeds 1, 5, 5, 5, first SD 4, others 1.5", seeds=(1, 5, 5, 5), sd=(4, 1.5, 1.5, 1.5)),
    ]


def _adaptive() -> list[Scenario]:
    six = partial(Scenario, arms=6, pairs="control", seeds=8)
    truths = {"no differences": (), "one +5": (0, 5), "0 +2 +5 +10 -5": (0, 0, 2, 5, 10, -5), "all +3": (0, *[3] * 5)}
    return [
        *(six(f"{name}, SD {sd}", sd=sd, effects=e) for name, e in truths.items() for sd in (1, 2, 4)),
        six("control SD 6, others 1", sd=(6, *[1] * 5)),
        six("one other arm SD 6", sd=(1, 1, 6, 1, 1, 1)),
        six("correlated .95, SD 3", sd=3, correlation=0.95),
        six("10 % of runs lose 15", sd=1, collapse=0.1),
        six("t effects, SD 3", sd=3, shape="t3", effects=(0, 0, 5)),
        six("skewed effects, 5 questions a video", sd=2, shape="skewed", per_video=5, effects=(0, 0, 5)),
        six("+10 on one level only, SD 1", sd=1, effects=(0, *[10] * 5), only_level=0),
    ]


def truth_of(scenario: Scenario, pair: tuple[str, str], level: str) -> float:
    """True difference of a pair on a level or on all of them."""
    truth = scenario.accuracy()
    gaps = truth[pair[0]] - truth[pair[1]]
    return round(float(gaps.mean() if level == ALL_LEVELS else gaps[scenario.levels.index(level)]), 9)


def is_false(words: str, true: float, margin: float) -> bool:
    """Whether a verdict contradicts the true difference."""
    return {"better": true <= 0, "worse": true >= 0}.get(words, words.startswith("equivalent") and abs(true) >= margin)


def fixed(scenario: Scenario, scores: Scores, share: float = SHARE) -> Outcome:
    """Compare the verdicts of a grid with fixed seeds with the true differences."""
    pairs = {f"{a} - {b}": (a, b) for a, b in scenario.comparisons()}
    model, margin = SeedModel.fit(scores, videos(scenario), [BASE]), scenario.margin / 100
    contrasts = {name: difference(*pair) for name, pair in pairs.items()}
    said, missed = [], False
    for (name, level), alpha in Family(model, contrasts, margin, share=share).alphas().items():
        contrast, true = model.contrast(contrasts[name], level), truth_of(scenario, pairs[name], level)
        said.append((level, true, verdict(contrast, alpha, margin)))
        missed |= contrast.p_value(true) < alpha
    runs = sum(len(next(iter(levels.values()))) for arm, levels in scores.items() if arm != BASE)
    return {**_judge(said, margin), "missed": float(missed), "runs": float(runs)}


def adaptive(scenario: Scenario, scores: Scores, share: float = SHARE) -> Outcome:
    """Compare the final verdicts of an adaptive grid with the true differences."""
    pairs = {f"{a} - {b}": (a, b) for a, b in scenario.comparisons()}
    margin = scenario.margin / 100
    grid = AdaptiveGrid({name: difference(*pair) for name, pair in pairs.items()}, margin, share=share)
    runs, seeds = dict.fromkeys(scenario.names, 0), grid.next_seeds()
    while seeds:
        runs |= dict.fromkeys(grid.open_arms([BASE]), seeds)
        model = SeedModel.fit(_first(scores, runs), videos(scenario), [BASE])
        grid.look(model, seeds)
        seeds = grid.next_seeds()
    said = [(ALL_LEVELS, truth_of(scenario, pairs[n], ALL_LEVELS), c.verdict) for n, c in grid.comparisons.items()]
    if share < 1:
        results = grid.single_levels(model)
        said += [(r.level, truth_of(scenario, pairs[r.name], r.level), r.verdict) for r in results]
    return {**_judge(said, margin), "runs": float(sum(runs.values()))}


def _first(scores: Scores, runs: Mapping[str, int]) -> Scores:
    """The first so many runs of each arm; all of an arm that is not named."""
    return {arm: {level: x[: runs.get(arm)] for level, x in of.items()} for arm, of in scores.items()}


def _judge(said: Iterable[tuple[str, float, str]], margin: float) -> Outcome:
    """(level, truth, verdict) of a grid's family -> whether any is false, and shares that are right."""
    rates: dict[str, list[bool]] = {}
    for level, true, words in said:
        where = "all levels" if level == ALL_LEVELS else "a level"
        wrong = is_false(words, true, margin)
        for key in ("false", f"false, {where}"):
            rates.setdefault(key, []).append(wrong)
        if true:
            found = words == ("better" if true > 0 else "worse")
            rates.setdefault(f"found, {where} {100 * true:+.3g}", []).append(found)
        elif level == ALL_LEVELS:
            rates.setdefault("equal", []).append(words.startswith("equivalent"))
    return {key: float(any(x) if key.startswith("false") else np.mean(x)) for key, x in rates.items()}


def simulate_grids(
    table: str, scenario: Scenario, numbers: Sequence[int], share: float = SHARE, seed: int = 0
) -> list[dict[str, Outcome]]:
    """Design -> outcome, of some grids of a scenario, each from a random stream of its own, whatever else is run."""
    found: list[dict[str, Outcome]] = []
    for number in numbers:
        rng = np.random.default_rng([seed, number, *f"{table}/{scenario.name}".encode()])
        if table == RANDOM:
            world = draw(scenario.name, scenario.seeds if isinstance(scenario.seeds, int) else None, rng)
            outcome = fixed(world, simulate(world, rng), share)
            found.append({"fixed": {key: x for key, x in outcome.items() if not key.startswith("found")}})
        elif table == ADAPTIVE:
            scores = simulate(scenario, rng)
            first = {f"fixed {s}": _first(scores, dict.fromkeys(scenario.names, s)) for s in (5, 8)}
            outcomes = {name: fixed(scenario, of, share) for name, of in first.items()}
            found.append({"until decided": adaptive(scenario, scores, share), **outcomes})
        else:
            found.append({"fixed": fixed(scenario, simulate(scenario, rng), share)})
    return found


def summary(outcomes: Sequence[Outcome]) -> dict[str, tuple[float, float]]:
    """Key -> mean and Monte-Carlo standard error over the grids that have it; SE of a rate never below 1 / grids."""
    figures = {}
    for key in sorted({key for outcome in outcomes for key in outcome}):
        values = np.array([outcome[key] for outcome in outcomes if key in outcome])
        figures[key] = (float(values.mean()), float(max(values.std() / np.sqrt(len(values)), 1 / len(values))))
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, print a table per group of scenarios and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m rlvid.study.calibration", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--grids", type=float, default=1.0, help=f"times {GRIDS} grids, {ADAPTIVE_GRIDS} adaptive ones")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", default="", help="only tables whose name contains this")
    parser.add_argument("--share", type=float, default=SHARE, help="of alpha for all levels together")
    parser.add_argument("--seed", type=int, default=2027)
    args = parser.parse_args(argv)
    start = time.monotonic()
    chosen = {table: cases for table, cases in groups().items() if args.only in table}
    tasks = [
        (table, case, range(first, min(first + CHUNK, count)))
        for table, cases in chosen.items()
        for count in [max(1, round(args.grids * (ADAPTIVE_GRIDS if table == ADAPTIVE else GRIDS)))]
        for case in cases
        for first in range(0, count, CHUNK)
    ]
    outcomes: dict[tuple[str, str, str], list[Outcome]] = {}
    for (table, case, _), grids in zip(tasks, _run(tasks, args.share, args.seed, args.jobs), strict=True):
        for design, outcome in ((design, outcome) for grid in grids for design, outcome in grid.items()):
            outcomes.setdefault((table, case.name, design), []).append(outcome)
    rows = [
        {"table": table, "scenario": name, "design": design, "grids": len(of), "figures": summary(of)}
        for (table, name, design), of in outcomes.items()
    ]
    took = time.monotonic() - start
    show(rows, f"{len(rows)} rows, nominal {100 * ALPHA:g} %, share {args.share:g}, {took / 60:.1f} minutes")
    if args.json:
        settings = {"grids": args.grids, "share": args.share, "seed": args.seed, "seconds": round(took)}
        args.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))


def _run(
    tasks: Sequence[tuple[str, Scenario, Sequence[int]]], share: float, seed: int, jobs: int
) -> list[list[dict[str, Outcome]]]:
    """Outcomes of each task, in order, with a progress bar."""
    from rich.progress import track

    columns = tuple(zip(*tasks, strict=True))
    work = partial(simulate_grids, share=share, seed=seed)
    if jobs == 1:
        return list(track(map(work, *columns), "simulating", len(tasks)))
    with ProcessPoolExecutor(jobs) as pool:
        return list(track(pool.map(work, *columns), "simulating", len(tasks)))


def show(rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Print a table per group: percent, with standard errors for what must not exceed 5."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.width = max(console.width, 160)
    for title in dict.fromkeys(row["table"] for row in rows):
        keys = ["scenario", "design", "false", "of all levels", "of a level", "missed", "equal", "runs"]
        table = Table(*keys, "found, all levels", "found, a level", title=title, title_justify="left", box=None)
        for row in (row for row in rows if row["table"] == title):
            of = row["figures"]
            errors = [_percent(of, key, True) for key in ("false", "false, all levels", "false, a level", "missed")]
            found = [
                "  ".join(f"{key.removeprefix(start)}: {_percent(of, key)}" for key in of if key.startswith(start))
                for start in ("found, all levels ", "found, a level ")
            ]
            runs = f"{of['runs'][0]:.1f}"
            table.add_row(row["scenario"], row["design"], *errors, _percent(of, "equal"), runs, *found)
        console.print(table, "")
    console.print(caption)


def _percent(figures: Mapping[str, tuple[float, float]], key: str, error: bool = False) -> str:
    """A rate in percent, with its standard error on demand; empty where there is none."""
    if key not in figures:
        return ""
    mean, standard_error = figures[key]
    return f"{100 * mean:.1f} ± {100 * standard_error:.1f}" if error else f"{100 * mean:.0f}"


if __name__ == "__main__":
    main()
