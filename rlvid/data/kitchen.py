"""The embedded benchmark on disk, in SEED-Bench-R1's published layout (arXiv:2503.24376).

Training and L1 share kitchens and recipes; L2 has unseen kitchens; L3 unseen kitchens and unseen recipes in four
domains. Bytes are a function of the seed alone. `kitchen_world` says what happens, `kitchen_view` how it looks.
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

import av
import numpy as np
from PIL import Image
from rich.progress import Progress

from rlvid.answer import LETTERS, format_question
from rlvid.data import kitchen_view as view
from rlvid.data import kitchen_world as world
from rlvid.errors import UserError

VERSION = "4"
FPS = 2  # so that the paper's sampling, 2 frames a second, takes each of the eight frames
COUNTS = {"train": 1200, "L1": 400, "L2": 320, "L3": 320}
FILES = {"train": "training_6k", "train_cot": "training_with_cot_6k"} | {
    level: f"validation_{level}" for level in ("L1", "L2", "L3")
}


@dataclass(frozen=True)
class Sample:
    """One record with its pixels; `options` stand in the order in which they are lettered."""

    id: int | str
    level: str
    scene: world.Scene
    kitchen: view.Kitchen
    start: str  # the goal without its recipe
    options: tuple[str, ...]
    clip: np.ndarray | None  # (8, 56, 56, 3) uint8
    observation: np.ndarray  # (56, 56, 3) uint8
    scenario: tuple[str, str] | None = None  # L3: domain and scenario

    @property
    def source(self) -> str:
        """Where the paper's record of this level would come from."""
        return "EpicKitchens" if self.kitchen.seen else "Ego4D"

    @property
    def question(self) -> str:
        """The paper's question about this goal."""
        return world.question(world.goal(self.start, self.scene.recipe), self.clip is not None)

    @property
    def letter(self) -> str:
        """The right option's letter."""
        return LETTERS[self.options.index(self.scene.answer)]

    @property
    def response(self) -> str:
        """A reasoned answer in the requested form."""
        return f"<think>{self.scene.reasoning}</think><answer>{self.letter}</answer>"


def sample(rng: np.random.Generator, level: str, number: int) -> Sample:
    """Draw the `number`-th record of "train", "L1", "L2" or "L3" and render it."""
    kitchens = view.SEEN if level in ("train", "L1") else view.UNSEEN
    scene = world.scene(rng, world.NEW_RECIPES if level == "L3" else world.KNOWN_RECIPES)
    kitchen = kitchens[rng.integers(len(kitchens))]
    start, scenario = str(rng.choice(world.DISHES)), None
    if level == "L3":
        domain = tuple(world.DOMAINS)[number % len(world.DOMAINS)]
        name, start = world.DOMAINS[domain]
        scenario = (domain, name)
    return Sample(
        id=f"{kitchen.name}_{number}" if level == "L3" else 10_000 * list(COUNTS).index(level) + number,
        level=level,
        scene=scene,
        kitchen=kitchen,
        start=start,
        options=tuple(world.Move(str(item)).narration for item in rng.permutation(scene.recipe)),
        clip=view.clip(scene, kitchen, rng) if scene.filmed else None,
        observation=view.observation(scene, kitchen, rng),
        scenario=scenario,
    )


def ensure(root: Path, write: Callable[[Path], None]) -> None:
    """Have a benchmark written unless it stands there already; safe when several processes ask at once."""
    root = Path(root)
    if root.exists():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        write(made)
        made.rename(root)
    except OSError:
        if not root.is_dir():  # another process may have finished first
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def empty(root: Path) -> Path:
    """The folder, which must be empty or new."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not an empty folder; name a new one to write the kitchen benchmark to")
    return root


def write(root: Path, seed: int = 0, counts: dict[str, int] | None = None) -> None:
    """Write annotations, mp4 clips and png observations under `root`, which must be empty or new."""
    root, counts = empty(Path(root)), COUNTS | (counts or {})
    lines: dict[str, list[str]] = {split: [] for split in FILES}
    with Progress(transient=True) as progress:
        for level, count in progress.track(counts.items(), description="kitchen"):
            for s in progress.track(_draw(level, count, seed), total=count, description=level):
                _media(s, root)
                lines[level].append(json.dumps(_record(s)))
                if level == "train":
                    lines["train_cot"].append(json.dumps(_demonstration(s)))
    (root / "annotations").mkdir()
    for split, file in FILES.items():
        (root / "annotations" / f"{file}.jsonl").write_text("\n".join(lines[split]) + "\n")


def _draw(level: str, count: int, seed: int) -> Iterator[Sample]:
    for number in range(count):
        yield sample(np.random.default_rng([seed, list(COUNTS).index(level), number]), level, number)


def _paths(s: Sample) -> tuple[str, str]:
    return f"videos/{s.source}/{s.level}_{s.id}.mp4", f"images/{s.source}/{s.level}_{s.id}.png"


def _record(s: Sample) -> dict[str, Any]:
    """The published fields. Frames count in the clip; a move after the clip ends at the observation."""
    video, image = _paths(s)
    moves = s.scene.moves if s.scene.filmed else ()
    pairs = [*view.when(s.scene), view.FRAMES // 2]
    record = {
        "sample_id": s.id,
        "video_source": s.source,
        "video_id": f"{s.kitchen.name}_{s.id}",  # as EPIC-Kitchens names them: whose kitchen, which recording
        "video_basename": Path(video).name,
        "current_observation_basename": Path(image).name,
        "task_goal": world.goal(s.start, s.scene.recipe),
        "question": s.question,
        "answer": s.scene.answer,
        "task_start_frame": 0,
        "current_observation_frame": view.FRAMES + 1,
        "task_progress_metadata": [
            {"narration_text": move.narration, "start_frame": 2 * pair, "stop_frame": 2 * pair + 1}
            for move, pair in zip(moves, pairs, strict=False)
        ],
    }
    if s.level == "train":
        return record | {"negative_answers": [option for option in s.options if option != s.scene.answer]}
    if s.scenario:
        record |= dict(zip(("domain", "scenario"), s.scenario, strict=True))
    choices = {f"choice_{letter.lower()}": option for letter, option in zip(LETTERS, s.options, strict=False)}
    return record | choices | {"golden_choice_idx": s.letter}


def _demonstration(s: Sample) -> dict[str, Any]:
    """The same sample as a chat with a reasoned answer; media paths are relative to the benchmark's folder."""
    video, image = _paths(s)
    content = [{"type": "video", "video": video}] if s.clip is not None else []
    content += [{"type": "image", "image": image}, {"type": "text", "text": format_question(s.question, s.options)}]
    return {"sample_id": s.id, "prompt": [{"role": "user", "content": content}], "response": s.response}


def _media(s: Sample, root: Path) -> None:
    video, image = (root / path for path in _paths(s))
    for path in (video, image):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(s.observation).save(image)
    if s.clip is not None:
        encode(s.clip, video)


def encode(frames: np.ndarray, file: Path | BytesIO) -> None:
    """(T, H, W, 3) uint8 -> an H.264 mp4 of 2 frames a second, the same bytes each time."""
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "ultrafast", "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
