"""Run folders read back: which arm and seed each is, how far it came, what it answered."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlvid.errors import UserError
from rlvid.study.power import EQUIVALENCE_MARGIN
from rlvid.utils.files import read_json, read_jsonl

Row = Mapping[str, Any]
UNBEGUN = "not started"
STEPS = 2000  # of a run with many more, so many are looked at


@dataclass(frozen=True)
class Result:
    """One run of an arm."""

    arm: str
    seed: int
    folder: Path
    id: str
    levels: Mapping[str, str] = field(default_factory=dict, compare=False)  # axis -> level, in a grid with axes

    @cached_property
    def status(self) -> Row:
        """The run's status.json, empty if it has not come that far."""
        return read_json(self.folder / "status.json") or {}

    @property
    def done(self) -> bool:
        """Whether this very run, and not another config's in the same folder, is complete."""
        return self.status.get("state") == "done" and self.status["id"] == self.id

    @property
    def standing(self) -> str:
        """How far it came, in words."""
        if not self.status:
            return last_line(self.folder / "output.log") or UNBEGUN
        s = self.status
        message = f": {s['message'].splitlines()[0]}" if s.get("message") else ""
        when = s["updated"][:16].replace("T", " ")
        return f"{s['state']} at step {s['step']} of {s['steps']}{message} ({when} UTC)"

    @cached_property
    def splits(self) -> Sequence[str]:
        """The levels of its own benchmark, as configured; those of transfer come after them."""
        return splits(self.folder)

    @cached_property
    def metrics(self) -> Sequence[Row]:
        """One row per step, or of very many steps every so manieth; all that have evaluations."""
        return read_jsonl(self.folder / "metrics.jsonl", thin_to=STEPS, always_keep=b'"eval/')

    @cached_property
    def answers(self) -> dict[str, dict[str, Row]]:
        """Level -> question id -> row, of a finished run."""
        files = sorted((self.folder / "eval").glob("*.jsonl")) if self.done else []
        return {path.stem: {row["id"]: row for row in read_jsonl(path)} for path in files}


@dataclass(frozen=True)
class Study:
    """The runs of one question, by arm."""

    name: str
    question: str
    control: str
    comparisons: Sequence[tuple[str, str]]
    results: Sequence[Result]
    equivalence_margin: float = EQUIVALENCE_MARGIN  # the margin of what is called equivalent

    @cached_property
    def arms(self) -> dict[str, list[Result]]:
        """Arm -> its finished runs by seed; an arm without any is there, and empty."""
        arms: dict[str, list[Result]] = {result.arm: [] for result in self.results}
        for result in sorted(self.results, key=lambda r: r.seed):
            if result.done:
                arms[result.arm].append(result)
        return arms

    @cached_property
    def levels(self) -> dict[str, list[str]]:
        """Level -> question ids: those of the run that answered most; only runs that answered the same are compared."""
        levels: dict[str, list[str]] = {}
        for result in self.results:
            for level, answers in result.answers.items():
                levels[level] = max(levels.get(level, []), list(answers), key=len)
        configured = dict.fromkeys(split for result in self.results for split in result.splits)
        return {level: levels[level] for level in ranked(levels, list(configured)) if levels[level]}

    def answered(self, arm: str, level: str) -> list[Result]:
        """An arm's runs that count on a level: they answered its questions, all of them and no others."""
        return [run for run in self.arms[arm] if list(run.answers.get(level, ())) == self.levels[level]]

    def column(self, arm: str, level: str, key: str) -> np.ndarray | None:
        """(S, Q) a column of an arm's answers, None where it has none; a clip that could not be read counts as 0."""
        runs = [list(run.answers[level].values()) for run in self.answered(arm, level)]
        if not any(key in row for rows in runs for row in rows):
            return None
        return np.array([[float(row.get(key) or 0) for row in rows] for rows in runs])

    def whole(self, arm: str) -> list[Result]:
        """An arm's runs that count on every level."""
        return [run for run in self.arms[arm] if all(run in self.answered(arm, level) for level in self.levels)]

    def shares(self, arm: str) -> np.ndarray:
        """(S, T) accuracies of an arm's whole runs on each level."""
        answers = [[run.answers[level].values() for level in self.levels] for run in self.whole(arm)]
        return np.array([[np.mean([row["correct"] for row in rows]) for rows in levels] for levels in answers])

    def pooled(self, arm: str) -> dict[int, np.ndarray]:
        """Seed -> (Q,) whether right on all levels' questions in turn, of an arm's whole runs."""
        answers = {run.seed: [run.answers[level].values() for level in self.levels] for run in self.whole(arm)}
        return {
            s: np.array([float(row["correct"]) for rows in levels for row in rows]) for s, levels in answers.items()
        }

    def domains(self, level: str) -> dict[str, np.ndarray]:
        """Domain -> the places of its questions on a level, most questions first."""
        rows = max((result.answers.get(level, {}) for result in self.results), key=len)
        found: dict[str, list[int]] = {}
        for place, row in enumerate(rows.values()):
            found.setdefault(row.get("domain", ""), []).append(place)
        return {name: np.array(found[name]) for name in sorted(found, key=lambda name: (-len(found[name]), name))}

    def videos(self, *levels: str) -> np.ndarray:
        """(Q,) a number for each question's video, over some levels in turn, or all; without one it has its own."""
        names: list[str] = []
        for level in levels or self.levels:
            rows = max((result.answers.get(level, {}) for result in self.results), key=len)
            names += [row.get("video", f"{level}/{id}") for id, row in rows.items()]
        return np.unique(names, return_inverse=True)[1]

    def blind(self, level: str) -> float:
        """How often the commonest right letter is right: what one gets without looking."""
        rows = max((result.answers.get(level, {}) for result in self.results), key=len)
        golds = Counter(row["gold"] for row in rows.values())
        return max(golds.values()) / golds.total()

    def remarks(self, result: Result) -> list[str]:
        """Why a run, or some of its answers, is missing from the numbers; empty if nothing is."""
        if not result.done:
            return [result.standing]
        found = []
        for level, ids in self.levels.items():
            answers = result.answers.get(level, {})
            if list(answers) != ids:
                shared = len(answers.keys() & set(ids))
                found.append(f"{level} left out: it answered {shared} of the {len(ids)} questions that others answered")
            elif unread := sum("unread" in row for row in answers.values()):
                found.append(f"{level}: {unread} clips could not be read and count as wrong; see skipped.jsonl")
        return found


