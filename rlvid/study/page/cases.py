"""The data of the page's case browser: all questions, all answers, and the clips of disputed questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import zip_longest
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track

from rlvid.config import load
from rlvid.data.kitchen import encode_mp4
from rlvid.data.prompts import held_out_prompts
from rlvid.errors import UserError
from rlvid.policy.architecture import image_factor
from rlvid.study.cases import is_coherent, reply_text
from rlvid.study.page.attention import data_uri
from rlvid.study.runs import Row, Run
from rlvid.study.study import Study
from rlvid.types import Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.read import BadVideo
from rlvid.video.views import Clip

QuestionKey = tuple[str, str]  # level and id
Answers = Mapping[QuestionKey, Row]  # of one run

QUESTIONS_PER_CHUNK = 100  # whose texts are unpacked at the same time
MAX_STEMS = 5  # beginnings that questions share
STEM_SHARE = 20
MIN_STEM = 40  # characters
MAX_CLIPS = 60  # of the most disputed questions
MISSING, NO_ANSWER = " ", "-"  # marks in the index; page.js knows them too


def case_data(study: Study) -> dict[str, Any]:
    """Return the data of the browser, in parts that the page unpacks when it needs them; {} without a question.

    Returns:
        index: runs with a character per question, questions, names of columns, and which questions have clips.
        texts-N: options and completions of the N-th `QUESTIONS_PER_CHUNK` questions.
        column-N: (runs, questions) values of the N-th column that can be filtered.
        clip-N: video and image of question N.
    """
    runs = list({run.folder: run for run in study.runs if run.answers}.values())
    questions = [(level, id) for level, ids in study.levels.items() for id in ids]
    if not questions:
        return {}
    answers = [_answers_by_question(run) for run in runs]
    keys = {key for of_run in answers for row in of_run.values() for key in row}
    columns = [*sorted(key for key in keys if key.startswith("rewards/")), "length"]
    clips, clip_problem = _read_clips(study, runs[0], disputed_questions(questions, answers))
    some_answer = [next(of_run[question] for of_run in answers if question in of_run) for question in questions]
    stems = common_stems([row.get("question", "") for row in some_answer])
    index = {
        "runs": [{"name": _run_name(run), **_marks(questions, row)} for run, row in zip(runs, answers, strict=True)],
        "questions": [_question(level, row, stems) for (level, _), row in zip(questions, some_answer, strict=True)],
        "stems": stems,
        "columns": [column.removeprefix("rewards/") for column in columns],
        "clips": list(clips),
        "clip_problem": clip_problem,
        "questions_per_chunk": QUESTIONS_PER_CHUNK,
    }
    values = {
        f"column-{number}": [[_value(of_run.get(question), column) for question in questions] for of_run in answers]
        for number, column in enumerate(columns)
    }
    clip_parts = {f"clip-{number}": clip for number, clip in clips.items()}
    return {"index": index, **_text_chunks(questions, answers), **values, **clip_parts}


def disputed_questions(questions: Sequence[QuestionKey], answers: Sequence[Answers]) -> list[int]:
    """Return the indices of the questions that some runs answered right and others wrong.

    The most evenly disputed ones come first, from each level in turn.
    """
    by_level: dict[str, list[tuple[float, int]]] = {}  # level -> (distance of the accuracy from 1/2, index)
    for index, question in enumerate(questions):
        correct = [bool(of_run[question]["correct"]) for of_run in answers if question in of_run]
        if any(correct) and not all(correct):
            accuracy = sum(correct) / len(correct)
            by_level.setdefault(question[0], []).append((abs(accuracy - 0.5), index))
    turns = zip_longest(*(sorted(level) for level in by_level.values()))
    return [entry[1] for turn in turns for entry in turn if entry]


def _answers_by_question(run: Run) -> Answers:
    return {(level, id): row for level, rows in run.answers.items() for id, row in rows.items()}


def _run_name(run: Run) -> str:
    return f"{run.arm}, seed {run.seed}"


def common_stems(questions: Sequence[str]) -> list[str]:
    """Return the beginnings, in whole words, that many questions share, the longest first.

    A beginning has at least `MIN_STEM` characters and begins at least one question in `STEM_SHARE`; it is as long as
    half of the questions that share it allow, and never a whole question.

    >>> common_stems([f"Considering the progress, what is next to {act}?" for act in ("make soup", "wash up", "eat")])
    ['Considering the progress, what is next to ']
    """
    stems: list[str] = []
    left = list(questions)
    while len(stems) < MAX_STEMS and left:
        stem, sharing = "", left
        while True:
            words = Counter(match[0] for one in sharing if (match := re.match(r"\S+\s+", one[len(stem) :])))
            word, count = max(words.items(), key=lambda item: item[1], default=("", 0))
            if count < max(2, len(questions) / STEM_SHARE, len(sharing) / 2 if stem else 0):
                break
            stem += word
            sharing = [one for one in sharing if one.startswith(stem)]
        if not stem:
            break
        if len(stem) >= MIN_STEM:
            stems.append(stem)
        left = [one for one in left if not one.startswith(stem)]
    return sorted(stems, key=len, reverse=True)


def _question(level: str, row: Row, stems: Sequence[str]) -> dict[str, Any]:
    text = row.get("question", "")
    return {
        "id": row["id"],
        "level": level,
        "domain": row.get("domain", ""),
        "gold": row["gold"],
        "question": text,
        "cut": next((len(stem) for stem in stems if text.startswith(stem)), 0),  # characters that its stem takes
    }


def _marks(questions: Sequence[QuestionKey], answers: Answers) -> dict[str, str]:
    """Return a run's answer, correctness and coherence as strings with one character per question.

    Answers are letters; the others are "1", "0" or `MISSING`.
    """
    rows = [answers.get(question) for question in questions]
    letters = (MISSING if row is None else str(row.get("answer") or NO_ANSWER)[0] for row in rows)
    correct = (_flag_mark(None if row is None else bool(row["correct"])) for row in rows)
    coherent = (_flag_mark(None if row is None else is_coherent(row)) for row in rows)
    return {"answers": "".join(letters), "correct": "".join(correct), "coherent": "".join(coherent)}


def _flag_mark(flag: bool | None) -> str:
    return MISSING if flag is None else "01"[flag]


def _value(row: Row | None, column: str) -> float | None:
    value = row.get(column) if row else None
    return None if value is None else round(float(value), 3)


def _text_chunks(questions: Sequence[QuestionKey], answers: Sequence[Answers]) -> dict[str, Any]:
    """Return the chunks `texts-N`, while a progress bar shows on a terminal."""
    starts = range(0, len(questions), QUESTIONS_PER_CHUNK)
    console = Console(stderr=True)
    progress = track(starts, "cases", console=console, transient=True, disable=not console.is_terminal)
    return {
        f"texts-{number}": [_texts(question, answers) for question in questions[start : start + QUESTIONS_PER_CHUNK]]
        for number, start in enumerate(progress)
    }


def _texts(question: QuestionKey, answers: Sequence[Answers]) -> dict[str, Any]:
    """Return the options of a question, and each run's completion or None."""
    rows = [of_run.get(question) for of_run in answers]
    options: list[str] = next((row["options"] for row in rows if row and "options" in row), [])
    return {"options": options, "completions": [row and _completion(row) for row in rows]}


