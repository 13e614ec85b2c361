"""A study: all runs of a grid or of a folder, by arm, with their answers as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlvid.errors import UserError
from rlvid.study.arms import evaluations_of_runs, is_untrained, name_arms, setting_rows
from rlvid.study.compared import Compared, compared_runs
from rlvid.study.plan_changes import PlanChange, read_changes
from rlvid.study.power import EQUIVALENCE_MARGIN
from rlvid.study.runs import Row, Run, one_run_each, order_levels
from rlvid.study.sequential import AdaptiveGrid
from rlvid.study.settings import SettingRow
from rlvid.utils.files import read_json, read_toml

STATE_FILE = "adaptive.json"  # in the folder of an adaptive grid


@dataclass(frozen=True)
class Study:
    """The runs of a grid or of a folder.

    Arrays of scores are (S, Q): one row for each run that counts, in the order of seeds, and one column for each
    question, in the order of `levels`.
    """

    name: str
    question: str  # the research question of the grid; "" for a folder without a grid
    control: str  # an arm
    comparisons: Sequence[tuple[str, str]]  # (arm, other arm), as planned
    runs: Sequence[Run]
    equivalence_margin: float = EQUIVALENCE_MARGIN  # differences below it count as equivalent; a share, not points
    unseeded: Sequence[str] = ()  # arms that do not depend on the seed, such as an untrained base
    endpoint: str = "accuracy"  # what is compared: "accuracy", or a measured reward such as "soft_accuracy"
    adaptive: AdaptiveGrid | None = None  # the looks of a grid that adds seeds until its comparisons are decided
    differences: Sequence[SettingRow] = ()  # settings in which arms differ from those that they are compared with
    interactions: Sequence[tuple[str, str, str, str]] = ()  # (arm, arm changed, other, other changed), as planned
    effect_order: Sequence[tuple[str, str, str, str]] = ()  # pairs of effects, (arm, other arm) in two settings
    tuning: str = ""  # how the settings of the arms were chosen; "" for a grid without tuned settings
    positive_controls: Sequence[tuple[str, str]] = ()  # comparisons whose first arm must be better
    negative_controls: Sequence[tuple[str, str]] = ()  # comparisons whose first arm must not be better
    set_aside: Sequence[tuple[str, str]] = ()  # (run folder, why it does not count)
    plan_changes: Sequence[PlanChange] = ()  # after some of the runs had finished
    success_threshold: float | None = None  # a run whose endpoint on all levels is above it counts as a success

    @property
    def endpoint_column(self) -> str:
        """The column of the answers that holds the endpoint."""
        return "correct" if self.endpoint == "accuracy" else f"rewards/{self.endpoint}"

    @cached_property
    def arms(self) -> dict[str, list[Run]]:
        """Arm -> its finished runs, by seed; the list is empty if none has finished."""
        arms: dict[str, list[Run]] = {run.arm: [] for run in self.runs}
        for run in sorted(self.runs, key=lambda run: run.seed):
            if run.done:
                arms[run.arm].append(run)
        return arms

    @cached_property
    def levels(self) -> dict[str, list[str]]:
        """Level -> ids of its questions.

        They are those of the run that answered most questions of the level: runs are only compared on the same
        questions, see `runs_on`. Answers to the same questions in another order are put into this order.
        """
        questions: dict[str, list[str]] = {}
        for run in self.runs:
            for level, answers in run.answers.items():
                questions[level] = max(questions.get(level, []), list(answers), key=len)
        for run in self.runs:
            for level, answers in run.answers.items():
                if answers.keys() == set(questions[level]):
                    run.answers[level] = {question: answers[question] for question in questions[level]}
        configured = list(dict.fromkeys(level for run in self.runs for level in run.configured_levels))
        return {level: questions[level] for level in order_levels(questions, configured) if questions[level]}

    def runs_on(self, arm: str, level: str) -> list[Run]:
        """Return the finished runs of an arm that answered all questions of a level, and no others."""
        questions = self.levels[level]
        return [run for run in self.arms[arm] if list(run.answers.get(level, ())) == questions]

    def runs_on_all_levels(self, arm: str) -> list[Run]:
        """Return the finished runs of an arm that answered all questions of every level."""
        return [run for run in self.arms[arm] if all(run in self.runs_on(arm, level) for level in self.levels)]

    def column(self, arm: str, level: str, key: str) -> np.ndarray | None:
        """Return (S, Q) values of a column of an arm's answers, such as "correct"; None if no answer has it.

        A missing value counts as 0: a clip that could not be read is a wrong answer.
        """
        runs = [list(run.answers[level].values()) for run in self.runs_on(arm, level)]
        if not any(key in row for rows in runs for row in rows):
            return None
        return np.array([[float(row.get(key) or 0) for row in rows] for rows in runs])

    @cached_property
    def applies(self) -> dict[str, np.ndarray]:
        """Level -> (Q,) whether the endpoint applies to a question: some finished run has a value for it.

        A clip that could not be read is a wrong answer, whose value is 0.
        """
        found: dict[str, np.ndarray] = {level: np.zeros(len(of), bool) for level, of in self.levels.items()}
        for level, applies in found.items():
            for run in (run for arm in self.arms for run in self.runs_on(arm, level)):
                rows = run.answers[level].values()
                applies |= np.array([row.get(self.endpoint_column) is not None or "unread" in row for row in rows])
        return found

    @cached_property
    def compared(self) -> dict[str, Compared]:
        """Arm -> its runs that are compared, and the levels that they answered."""
        return compared_runs(self)

    def accuracies(self, arm: str) -> np.ndarray:
        """Return (S, T) accuracies of an arm's runs on each of T levels, of the runs that answered all levels."""
        return np.array(
            [[_correct(run, level).mean() for level in self.levels] for run in self.runs_on_all_levels(arm)]
        )

    def scores_on_all_levels(self, arm: str) -> dict[int, np.ndarray]:
        """Return seed -> (Q,) scores, 1 for a right answer, on the questions of all levels, one level after the other.

        Only runs that answered all levels are included.
        """
        return {
            run.seed: np.concatenate([_correct(run, level) for level in self.levels])
            for run in self.runs_on_all_levels(arm)
        }

    def domains(self, level: str) -> dict[str, np.ndarray]:
        """Return domain -> indices of its questions in a level; the domain with most questions first, ties by name."""
        indices: dict[str, list[int]] = {}
        for index, row in enumerate(self._reference_answers(level).values()):
            indices.setdefault(row.get("domain", ""), []).append(index)
        names = sorted(indices, key=lambda name: (-len(indices[name]), name))
        return {name: np.array(indices[name]) for name in names}

    def video_ids(self, *levels: str) -> np.ndarray:
        """Return (Q,) numbers from 0 of each question's video, on some levels one after the other, or on all.

        A question that names no video gets a number that no other question has.
        """
        names: list[str] = []
        for level in levels or self.levels:
            answers = self._reference_answers(level)
            names += [row.get("video", f"{level}/{question}") for question, row in answers.items()]
        return np.unique(names, return_inverse=True)[1]

    def video_ids_by_level(self) -> dict[str, np.ndarray]:
        """Return level -> (Q,) numbers of each question's video: a video has one number on all levels."""
        ends = np.cumsum([len(questions) for questions in self.levels.values()])
        return dict(zip(self.levels, np.split(self.video_ids(), ends[:-1]), strict=True))

    def constant_accuracy(self, level: str) -> float:
        """Return the accuracy of always answering the most frequent right letter of a level."""
        letters = Counter(row["gold"] for row in self._reference_answers(level).values())
        return max(letters.values()) / letters.total()

    def _reference_answers(self, level: str) -> Mapping[str, Row]:
        """Return the answers of the run that answered most questions of a level: the questions of `levels`."""
        return max((run.answers.get(level, {}) for run in self.runs), key=len)


