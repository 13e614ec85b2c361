"""What a terminal shows during a run: a bar with the time left, the step's numbers, and now and then a completion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from rlvid.trainer.alarms import Alarm
from rlvid.trainer.records import GroupRecord

SHOWN = {"reward": "reward", "rewards/accuracy/mean": "accuracy", "completions/mean_length": "length", "loss": "loss"}
REWARD_KEY = re.compile(r"rewards/(.+)/mean")


class Display:
    """Progress bars on a terminal, plain lines elsewhere, and nothing in processes other than the main one.

    Args:
        model: its name, shown while it is loaded.
        max_steps: of the run.
        is_main: whether this is the main process.
        log_completions_steps: a completion is shown every so many steps; 0 for never.
    """

    def __init__(self, model: str, max_steps: int, is_main: bool, log_completions_steps: int) -> None:
        self.model, self.max_steps, self.is_main = model, max_steps, is_main
        self.log_completions_steps = log_completions_steps
        self.warned: set[str] = set()  # kinds of alarms that were shown; each is shown once, alarms.jsonl has them all
        self.console = Console(stderr=True, quiet=not is_main)
        self.live = is_main and self.console.is_terminal
        self.progress = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )

    def __enter__(self) -> Display:
        self.progress.start()
        self.task = self.progress.add_task(f"loading {self.model}", total=None, note="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def loaded(self) -> None:
        """Turn the bar of loading into that of the steps, if there are any."""
        self.progress.update(self.task, description="train", total=self.max_steps, visible=self.max_steps > 0)

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        """A bar for one piece of work, such as the evaluation of a level."""
        self.loaded()
        task = self.progress.add_task(name, total=total, note="")
        phase = Phase(self.progress, task)
        yield phase
        self.progress.remove_task(task)
        if not self.live:
            self.console.print(f"{name}: {total} {phase.note}".rstrip(), highlight=False)

    def results(self, table: Table | None) -> None:
        """Print the results of the evaluation on standard output."""
        if self.is_main and table is not None:
            self.progress.stop()
            Console().print(table)

    def warn(self, *messages: str | None) -> None:
        """Print each message that is not None as a warning on standard error; only the main process does."""
        for message in filter(None, messages):
            self.console.print(Text.assemble(("warning: ", "bold yellow"), message))

    def step(self, step: int, metrics: Mapping[str, float], records: Sequence[GroupRecord]) -> None:
        """Show a step's numbers, and every so often a completion with its question. Its evaluation comes after it."""
        note = step_note(metrics)
        self.loaded()
        self.progress.update(self.task, completed=step, note=note)
        if not self.live:
            self.console.print(f"step {step}/{self.max_steps}  {note}", highlight=False, soft_wrap=True)
        if self.log_completions_steps and step % self.log_completions_steps == 0 and records:
            self.console.print(completion_panel(records[step % len(records)], step))

    def alarms(self, alarms: Sequence[Alarm]) -> None:
        """Show alarms of kinds that were not shown before."""
        for alarm in alarms:
            if alarm.kind not in self.warned:
                self.warned.add(alarm.kind)
                self.warn(f"{alarm.kind}: {alarm.says}" + (f" (sample {alarm.sample})" if alarm.sample else ""))


class Bars(Progress):
    """Progress bars, each with its note on the line below it, so that neither cuts the other."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bars that are shown, each with its note."""
        for task in self.tasks:
            if task.visible:
                yield self.make_tasks_table([task])
                if note := task.fields["note"]:
                    yield Text(f"  {note}", no_wrap=True, overflow="ellipsis", style="dim")


class Phase:
    """One progress bar: `advance` it, with a note below it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task, self.note = progress, task, ""

    def advance(self, by: int, note: str = "") -> None:
        """Count `by` more items as done."""
        self.note = note
        self.progress.update(self.task, advance=by, note=note)


def step_note(metrics: Mapping[str, float]) -> str:
    """A step's numbers in one line: the sum of rewards, accuracy, length, loss, and the mean of each other reward.

    >>> step_note({"reward": 1.25, "rewards/accuracy/mean": 0.5, "rewards/./short.py:short/mean": 0.75})
    'reward 1.25  accuracy 0.5  short 0.75'
    """
    rewards = {key: match[1].rpartition(":")[2] for key in metrics if (match := REWARD_KEY.fullmatch(key))}
    names = SHOWN | {key: name for key, name in rewards.items() if key not in SHOWN}
    return "  ".join(f"{name} {metrics[key]:.3g}" for key, name in names.items() if key in metrics)


def completion_panel(record: GroupRecord, step: int) -> Panel:
    """A question, its first completion and its scores. Brackets in the model's text are not read as markup."""
    scores = "  ".join(f"{name} {column[0]:g}" for name, column in record.columns.items() if column[0] is not None)
    text = Text.assemble(
        (record.question.split("\n Output")[0] + "\n\n", "dim"),
        (record.completions[0] + "\n\n", ""),
        (f"answer {record.answers[0]}, correct {record.gold}   {scores}", "bold"),
    )
    return Panel(text, title=f"step {step}, sample {record.id}", title_align="left")
