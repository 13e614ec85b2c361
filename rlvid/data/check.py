"""Is a benchmark whole? Every record read, every clip and picture decoded, every answer sought where it must not be.

malformed record    no JSON, a field missing or of the wrong kind, a path that leads out of the folder
duplicate id        two records of one sample in one file
missing media       a clip or picture that is not there, or is empty
undecodable media   one that its reader refuses, dies of, or does not come back from
answer leak         the right option's words in the question and no other's, or the last thing narrated
option collision    an option whose text a reply could not be told from another's
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from rlvid.answer import LETTERS, parse
from rlvid.config import VideoConfig
from rlvid.data import benchmark
from rlvid.data.records import Source, read, repeated
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.utils.text import plain_words, same_text
from rlvid.video.decode import Decoder, FrameReader
from rlvid.video.read import BadVideo, ReaderError, check_file, read_image, read_with_decord, read_with_pyav

SHOWN = 20  # problems of each kind that are printed; all are counted
TIMEOUT = 30.0  # seconds that a file may take to decode


@dataclass(frozen=True)
class Problem:
    """Something wrong, and where."""

    kind: str
    says: str  # begins with file:line


@dataclass
class Findings:
    """What a benchmark holds and what is wrong with it."""

    levels: Counter[str] = field(default_factory=Counter)  # level -> questions
    media: dict[str, dict[str, str]] = field(default_factory=lambda: {"videos": {}, "images": {}})  # path -> where
    problems: list[Problem] = field(default_factory=list)

    def found(self, kind: str, says: str) -> None:
        """Note a problem; what a record says is printed as one line, whatever it holds."""
        self.problems.append(
            Problem(kind, "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in says))
        )


def check(name: str, console: Console | None = None) -> int:
    """Check a benchmark, print what is wrong and how much of it; returns how many problems there are.

    A folder that is here is meant before an embedded benchmark of its name.
    """
    console = console or Console()
    name = f"./{name}" if name in benchmark.EMBEDDED and Path(name).is_dir() else name
    findings = examine(name)
    shown: Counter[str] = Counter()
    for problem in findings.problems:
        shown[problem.kind] += 1
        if shown[problem.kind] <= SHOWN:
            console.print(f"{problem.kind}: {problem.says}", markup=False, highlight=False, soft_wrap=True)
    for kind, count in shown.items():
        if count > SHOWN:
            console.print(f"{kind}: and {count - SHOWN} more", highlight=False)
    console.print(table(findings))
    console.print(f"checked {benchmark.root(name).resolve()}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        "The questions, clips and pictures are their owners': read their licences before you use or pass on any.",
        soft_wrap=True,
    )
    return len(findings.problems)


def examine(name: str) -> Findings:
    """Read every record and decode every file of a benchmark, each file once, on all cores."""
    findings = Findings()
    for source in benchmark.sources(name).values():
        _records(source, findings)
    for kind, readers in (("videos", (_clip_by(read_with_decord), _clip_by(read_with_pyav))), ("images", (_picture,))):
        _media(findings, kind, readers)
    return findings


def table(findings: Findings) -> Table:
    """Questions by level, media, and problems by kind."""
    rows = Table("what", "how many", box=None, pad_edge=False)
    for level, count in findings.levels.items():
        rows.add_row(f"questions, {level}", f"{count:,}")
    for kind, media in findings.media.items():
        rows.add_row(kind, f"{len(media):,}")
    counts = Counter(problem.kind for problem in findings.problems)
    for kind, count in counts.items():
        rows.add_row(kind, f"{count:,}", style="bold red")
    if not counts:
        rows.add_row("problems", "none", style="bold green")
    return rows


def wrong_with(prompt: Prompt) -> Iterator[tuple[str, str]]:
    """The kinds of problems that a question's own words show, and what they are."""
    for letter, option in zip(LETTERS, prompt.options, strict=False):
        if parse(f"<answer>{option}</answer>", prompt.options) != letter:
            yield "option collision", f"a reply of {option!r} would not be understood as {letter} alone"
    if prompt.answer is None or not prompt.options:
        return
    right = prompt.options[LETTERS.index(prompt.answer)]
    mentioned = [option for option in prompt.options if _holds(prompt.question, option)]
    if mentioned == [right]:
        yield "answer leak", f"the question holds the right option and no other: {right!r}"
    if prompt.narrations and same_text(prompt.narrations[-1], right):
        yield "answer leak", f"the last narration is the right option: {right!r}"


def _holds(text: str, option: str) -> bool:
    """Whether a text holds an option's words, one after another."""
    return f" {' '.join(plain_words(option))} " in f" {' '.join(plain_words(text))} "


def _records(source: Source, findings: Findings) -> None:
    ids: set[str] = set()
    for record in read(source.file, source.root):
        if isinstance(record, UserError):
            findings.found("malformed record", str(record))
            continue
        try:
            prompt = source.prompt(record)
        except UserError as error:
            findings.found("malformed record", str(error))
            continue
        if prompt is None:
            continue
        if prompt.id in ids:
            findings.found("duplicate id", str(repeated(record, source.key, prompt)))
        ids.add(prompt.id)
        findings.levels[prompt.level] += 1
        for kind, says in wrong_with(prompt):
            findings.found(kind, f"{record.where}: {says}")
        for kind, path in (("videos", prompt.video), ("images", prompt.image)):
            if path:
                findings.media[kind].setdefault(path, record.where)


def _media(findings: Findings, kind: str, readers: Sequence[FrameReader]) -> None:
    """Decode all of a kind in parallel; what is not there is not tried."""
    where, there = findings.media[kind], []
    for path in where:
        try:
            check_file("", path)
            there.append(path)
        except BadVideo as error:
            findings.found("missing media", f"{where[path]}: {path}: {error.reason}")
    decoder = Decoder(VideoConfig(decode_workers=os.cpu_count() or 1, decode_timeout=TIMEOUT), tuple(readers))
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"decoding {kind}", total=len(there))
        for path, answer in decoder.decode((path, path) for path in there):
            progress.advance(task)
            if isinstance(answer, BadVideo):
                findings.found("undecodable media", f"{where[path]}: {path}: {answer.reason}")
    decoder.close()


def _clip_by(reader: FrameReader) -> FrameReader:
    return partial(_decodes, reader)


def _decodes(reader: FrameReader, path: str, video: VideoConfig) -> np.ndarray:
    """Nothing, once a reader has read the file: the frames need not leave the process."""
    reader(path, video)
    return np.empty(0)


def _picture(path: str, video: VideoConfig) -> np.ndarray:
    try:
        read_image("", path)
    except BadVideo as error:
        raise ReaderError(error.reason) from error
    return np.empty(0)