def read_study(folder: Path) -> Study:
    """Read the grid in a folder or, if it has no grid.json, the runs in it. Raises UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give a grid's folder, or one with run folders, such as runs/quickstart")
    if grid := read_json(folder / "grid.json"):
        return _read_grid(folder, grid)
    return _read_runs(folder)


def _read_grid(folder: Path, grid: Mapping[str, Any]) -> Study:
    """Build the study that a grid.json describes."""
    cells = [
        Run(cell["arm"], cell["seed"], folder / cell["folder"], cell["id"], cell["levels"]) for cell in grid["cells"]
    ]
    runs, repeated = one_run_each(cells)
    comparisons = [(arm, other) for arm, other in grid["comparisons"]]
    margin = grid.get("equivalence_margin", EQUIVALENCE_MARGIN)
    unseeded, endpoint = grid.get("unseeded", ()), grid.get("endpoint", "accuracy")
    adaptive = read_adaptive(folder)
    _check_looks(folder, adaptive, runs, endpoint)
    return Study(
        grid["name"],
        grid["question"],
        grid["control"],
        comparisons,
        runs,
        margin,
        unseeded,
        endpoint,
        differences=[SettingRow(**row) for row in grid.get("differences", ())],
        adaptive=adaptive,
        interactions=[(a, a_changed, b, b_changed) for a, a_changed, b, b_changed in grid.get("interactions", ())],
        effect_order=[(a, a_other, b, b_other) for a, a_other, b, b_other in grid.get("effect_order", ())],
        tuning=grid.get("tuning", ""),
        positive_controls=[(arm, other) for arm, other in grid.get("positive_controls", ())],
        negative_controls=[(arm, other) for arm, other in grid.get("negative_controls", ())],
        set_aside=repeated,
        plan_changes=read_changes(grid.get("changed", ())),
        success_threshold=grid.get("success_threshold"),
    )


def read_adaptive(folder: Path) -> AdaptiveGrid | None:
    """The looks of an adaptive grid so far; None if the folder holds none."""
    state = read_json(folder / STATE_FILE)
    return AdaptiveGrid.from_json(state) if state else None


def _check_looks(folder: Path, adaptive: AdaptiveGrid | None, runs: Sequence[Run], endpoint: str) -> None:
    """Raise UserError if an adaptive grid's looks were at runs of other configs, or at another endpoint."""
    plan = adaptive.plan if adaptive else {}
    first = {run.arm: run.id for run in reversed(runs)}
    changed = [f"arm {arm!r}" for arm, id in plan.get("configs", {}).items() if first.get(arm, id) != id]
    changed += ["the endpoint"] if plan and plan["endpoint"] != endpoint else []
    if changed:
        raise UserError(
            f"{folder}: the looks in {STATE_FILE} are of another config of {', '.join(changed)} than grid.json has, "
            "so its verdicts are of other runs; start the unchanged script again, or move its runs to a folder of "
            "their own"
        )