def read(folder: Path) -> Study:
    """The grid of a folder, or just the runs in it; UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give a grid's or one that holds run folders, such as runs/quickstart")
    if grid := read_json(folder / "grid.json"):
        results = [Result(c["arm"], c["seed"], folder / c["folder"], c["id"], c["levels"]) for c in grid["cells"]]
        comparisons = [(a, b) for a, b in grid["comparisons"]]
        return Study(
            grid["name"],
            grid["question"],
            grid["control"],
            comparisons,
            results,
            grid.get("equivalence_margin", EQUIVALENCE_MARGIN),
        )
    configs = {
        path.parent: tomllib.loads(path.read_text())
        for path in sorted([folder / "config.toml", *folder.glob("*/config.toml")])
        if (path.parent / "status.json").is_file()
    }
    if not configs:
        grids = [str(path.parent) for path in sorted(folder.glob("*/grid.json"))]
        raise UserError(f"no runs in {folder}." + (f" There are grids in {', '.join(grids)}" if grids else ""))
    names = labels({path: flat(config) for path, config in configs.items()})
    results = [
        Result(names[path], config["seed"], path, (read_json(path / "status.json") or {})["id"])
        for path, config in configs.items()
    ]
    results.sort(key=lambda r: (configs[r.folder]["train"]["max_steps"] > 0, r.arm))
    arms = list(dict.fromkeys(r.arm for r in results))
    return Study(folder.name, "", arms[0], [(arm, arms[0]) for arm in arms[1:]], results)


def splits(folder: Path) -> Sequence[str]:
    """A run's `eval.splits`."""
    path = folder / "config.toml"
    return tomllib.loads(path.read_text()).get("eval", {}).get("splits", ()) if path.is_file() else ()


def ranked(levels: Iterable[str], configured: Sequence[str]) -> list[str]:
    """Levels as they are configured; then the others, such as those of transfer, by name, and 60s before 600s."""
    others = sorted(set(levels) - set(configured), key=_by_numbers)
    return [*(level for level in configured if level in set(levels)), *others]


def _by_numbers(name: str) -> list[str]:
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def labels(configs: Mapping[Path, Mapping[str, Any]]) -> dict[Path, str]:
    """Name runs by the settings, the seed apart, in which they differ."""
    keys = dict.fromkeys(key for config in configs.values() for key in config if key != "seed")
    varied = [key for key in keys if len({repr(config.get(key)) for config in configs.values()}) > 1]
    return {
        path: " ".join(f"{key}={config[key]}" for key in varied if key in config) or next(iter(configs)).name
        for path, config in configs.items()
    }


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def last_line(path: Path) -> str:
    """The last line of a log that says something, "" if there is none."""
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def numbers(row: Row) -> str:
    """A step's accuracies by level, else its reward and accuracy."""
    levels = {key.split("/")[1]: row[key] for key in row if key.startswith("eval/") and key.endswith("/accuracy")}
    if levels:
        return "  ".join(f"{level} {value:.1%}" for level, value in levels.items())
    shown = {"reward": "reward", "rewards/accuracy/mean": "accuracy"}
    return "  ".join(f"{name} {row[key]:.2f}" for key, name in shown.items() if key in row)