def _completion(row: Row) -> dict[str, Any]:
    """Return text and rewards of a completion; of a clip that could not be read, a note."""
    rewards = {key.removeprefix("rewards/"): value for key, value in row.items() if key.startswith("rewards/")}
    rounded = {name: round(value, 3) for name, value in rewards.items() if value is not None}
    return {"text": reply_text(row), "rewards": rounded}


def _read_clips(study: Study, run: Run, wanted: Sequence[int]) -> tuple[dict[int, dict[str, str]], str]:
    """Read the first `MAX_CLIPS` wanted clips as a run reads them.

    Returns:
        Index of the question -> data URIs of its clip; and what went wrong, in words.
    """
    if not (run.folder / "config.toml").is_file():
        return {}, "no clips: only a config.toml would name the benchmark"  # logs of another tool have none
    try:
        config = load(run.folder / "config.toml")
        levels = held_out_prompts(config.data, config.eval.splits, config.eval.transfer, config.eval.limit)
        frames = FrameCache(config.video, image_factor(config.model))
    except UserError as error:
        return {}, f"no clips: {error}"
    prompts: list[Prompt | None] = []  # of all questions
    for level, ids in study.levels.items():
        by_id = {prompt.id: prompt for prompt in levels.get(level, ())}
        prompts += [by_id.get(id) for id in ids]
    clips: dict[int, dict[str, str]] = {}
    unreadable = 0
    for index in wanted[:MAX_CLIPS]:
        prompt = prompts[index]
        if prompt is None:
            continue
        try:
            clips[index] = _encode_clip(frames(prompt))
        except BadVideo:
            unreadable += 1
    frames.close()
    return clips, f"{unreadable} clips could not be read" if unreadable else ""


def _encode_clip(clip: Clip) -> dict[str, str]:
    """Return data URIs: "video" as MP4 and "image" as PNG, if the clip has them."""
    uris = {}
    if clip.video is not None:
        video = BytesIO()
        encode_mp4(clip.video, video)
        uris["video"] = data_uri(video.getvalue(), "video/mp4")
    if clip.image is not None:
        image = BytesIO()
        Image.fromarray(clip.image).save(image, "PNG")
        uris["image"] = data_uri(image.getvalue(), "image/png")
    return uris
