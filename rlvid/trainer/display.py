"""What a person sees while a run goes on: a bar with the time left, the step's numbers, now and then a completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
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

from rlvid.trainer.metrics import GroupRecord
from rlvid.trainer.run_folder import Run

SHOWN = {"reward": "reward", "rewards/accuracy/mean": "accuracy", "completions/mean_length": "length", "loss": "loss"}


class Display:
    """rich on a terminal, plain lines elsewhere, silence in all processes but the main one."""

    def __init__(self, run: Run) -> None:
        self.run, self.every = run, run.config.train.log_completions_steps
        self.warned: set[str] = set()  # a kind of alarm is shown once; alarms.jsonl has them all
        self.console = Console(stderr=True, quiet=not run.main)
        self.live = run.main and self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.live,
        )

    def __enter__(self) -> Display:
        self.progress.start()
        self.task = self.progress.add_task(f"loading {self.run.config.model}", total=None, note="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def loaded(self) -> None:
        """From now on the first bar is that of the steps, if there are any."""
        steps = self.run.config.train.max_steps
        self.progress.update(self.task, description="train", total=steps, visible=steps > 0)

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        """A bar of its own for one piece of work, such as a level's evaluation."""
        self.loaded()
        task = self.progress.add_task(name, total=total, note="")
        phase = Phase(self.progress, task)
        yield phase
        self.progress.remove_task(task)
        if not self.live:
            self.console.print(f"{name}: {total} {phase.note}".rstrip(), highlight=False)

    def results(self, table: Table | None) -> None:
        """What the evaluation came to, on standard output."""
        if self.run.main and table is not None:
            self.progress.stop()
            Console().print(table)

    def warn(self, message: str) -> None:
        """Something that the user should know before it costs an hour."""
        self.console.print(Text.assemble(("warning: ", "bold yellow"), message))

    def step(self, step: int, metrics: Mapping[str, float], records: Sequence[GroupRecord]) -> None:
        """Show a step's numbers, and every so often a completion beside its question."""
        note = "  ".join(f"{name} {metrics[key]:.3g}" for key, name in SHOWN.items() if key in metrics)
        self.loaded()
        self.progress.update(self.task, completed=step, note=note)
        if not self.live:
            self.console.print(f"step {step}/{self.run.config.train.max_steps}  {note}", highlight=False)
        for alarm in self.run.alarms:
            if alarm.kind not in self.warned:
                self.warned.add(alarm.kind)
                self.warn(f"{alarm.kind}: {alarm.says}" + (f" (sample {alarm.sample})" if alarm.sample else ""))
        if self.every and step % self.every == 0 and records:
            self.console.print(completion(records[step % len(records)], step))


class Phase:
    """One bar: `advance` it, and say something beside it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task, self.note = progress, task, ""

    def advance(self, by: int, note: str = "") -> None:
        """So many more are done."""
        self.note = note
        self.progress.update(self.task, advance=by, note=note)


def completion(record: GroupRecord, step: int) -> Panel:
    """A question, one reply to it and its scores; the model's own brackets are never read as markup."""
    scores = "  ".join(f"{k} {v[0]:g}" for k, v in record.columns.items() if v[0] is not None)
    text = Text.assemble(
        (record.question.split("\n Output")[0] + "\n\n", "dim"),
        (record.completions[0] + "\n\n", ""),
        (f"answered {record.answers[0]}, right is {record.gold}   {scores}", "bold"),
    )
    return Panel(text, title=f"step {step}, sample {record.id}", title_align="left")
