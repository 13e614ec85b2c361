r"""The rendering of the kitchens: scenes become frames of 56x56 pixels.

The shelf is in the upper half of a frame: two boards with four positions each. The pot is in the lower half, and the
newest ingredient in it floats on top:

    row  0   +----+----+----+----+
             | 0  | 1  | 2  | 3  |   positions 0 to 3 of the shelf
        14   +----+----+----+----+
             | 4  | 5  | 6  | 7  |   positions 4 to 7
        28   +----+----+----+----+
             |        ()         |   the newest ingredient
        40   |      \____/       |   the pot
        56   +-------------------+

A clip has eight frames, two for each of up to four moves: first the ingredient half-way, then at its new position.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np

from rlvid.data.kitchen_world import SHELF_SLOTS, Scene

SIZE, CELL, FRAMES = 56, 14, 8  # pixels of a frame's side, pixels of a shelf position's side, frames of a clip
CLIP_SLOTS = FRAMES // 2  # pairs of frames; at most one move in each
POT = (35, 35)  # row and column of the centre of the newest ingredient in the pot

_V, _U = np.mgrid[-1:1:11j, -1:1:11j]  # vertical and horizontal coordinates of a sprite of 11x11 pixels
SPRITES = {  # colour and shape of each ingredient
    "tomato": ((225, 30, 25), _U**2 + _V**2 < 0.9),
    "onion": ((150, 60, 190), (_U**2 + _V**2 < 1) & (_U**2 + _V**2 > 0.25)),
    "corn": ((250, 220, 30), _U**2 * 4 + _V**2 < 1),
    "carrot": ((255, 125, 10), abs(_U) < 0.15 + (1 - _V) * 0.4),
    "pepper": ((30, 160, 50), np.maximum(abs(_U), abs(_V)) < 0.75),
    "potato": ((130, 85, 45), _U**2 + _V**2 * 3 < 1),
    "mushroom": ((245, 240, 230), ((_V < 0) & (_U**2 + _V**2 < 1)) | ((_V >= 0) & (abs(_U) < 0.35))),
    "beet": ((235, 40, 150), abs(_U) + abs(_V) < 1),
}


@dataclass(frozen=True)
class Kitchen:
    """The place of a scene. Its name decides the colours and the pattern of the wall."""

    name: str
    seen: bool  # True: in train and L1; False: only in L2 and L3, with other hues, another pattern and less light

    @cached_property
    def background(self) -> np.ndarray:
        """The (56, 56, 3) float pixels of the wall, the boards and the pot."""
        rng = np.random.default_rng(crc32(self.name.encode()))
        hue = rng.uniform(0.05, 0.2) if self.seen else rng.uniform(0.45, 0.7)
        wall = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.1, 0.35), rng.uniform(0.55, 0.8)))
        rows, columns = np.mgrid[:SIZE, :SIZE]
        period = int(rng.integers(5, 9))
        # Known kitchens have stripes, unseen ones a checkerboard.
        pattern = rows // period % 2 if self.seen else (rows // period + columns // period) % 2
        frame = 255 * wall * (1 - 0.12 * pattern[..., None])
        for board in (CELL - 2, 2 * CELL - 2):
            frame[board : board + 2] = 255 * wall * 0.5
        pot = (rows > 39) & (abs(columns - POT[1]) < 11)
        frame[pot] = rng.uniform(60, 110) if self.seen else rng.uniform(30, 60)
        frame[pot & (rows < 43)] *= 0.6  # the rim
        return frame

    @property
    def brightness(self) -> float:
        """The factor on all pixels: 1 is daylight."""
        return 1.0 if self.seen else 0.8


SEEN = tuple(Kitchen(f"P{n:02}", seen=True) for n in range(1, 13))
UNSEEN = tuple(Kitchen(f"home{n:02}", seen=False) for n in range(1, 13))


def render_clip(scene: Scene, kitchen: Kitchen, rng: np.random.Generator) -> np.ndarray:
    """Return the (8, 56, 56, 3) uint8 frames of a clip.

    Each filmed move has its own pair of frames, in order. Nothing happens in the other pairs.
    """
    return render_film(scene, kitchen, rng, move_slots(scene), CLIP_SLOTS, 1)


def render_film(
    scene: Scene, kitchen: Kitchen, rng: np.random.Generator, busy: Sequence[int], slots: int, hold: int
) -> np.ndarray:
    """Return the (2 * slots * hold, 56, 56, 3) uint8 frames of a film of `slots` equal parts.

    One move happens in each part whose index is in `busy`. Its ingredient flies for the first `hold` frames of the part
    and is at its new position for the other `hold`:

        slot        0             1             2           hold = 2, busy = [1]
        frames      .  .  .  .    f  f  n  n    n  n  n  n  . old state, f flying, n new state
    """
    frames: list[np.ndarray] = []
    moves = 0  # moves that are done
    for slot in range(slots):
        flying_frames = 0
        if slot in busy:
            flying_frames, flying = hold, scene.moves[moves].item
            frames += [_draw_frame(scene, kitchen, moves, rng, flying) for _ in range(flying_frames)]
            moves += 1
        frames += [_draw_frame(scene, kitchen, moves, rng) for _ in range(2 * hold - flying_frames)]
    return np.stack(frames)


def move_slots(scene: Scene) -> list[int]:
    """Return the index of the pair of frames of each filmed move. It depends on the scene alone."""
    key = crc32(repr(scene).encode())  # so a new name of a field or class in kitchen_world changes the clips
    return sorted(np.random.default_rng(key).permutation(CLIP_SLOTS)[: scene.filmed].tolist())


def render_observation(scene: Scene, kitchen: Kitchen, rng: np.random.Generator) -> np.ndarray:
    """Return the (56, 56, 3) uint8 image after all moves. A door hides half of the shelf, if the scene has one."""
    return _draw_frame(scene, kitchen, len(scene.moves), rng, door=scene.door)


def _draw_frame(
    scene: Scene,
    kitchen: Kitchen,
    moves: int,
    rng: np.random.Generator,
    flying: str | None = None,
    door: int | None = None,
) -> np.ndarray:
    """Return the (56, 56, 3) uint8 frame after `moves` moves.

    The ingredient `flying` is half-way, neither on the shelf nor in the pot.
    """
    frame = kitchen.background.copy()
    in_pot = [item for item in scene.pot(moves) if item != flying]
    for position, item in enumerate(scene.shelf):
        if item and item not in in_pot and item != flying:
            _stamp(frame, item, *_shelf_center(position))
    if in_pot:
        _stamp(frame, in_pot[-1], *POT)
    if flying:
        is_left = _shelf_center(scene.shelf.index(flying))[1] < SIZE // 2
        _stamp(frame, flying, POT[0], 21 if is_left else 49)
    if door is not None:
        frame[: 2 * CELL, door * SIZE // 2 : (door + 1) * SIZE // 2] = frame[CELL - 1, 0] * 1.4
    noisy = frame * kitchen.brightness + rng.normal(0, 4, frame.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _shelf_center(position: int) -> tuple[int, int]:
    """Return the row and the column of the centre of a shelf position."""
    board, cell = divmod(position, SHELF_SLOTS // 2)
    return board * CELL + 6, cell * CELL + 7


def _stamp(frame: np.ndarray, item: str, row: int, column: int) -> None:
    """Draw an ingredient into a frame, with its centre at a row and a column."""
    colour, shape = SPRITES[item]
    frame[row - 5 : row + 6, column - 5 : column + 6][shape] = colour
