"""Check a benchmark: read every record, decode every video and image, and look for answers that are given away.

The kinds of problems:

    unreadable file     an annotation file that is not there, may not be read, or is outside of the benchmark's folder
    malformed record    not JSON, a field that is missing or of the wrong type, a path out of the folder
    duplicate id        two records of one sample in one file, or in one level of several files
    missing media       a video or image that is not there or is empty
    undecodable media   a file that its reader rejects, crashes on, or does not finish in time
    variable frame rate a film of which records show parts, whose frames are not where a constant frame rate has them
    answer leak         the question holds the words of the right option and of no other one, or the last narration is
                        the right option
    option collision    a reply with the text of an option would not be parsed as this option alone

Problems of whole levels are in check_levels.py; what training and evaluation share is in contamination.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from rlvid.data.check_levels import TRAINING, level_problems, missing_levels
from rlvid.data.contamination import Located, contamination
from rlvid.data.records import (
    AnnotationFile,
    AnnotationRecord,
    UnreadableFile,
    duplicate_error,
    read_records_or_errors,
)
from rlvid.data.seed_bench_r1 import PUBLISHED_LEVELS
from rlvid.errors import UserError
from rlvid.types import Prompt
from rlvid.utils.text import plain_words, same_text
from rlvid.video.decode import Decoder, FrameReader
from rlvid.video.read import (
    BadVideo,
    Frames,
    ReaderError,
    check_file,
    frame_rate_drift,
    read_image,
    read_with_decord,
    read_with_pyav,
    split_time_span,
)

MAX_SHOWN = 20  # problems of each kind that are printed; all are counted
DECODE_TIMEOUT = 30.0  # seconds that a file may take to decode
MAX_DRIFT = 0.5  # seconds between a frame and its place at a constant rate
VARIABLE_RATE = "its frame rate varies"
NO_FRAMES = Frames(np.empty(0), None)


@dataclass(frozen=True)
class Problem:
    """One problem. Its message begins with FILE:LINE."""

    kind: str
    message: str


@dataclass
class Findings:
    """What a benchmark holds, and the problems with it."""

    levels: Counter[str] = field(default_factory=Counter)  # level -> number of questions
    videos: dict[str, str] = field(default_factory=dict)  # path -> FILE:LINE of the first record that names it
    images: dict[str, str] = field(default_factory=dict)  # as `videos`
    questions: list[Located] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, message: str) -> None:
        """Add a problem. Characters that are not printable, such as line breaks, are replaced."""
        printable = [char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in message]
        self.problems.append(Problem(kind, "".join(printable)))


def check_benchmark(name: str, against: Sequence[str] = ()) -> int:
    """Check a benchmark and print its problems and a table of counts; return the number of problems.

    A folder in the working directory has priority over an embedded benchmark of the same name. `against` are other
    benchmarks for evaluation: what they share with this one's training questions is a problem, too.
    """
    console = Console()
    name = f"./{name}" if name in benchmark.EMBEDDED and Path(name).is_dir() else name
    findings = find_problems(name, against)
    shown: Counter[str] = Counter()
    for problem in findings.problems:
        shown[problem.kind] += 1
        if shown[problem.kind] <= MAX_SHOWN:
            console.print(f"{problem.kind}: {problem.message}", markup=False, highlight=False, soft_wrap=True)
    for kind, count in shown.items():
        if count > MAX_SHOWN:
            console.print(f"{kind}: and {count - MAX_SHOWN} more", highlight=False)
    console.print(findings_table(findings))
    console.print(f"checked {benchmark.root(name).resolve()}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        "Questions, videos and images belong to their owners: read their licences before you use or share them.",
        soft_wrap=True,
    )
    return len(findings.problems)


def find_problems(name: str, against: Sequence[str] = ()) -> Findings:
    """Read every record of a benchmark, and decode each of its files once, on all cores; see `check_benchmark`."""
    findings = Findings()
    files = benchmark.annotation_files(name)
    seen: set[tuple[str, str]] = set()
    for file in files.values():
        _check_records(file, findings, seen if "questions" in files else set())  # train_cot repeats ids of train
    problems = missing_levels(list(files), () if "questions" in files else PUBLISHED_LEVELS)
    for kind, message in (*problems, *level_problems(findings.questions)):
        findings.add(kind, message)
    training = [question for question in findings.questions if question.prompt.level == TRAINING]
    if against and not training:
        raise UserError(f"{name} has no training questions, the level {TRAINING!r}: nothing to compare with others")
    for other in against:
        held_out = [Located(p, f"{other}: {p.id}") for level in benchmark.load_levels(other).values() for p in level]
        for kind, message in contamination(training, held_out):
            findings.add(kind, message)
    video_readers = [partial(_decode_only, reader) for reader in (read_with_decord, read_with_pyav)]
    _check_media("videos", findings.videos, video_readers, findings)
    _check_frame_rates(findings)
    _check_media("images", findings.images, [_read_image_only], findings)
    return findings


def findings_table(findings: Findings) -> Table:
    """Return a table of counts: questions by level, videos, images, and problems by kind."""
    table = Table("what", "count", box=None, pad_edge=False)
    for level, count in findings.levels.items():
        table.add_row(f"questions, {level}", f"{count:,}")
    table.add_row("videos", f"{len(findings.videos):,}")
    table.add_row("images", f"{len(findings.images):,}")
    problems = Counter(problem.kind for problem in findings.problems)
    for kind, count in problems.items():
        table.add_row(kind, f"{count:,}", style="bold red")
    if not problems:
        table.add_row("problems", "none", style="bold green")
    return table


def prompt_problems(prompt: Prompt) -> Iterator[tuple[str, str]]:
    """Yield the problems with a question's texts, as (kind, message)."""
    for letter, option in zip(LETTERS, prompt.options, strict=False):
        if parse(f"<answer>{option}</answer>", prompt.options) != letter:
            yield "option collision", f"a reply {option!r} would not be parsed as {letter} alone; reword the option"
    if prompt.right_option is None:
        return
    correct = prompt.options[prompt.right_option]
    mentioned = [option for option in prompt.options if _contains_words(prompt.question, option)]
    if mentioned == [correct]:
        yield "answer leak", f"the question holds the right option and no other one: {correct!r}"
    if prompt.narrations and same_text(prompt.narrations[-1], correct):
        yield "answer leak", f"the last narration is the right option: {correct!r}"


