"""The embedded benchmark "kitchen", in the published layout of SEED-Bench-R1 (arXiv:2503.24376).

    level   kitchens   recipes
    train   seen       known
    L1      seen       known
    L2      unseen     known
    L3      unseen     new, in four domains
    dev     seen       known: other recordings than those of train and L1, to choose settings on

All files depend on the seed alone, byte for byte. `kitchen_world` draws the scenes, `kitchen_view` renders them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from rlvid.answer import LETTERS, format_question
from rlvid.data import kitchen_view as view
from rlvid.data import kitchen_world as world
from rlvid.errors import UserError

VERSION = "5"  # part of the folder's name in the cache
FPS = 2  # the paper samples 2 frames per second, so it takes each of the eight frames
COUNTS = {"train": 1200, "L1": 1000, "L2": 1000, "L3": 1000, "dev": 500}  # level -> records; a new level comes last
SMALL_COUNTS = {"train": 120, "L1": 24, "L2": 24, "L3": 24, "dev": 24}  # of kitchen/small: the first of each level
SKEWED = 0.7  # the share of answers that are the first step of the recipe, on levels with that shortcut
# World -> the levels with the shortcut; "kitchen" is the world "". Both have the same L1, L2 and L3.
WORLDS: dict[str, tuple[str, ...]] = {"": (), "skewed": ("train", "L1", "dev"), "balanced": ("L1",)}
FILES = {"train": "training_6k", "train_cot": "training_with_cot_6k"} | {
    level: f"validation_{level}" for level in ("L1", "L2", "L3", "dev")
}


@dataclass(frozen=True)
class Sample:
    """One record with its pixels. `options` are in the order of their letters."""

    id: int | str
    level: str
    scene: world.Scene
    kitchen: view.Kitchen
    dish: str  # the goal without its recipe
    options: tuple[str, ...]
    clip: np.ndarray | None  # (8, 56, 56, 3) uint8
    observation: np.ndarray  # (56, 56, 3) uint8
    scenario: tuple[str, str] | None = None  # L3: domain and scenario

    @property
    def source(self) -> str:
        """The source that the paper's records of this level come from."""
        return "EpicKitchens" if self.kitchen.seen else "Ego4D"

    @property
    def question(self) -> str:
        """The paper's question about the sample's goal."""
        return world.question_text(self.goal, self.clip is not None)

    @property
    def goal(self) -> str:
        """The dish and its recipe."""
        return world.goal_text(self.dish, self.scene.recipe)

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.options.index(self.scene.answer)]

    @property
    def response(self) -> str:
        """A reasoned answer in the format that the instruction asks for."""
        return f"<think>{self.scene.reasoning}</think><answer>{self.letter}</answer>"

    @property
    def video_path(self) -> str:
        """The path of the clip, relative to the benchmark's folder."""
        return f"videos/{self.source}/{self.level}_{self.id}.mp4"

    @property
    def image_path(self) -> str:
        """The path of the observation, relative to the benchmark's folder."""
        return f"images/{self.source}/{self.level}_{self.id}.png"


def draw_sample(rng: np.random.Generator, level: str, number: int, variant: str = "") -> Sample:
    """Draw and render the `number`-th record of a level: "train", "L1", "L2", "L3" or "dev", in one of the `WORLDS`."""
    kitchens = view.SEEN if level in ("train", "L1", "dev") else view.UNSEEN
    recipes = world.NEW_RECIPES if level == "L3" else world.KNOWN_RECIPES
    scene = world.draw_scene(rng, recipes, first_step=SKEWED if level in WORLDS[variant] else None)
    kitchen = kitchens[rng.integers(len(kitchens))]
    dish, scenario = str(rng.choice(world.DISHES)), None
    if level == "L3":
        domain = tuple(world.DOMAINS)[number % len(world.DOMAINS)]
        scenario_name, dish = world.DOMAINS[domain]
        scenario = (domain, scenario_name)
    return Sample(
        id=f"{kitchen.name}_{number}" if level == "L3" else 10_000 * list(COUNTS).index(level) + number,
        level=level,
        scene=scene,
        kitchen=kitchen,
        dish=dish,
        options=tuple(world.Move(str(item)).narration for item in rng.permutation(scene.recipe)),
        clip=view.render_clip(scene, kitchen, rng) if scene.filmed else None,
        observation=view.render_observation(scene, kitchen, rng),
        scenario=scenario,
    )


