"""Every question with what every run answered, for the page's browser; and clips of those on which runs disagree."""

from __future__ import annotations

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
from rlvid.study.cases import coherent
from rlvid.study.page.gaze import uri
from rlvid.study.runs import Row, Run
from rlvid.study.study import Study
from rlvid.video.cache import FrameCache
from rlvid.video.read import BadVideo
from rlvid.video.views import Clip

TOGETHER = 100  # questions whose texts are unpacked at once
CLIPS = 60  # of so many questions, those on which runs disagree most
NOT_ASKED, NO_ANSWER = " ", "-"


def gathered(study: Study) -> dict[str, Any]:
    """`index`: questions, and each run's letters; `texts-N`: options and replies, some questions each; `clips`.

    `column-N`: (runs, questions) values of what can be filtered by, unpacked when that is asked for.
    """
    runs = {result.folder: result for result in study.runs if result.answers}
    asked = [(level, id) for level, ids in study.levels.items() for id in ids]
    if not asked:
        return {}
    rows = [{(level, id): row for level, of in run.answers.items() for id, row in of.items()} for run in runs.values()]
    first = [next(of[key] for of in rows if key in of) for key in asked]
    clips, why = _clips(study, list(runs.values()), disputed(asked, rows))
    columns = sorted({key for of in rows for row in of.values() for key in row if key.startswith("rewards/")})
    columns += ["length"]
    index = {
        "runs": [{"name": name(run), **_marks(asked, of)} for run, of in zip(runs.values(), rows, strict=True)],
        "questions": [_question(level, row) for (level, _), row in zip(asked, first, strict=True)],
        "columns": [column.removeprefix("rewards/") for column in columns],
        "clips": list(clips),
        "why": why,
        "together": TOGETHER,
    }
    console = Console(stderr=True)
    chunks = [asked[i : i + TOGETHER] for i in range(0, len(asked), TOGETHER)]
    shown = track(chunks, "cases", console=console, transient=True, disable=not console.is_terminal)
    texts = {f"texts-{i}": [_texts(key, rows) for key in keys] for i, keys in enumerate(shown)}
    values = {f"column-{n}": [[_value(of.get(key), c) for key in asked] for of in rows] for n, c in enumerate(columns)}
    return {"index": index, **texts, **values, **{f"clip-{place}": clip for place, clip in clips.items()}}


def name(run: Run) -> str:
    """A run among the page's."""
    return f"{run.arm}, seed {run.seed}"


def disputed(asked: Sequence[tuple[str, str]], rows: Sequence[Mapping[tuple[str, str], Row]]) -> list[int]:
    """The places of questions that runs answered both rightly and wrongly, by how evenly, the levels in turn."""
    levels: dict[str, list[tuple[float, int]]] = {}
    for place, key in enumerate(asked):
        right = [bool(of[key]["correct"]) for of in rows if key in of]
        if 0 < sum(right) < len(right):
            levels.setdefault(key[0], []).append((abs(sum(right) / len(right) - 0.5), place))
    turns = zip_longest(*(sorted(found) for found in levels.values()))
    return [one[1] for turn in turns for one in turn if one]


def _question(level: str, row: Row) -> dict[str, Any]:
    about = {"id": row["id"], "level": level, "domain": row.get("domain", ""), "gold": row["gold"]}
    return about | {"question": row.get("question", "")}


def _marks(asked: Sequence[tuple[str, str]], of: Mapping[tuple[str, str], Row]) -> dict[str, str]:
    """A letter, right or wrong, and whether the reasoning leads there, for each question in turn."""
    found = [of.get(key) for key in asked]
    said = (NOT_ASKED if row is None else str(row.get("answer") or NO_ANSWER)[0] for row in found)
    right = (NOT_ASKED if row is None else "01"[bool(row["correct"])] for row in found)
    leads = (None if row is None else coherent(row) for row in found)
    sound = (NOT_ASKED if lead is None else "01"[bool(lead)] for lead in leads)
    return {"said": "".join(said), "right": "".join(right), "coherent": "".join(sound)}


def _value(row: Row | None, column: str) -> float | None:
    value = row.get(column) if row else None
    return None if value is None else round(float(value), 3)


def _texts(key: tuple[str, str], rows: Sequence[Mapping[tuple[str, str], Row]]) -> dict[str, Any]:
    found = [of.get(key) for of in rows]
    options: list[str] = next((row["options"] for row in found if row and "options" in row), [])
    return {"options": options, "replies": [row and _reply(row) for row in found]}


def _reply(row: Row) -> dict[str, Any]:
    earned = {key.removeprefix("rewards/"): v for key, v in row.items() if key.startswith("rewards/")}
    rewards = {key: round(v, 3) for key, v in earned.items() if v is not None}
    return {"text": row.get("completion", row.get("unread", "")), "rewards": rewards}


def _clips(study: Study, runs: Sequence[Run], wanted: Sequence[int]) -> tuple[dict[int, dict[str, str]], str]:
    """Place -> the film and the image that the first run was shown, of the first wanted ones; and what is missing."""
    try:
        config = load(runs[0].folder / "config.toml")
        levels = held_out_prompts(config.data, config.eval.splits, config.eval.transfer, config.eval.limit)
    except UserError as error:
        return {}, f"no clips: {error}"
    prompts = [{p.id: p for p in levels.get(level, ())}.get(id) for level, ids in study.levels.items() for id in ids]
    frames, found, bad = FrameCache(config.video), {}, 0
    for place in wanted[:CLIPS]:
        if prompt := prompts[place]:
            try:
                found[place] = _clip(frames(prompt))
            except BadVideo:
                bad += 1
    frames.close()
    return found, f"{bad} clips could not be read" if bad else ""


def _clip(clip: Clip) -> dict[str, str]:
    shown = {}
    if clip.video is not None:
        film = BytesIO()
        encode_mp4(clip.video, film)
        shown["video"] = uri(film.getvalue(), "video/mp4")
    if clip.image is not None:
        image = BytesIO()
        Image.fromarray(clip.image).save(image, "PNG")
        shown["image"] = uri(image.getvalue(), "image/png")
    return shown