def _contains_words(text: str, option: str) -> bool:
    """Return whether a text contains the words of an option, one after another."""
    return f" {' '.join(plain_words(option))} " in f" {' '.join(plain_words(text))} "


def _check_records(file: AnnotationFile, findings: Findings, seen: set[tuple[str, str]]) -> None:
    """Add the problems with the records of a file, the number of questions, and the media that they name.

    `seen` holds the (level, id) of the records of earlier files; those of this one are added.
    """
    ids: set[str] = set()
    before = findings.levels.total() + len(findings.problems)
    for record in read_records_or_errors(file.path, file.root):
        if isinstance(record, UserError):
            kind = "unreadable file" if isinstance(record, UnreadableFile) else "malformed record"
            findings.add(kind, str(record))
            continue
        try:
            prompt = file.to_prompt(record)
        except UserError as error:
            findings.add("malformed record", str(error))
            continue
        if prompt is None:
            continue
        if prompt.id in ids or (prompt.level, prompt.id) in seen:
            findings.add("duplicate id", str(duplicate_error(record, file.id_field, prompt.id)))
        ids.add(prompt.id)
        seen.add((prompt.level, prompt.id))
        _check_prompt(prompt, record, findings)
    if findings.levels.total() + len(findings.problems) == before:
        findings.add("empty file", f"{file.path}: holds no record")


def _check_prompt(prompt: Prompt, record: AnnotationRecord, findings: Findings) -> None:
    findings.levels[prompt.level] += 1
    findings.questions.append(Located(prompt, record.where))
    for kind, message in prompt_problems(prompt):
        findings.add(kind, f"{record.where}: {message}")
    if prompt.video:
        findings.videos.setdefault(prompt.video, record.where)
    if prompt.image:
        findings.images.setdefault(prompt.image, record.where)


def _check_media(kind: str, origins: Mapping[str, str], readers: Sequence[FrameReader], findings: Findings) -> None:
    """Decode files in parallel and add the problems; a file that is missing is not decoded.

    Args:
        kind: "videos" or "images", for the progress bar.
        origins: path -> FILE:LINE of the record that names it.
        readers: tried one after another until one can read the file.
        findings: where problems are added.
    """
    existing = []
    for path, where in origins.items():
        try:
            check_file("", path)
            existing.append(path)
        except BadVideo as error:
            findings.add("missing media", f"{where}: {path}: {error.reason}")
    decoder = Decoder(VideoConfig(decode_workers=os.cpu_count() or 1, decode_timeout=DECODE_TIMEOUT), tuple(readers))
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"decoding {kind}", total=len(existing))
        for path, result in decoder.decode((path, path) for path in existing):
            progress.advance(task)
            if isinstance(result, BadVideo):
                findings.add("undecodable media", f"{origins[path]}: {path}: {result.reason}")
    decoder.close()


def _check_frame_rates(findings: Findings) -> None:
    """Add films that are shown in parts and whose frame rate varies: a part would hold frames of other seconds."""
    named = ((split_time_span(path)[0], path, where) for path, where in findings.videos.items())
    films = {film: where for film, path, where in named if film != path and Path(film).is_file()}
    decoder = Decoder(VideoConfig(decode_timeout=DECODE_TIMEOUT), (_refuse_variable_rate,))
    for film, result in decoder.decode((film, film) for film in films):
        if isinstance(result, BadVideo) and VARIABLE_RATE in result.reason:  # others are undecodable media already
            findings.add("variable frame rate", f"{films[film]}: {film}: {result.reason}")
    decoder.close()


def _refuse_variable_rate(path: str, video: VideoConfig) -> Frames:
    """Return no frames. Raises ReaderError for a file whose frame rate varies too much for time spans."""
    if (drift := frame_rate_drift(path)) > MAX_DRIFT:
        raise ReaderError(
            f"{VARIABLE_RATE}: a frame is {drift:.1f} s from where a constant rate has it, and the parts that records "
            "name are cut by a constant rate; encode it again with one"
        )
    return NO_FRAMES


def _decode_only(reader: FrameReader, path: str, video: VideoConfig) -> Frames:
    """Read a file and return no frames, so that they need not be sent from the decoding process."""
    reader(path, video)
    return NO_FRAMES


def _read_image_only(path: str, video: VideoConfig) -> Frames:
    """Read an image and return no pixels. Raises ReaderError if it cannot be read."""
    try:
        read_image("", path)
    except BadVideo as error:
        raise ReaderError(error.reason) from error
    return NO_FRAMES