def write_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a folder unless it exists. Several processes may do this at the same time.

    The files are written to a temporary folder beside it, which is then renamed.
    """
    folder = Path(folder)
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write(temporary)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # if it is there, another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_empty(folder: Path) -> None:
    """Raise UserError if a path exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; choose a new folder for the kitchen benchmark")


def write(folder: Path, seed: int = 0, counts: dict[str, int] | None = None, variant: str = "") -> None:
    """Write annotations, mp4 clips and png images to a folder.

    Args:
        folder: a new or empty folder; raises UserError if it holds anything.
        seed: decides every byte of the files.
        counts: level -> number of records, instead of those in `COUNTS`.
        variant: one of the `WORLDS`.
    """
    folder = Path(folder)
    check_empty(folder)
    lines: dict[str, list[str]] = {split: [] for split in FILES}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for level, count in progress.track((COUNTS | (counts or {})).items(), description="kitchen"):
            for sample in progress.track(_draw_level(level, count, seed, variant), total=count, description=level):
                _write_media(sample, folder)
                lines[level].append(json.dumps(_record(sample)))
                if level == "train":
                    lines["train_cot"].append(json.dumps(_demonstration(sample)))
    (folder / "annotations").mkdir()
    for split, file in FILES.items():
        (folder / "annotations" / f"{file}.jsonl").write_text("\n".join(lines[split]) + "\n")


def _draw_level(level: str, count: int, seed: int, variant: str) -> Iterator[Sample]:
    for number in range(count):
        yield draw_sample(np.random.default_rng([seed, list(COUNTS).index(level), number]), level, number, variant)


def _record(sample: Sample) -> dict[str, Any]:
    """Return a sample as an annotation with the published fields. Frame numbers count from 0 within the clip.

    A move after the end of the clip has the frames after the last one.
    """
    moves = sample.scene.moves if sample.scene.filmed else ()
    slots = [*view.move_slots(sample.scene), view.CLIP_SLOTS]  # the slot of each move: 2 frames each
    narrations = [
        {"narration_text": move.narration, "start_frame": 2 * slot, "stop_frame": 2 * slot + 1}
        for move, slot in zip(moves, slots, strict=False)
    ]
    record = {
        "sample_id": sample.id,
        "video_source": sample.source,
        "video_id": f"{sample.kitchen.name}_{sample.id}",  # kitchen and recording, as in EPIC-Kitchens
        "video_basename": Path(sample.video_path).name,
        "current_observation_basename": Path(sample.image_path).name,
        "task_goal": sample.goal,
        "question": sample.question,
        "answer": sample.scene.answer,
        "task_start_frame": 0,
        "current_observation_frame": view.FRAMES + 1,
        "task_progress_metadata": narrations,
    }
    if sample.level == "train":
        return record | {"negative_answers": [option for option in sample.options if option != sample.scene.answer]}
    if sample.scenario:
        record["domain"], record["scenario"] = sample.scenario
    choices = {f"choice_{letter.lower()}": option for letter, option in zip(LETTERS, sample.options, strict=False)}
    return record | choices | {"golden_choice_idx": sample.letter}


def _demonstration(sample: Sample) -> dict[str, Any]:
    """Return a sample as a chat with a reasoned reply. Media paths are relative to the benchmark's folder."""
    content = [{"type": "video", "video": sample.video_path}] if sample.clip is not None else []
    content.append({"type": "image", "image": sample.image_path})
    content.append({"type": "text", "text": format_question(sample.question, sample.options)})
    chat = [{"role": "user", "content": content}]
    return {"sample_id": sample.id, "prompt": chat, "response": sample.response}


def _write_media(sample: Sample, folder: Path) -> None:
    video, image = folder / sample.video_path, folder / sample.image_path
    for path in (video, image):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sample.observation).save(image)
    if sample.clip is not None:
        encode_mp4(sample.clip, video)


def encode_mp4(frames: np.ndarray, file: Path | BytesIO) -> None:
    """Write (T, H, W, 3) uint8 frames as an H.264 mp4 of 2 frames per second. The bytes depend on the frames alone."""
    import av  # here, so that other data sets need no PyAV

    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "ultrafast", "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
