"""The embedded benchmark "kitchen_long", for transfer: longer films in the published layout of LongVideoBench.

All films are in kitchens that no training record shows. There are four kinds of questions, named after LongVideoBench's
categories:

    E3E   the next step of a recipe after a moment that the question names; like the questions of "kitchen"
    O3O   which ingredient came right before another one
    SSS   in which order three ingredients came
    T2E   what happens while a sentence is spoken; only the subtitles tell when that is

All files depend on the seed alone, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from rlvid.data import kitchen_view as view
from rlvid.data import kitchen_world as world
from rlvid.data.kitchen import FPS, check_empty, encode_mp4
from rlvid.data.longvideobench import ANNOTATION_FILE

VERSION = "1"  # part of the folder's name in the cache
FILMS = 100  # films of each length; each has two questions: an E3E, and one of the other kinds in turn
SLOTS = 7  # equal parts of a film, with at most one move each
LENGTHS = {15: (4, 2), 60: (6, 8)}  # duration group -> moves, and frames for which an ingredient flies
SENTENCES = (
    "it smells good", "nearly done", "a little salt", "mind the steam", "my favourite part", "slowly now",
    "taste it first", "almost there",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question about a film. The first three wrong options are used."""

    category: str
    text: str
    right: str
    wrong: list[str]


def write(folder: Path, seed: int = 0, films: int = FILMS) -> None:
    """Write lvb_val.json, mp4 films and their subtitles to a folder.

    Args:
        folder: a new or empty folder; raises UserError if it holds anything.
        seed: decides every byte of the files.
        films: the number of films of each length.
    """
    folder = Path(folder)
    check_empty(folder)
    for name in ("videos", "subtitles"):
        (folder / name).mkdir(parents=True)
    records = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        plan = [(group, number) for group in LENGTHS for number in range(films)]
        for group, number in progress.track(plan, description="films"):
            records += _write_film(folder, np.random.default_rng([seed, group, number]), group, number)
    (folder / ANNOTATION_FILE).write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n")


def _write_film(folder: Path, rng: np.random.Generator, group: int, number: int) -> list[dict[str, Any]]:
    """Write the mp4 and the subtitles of a film; return the records of its two questions."""
    moves, hold = LENGTHS[group]
    scene = _draw_scene(rng, moves)
    kitchen = view.UNSEEN[rng.integers(len(view.UNSEEN))]
    busy = sorted(rng.permutation(SLOTS)[:moves].tolist())  # the parts of the film in which a move happens
    sentences = rng.permutation(SENTENCES).tolist()  # one is spoken in each part
    slot_seconds = 2 * hold / FPS
    name = f"{group}s_{number:02}"
    frames = view.render_film(scene, kitchen, rng, busy, SLOTS, hold)
    encode_mp4(frames, folder / "videos" / f"{name}.mp4")
    subtitles = [
        {
            "start": _format_time(slot * slot_seconds),
            "end": _format_time((slot + 1) * slot_seconds),
            "line": sentences[slot],
        }
        for slot in range(SLOTS)
    ]
    (folder / "subtitles" / f"{name}.json").write_text(json.dumps(subtitles))
    next_step, *others = _questions(rng, scene, [sentences[slot] for slot in busy])
    film = {
        "video_id": f"{kitchen.name}_{name}",
        "video_path": f"{name}.mp4",
        "subtitle_path": f"{name}.json",
        "starting_timestamp_for_subtitles": 0,
        "duration": SLOTS * slot_seconds,
        "duration_group": group,
        "topic_category": "kitchen",
    }
    records = []
    for question in (next_step, others[number % len(others)]):
        options = rng.permutation([question.right, *question.wrong[:3]]).tolist()
        records.append(
            {
                "id": f"{name}_{question.category}",
                **film,
                "question_category": question.category,
                "question": question.text,
                "candidates": options,
                "correct_choice": options.index(question.right),
            }
        )
    return records


def _draw_scene(rng: np.random.Generator, count: int) -> world.Scene:
    """Draw a scene in which `count` different ingredients go into the pot.

    The last one is not in the recipe, so the question can name it without excluding an option. As in "kitchen", the
    position of the next step in the recipe is uniform, and any later steps may be done already.
    """
    ingredients = rng.permutation(world.INGREDIENTS).tolist()
    shelf = rng.permutation(world.INGREDIENTS).tolist()
    recipe, others = ingredients[:4], ingredients[4:]
    answer = int(rng.integers(4))  # the index of the next step
    while True:
        later = rng.random(4) < 0.5
        done = [item for step, item in enumerate(recipe) if step < answer or (step > answer and later[step])]
        if len(done) + len(others) >= count:
            break
    last, *fillers = others
    items = rng.permutation([*done, *fillers[: count - len(done) - 1]]).tolist()
    moves = tuple(world.Move(item) for item in (*items, last))
    return world.Scene(tuple(recipe), tuple(shelf), moves, filmed=count, door=None)


def _questions(rng: np.random.Generator, scene: world.Scene, sentences: list[str]) -> Iterator[Question]:
    """Yield one question of each category about a scene; the most plausible wrong options come first.

    Args:
        rng: used in this order; changing the order changes the benchmark.
        scene: the moves of the film.
        sentences: the sentence that is spoken during each move.
    """
    items = [move.item for move in scene.moves]
    narration = {item: world.Move(item).narration for item in world.INGREDIENTS}
    before, during = (int(n) for n in rng.integers([len(items) - 1, len(items)]))

    def other_items(*excluded: str) -> list[str]:
        """Return all other ingredients in random order, first those of the film."""
        not_in_film = [item for item in world.INGREDIENTS if item not in items]
        shuffled = [*rng.permutation(items).tolist(), *rng.permutation(not_in_film).tolist()]
        return [item for item in shuffled if item not in excluded]

    goal = world.goal_text(str(rng.choice(world.DISHES)), scene.recipe)
    yield Question(
        "E3E",
        f"Considering the progress shown in the video, what action should I take after the {items[-1]} "
        f"in order to {goal}?",
        scene.answer,
        [narration[item] for item in rng.permutation(scene.recipe) if narration[item] != scene.answer],
    )

    first, second = items[before : before + 2]
    yield Question(
        "O3O",
        f"Which ingredient goes in the pot right before the {second}?",
        f"the {first}",
        [f"the {item}" for item in other_items(first, second)],
    )

    three = [items[index] for index in sorted(rng.permutation(len(items))[:3])]
    right, *wrong = (", then ".join(order) for order in permutations(three))
    text = f"In which order do the {', the '.join(rng.permutation(three))} go in the pot?"
    yield Question("SSS", text, right, rng.permutation(wrong).tolist())

    yield Question(
        "T2E",
        f'What does the cook do while saying "{sentences[during]}"?',
        narration[items[during]],
        [narration[item] for item in other_items(items[during])],
    )


def _format_time(seconds: float) -> str:
    """Return seconds as HH:MM:SS.mmm."""
    return f"{int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{seconds % 60:06.3f}"