def _read_runs(folder: Path) -> Study:
    """Build a study of the runs in a folder without a grid: runs that differ in nothing but the seed are one arm.

    Arms with a finished run come first, untrained ones before others. The first is the control, with which all others
    are compared. An evaluation of a run that is in the folder, or of its cold start, is not an arm of its own.
    """
    configs = {
        path.parent: read_toml(path)
        for path in sorted([folder / "config.toml", *folder.glob("*/config.toml")])
        if (path.parent / "status.json").is_file()
    }
    if not configs:
        grids = ", ".join(str(path.parent) for path in sorted(folder.glob("*/grid.json")))
        raise UserError(f"no runs in {folder}." + (f" There are grids in {grids}" if grids else ""))
    evaluations = evaluations_of_runs(configs)
    configs = {path: config for path, config in configs.items() if path not in evaluations}
    arm_names = name_arms(configs)
    runs = [
        Run(arm_names[path], config["seed"], path, (read_json(path / "status.json") or {})["id"])
        for path, config in configs.items()
    ]
    runs, repeated = one_run_each(runs)
    evaluated = [(path.name, words) for path, words in evaluations.items()]
    untrained = {arm_names[path] for path, config in configs.items() if is_untrained(path, config)}
    done = {run.arm for run in runs if run.done}
    runs.sort(key=lambda run: (run.arm not in done, run.arm not in untrained, run.arm))
    control, *others = dict.fromkeys(run.arm for run in runs)
    of_arm = {run.arm: configs[run.folder] for run in reversed(runs)}
    return Study(
        folder.name,
        "",
        control,
        [(arm, control) for arm in others],
        runs,
        unseeded=sorted(untrained),
        differences=[row for arm in others for row in setting_rows(arm, control, of_arm[arm], of_arm[control])],
        set_aside=[*evaluated, *repeated],
    )


def _correct(run: Run, level: str) -> np.ndarray:
    """Return (Q,) scores of a run on a level, 1 for a right answer."""
    return np.array([float(row["correct"]) for row in run.answers[level].values()])
