"""Attention as pictures and as JSON: heat over every frame, and what each written token looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Column, Table

from rlvid.policy.attention import TOKEN_KINDS
from rlvid.study.attention import Look
from rlvid.study.style import COLORS, STYLE
from rlvid.types import Prompt
from rlvid.utils.files import write_text
from rlvid.video.views import Clip

HEAT = "inferno"


def frames(clip: Clip) -> list[np.ndarray]:
    """The (H, W, 3) pictures that the maps lie on: the first of each two frames of the video, then the image."""
    return [*(clip.video[::2] if clip.video is not None else ()), *([clip.image] if clip.image is not None else ())]


def draw(looks: Sequence[Look], prompt: Prompt, clip: Clip, what: str, path: Path) -> Path:
    """A row for each run: its heat over the frames, all rows on one scale, and the shares along its reply."""
    shown, maps = frames(clip), [heats(look, what) for look in looks]
    top = max(np.nanmax(heat) for row in maps for heat in row)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.15 * len(shown) + 4.5, 1.25 * len(looks) + 1), layout="constrained")
        grid = figure.add_gridspec(len(looks), len(shown) + 1, width_ratios=[1] * len(shown) + [3.5])
        for i, (look, row) in enumerate(zip(looks, maps, strict=True)):
            for j, (frame, heat) in enumerate(zip(shown, row, strict=True)):
                panel = figure.add_subplot(grid[i, j])
                _warm(panel, frame, heat / top)
                if j == 0:
                    panel.set_ylabel(f"{fill(look.name, 16)}\n{verdict(look)}", fontsize=7)
                if i == 0:
                    image = clip.image is not None and j == len(shown) - 1
                    panel.set_title("observation" if image else f"frames {2 * j + 1}–{2 * j + 2}", fontsize=7)
            panel = figure.add_subplot(grid[i, -1])
            _along(panel, look)
            if i == 0:
                panel.set_title("share of attention, token by token", fontsize=7)
        panel.set_xlabel("token of the reply", fontsize=7)
        warmth = ScalarMappable(Normalize(0, 100 * top), HEAT)
        bar = figure.colorbar(warmth, ax=figure.axes, location="left", shrink=0.8, aspect=30)
        bar.set_label("% of a token's attention", fontsize=7)
        bar.ax.tick_params(labelsize=6)
        bands, names = panel.get_legend_handles_labels()
        figure.legend(bands, names, loc="outside lower right", ncols=len(TOKEN_KINDS), fontsize=7)
        figure.suptitle(f"{prompt.level} {prompt.id}: where the {what} looks", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return path


def _warm(panel: Axes, frame: np.ndarray, heat: np.ndarray) -> None:
    """A frame in grey, under the heat of its visual tokens, from 0 to 1; cold ones and sinks let it shine through."""
    box = (-0.5, frame.shape[1] - 0.5, frame.shape[0] - 0.5, -0.5)
    panel.imshow(frame.mean(-1), cmap="gray", vmin=-80, vmax=255)
    heat = np.nan_to_num(heat)
    panel.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.65 * heat, extent=box, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def _along(panel: Axes, look: Look) -> None:
    """The shares of a reply's tokens, each a bar, one kind upon the other; a line where the answer begins."""
    places, shares = range(len(look.tokens)), look.shares().numpy()
    below = np.cumsum(shares, axis=1) - shares
    for kind, colour, share, under in zip(TOKEN_KINDS, COLORS, shares.T, below.T, strict=False):
        panel.bar(places, share, width=1, bottom=under, color=colour, alpha=0.85, label=kind)
    if answer := look.find("answer"):
        panel.axvline(answer[0] - 0.5, color="black", lw=0.8, ls=":")
    panel.set(xlim=(-0.5, len(look.tokens) - 0.5), ylim=(0, 1))
    panel.tick_params(labelsize=6)


def heats(look: Look, what: str) -> list[np.ndarray]:
    """A run's (height, width) attention to each of `frames`."""
    return [heat.numpy() for medium in look.maps(look.choose(what)) for heat in medium]


def verdict(look: Look) -> str:
    """What it answered."""
    return f"{look.row['answer'] or 'no answer'}, {'right' if look.row['correct'] else 'wrong'}"


def table(looks: Sequence[Look]) -> Table:
    """Shares of attention by run, of the reasoning and of the answer; what sinks took is in none of them."""
    run = Column("run", overflow="fold")
    shown = Table(run, "of the", *TOKEN_KINDS, "sinks took", "said", box=None, padding=(0, 2, 0, 0))
    for look in looks:
        about = (look.name, verdict(look))
        for what in [part for part in ("reasoning", "answer") if look.find(part)] or ["reply"]:
            chosen = look.find(what)
            shares = (f"{share:.0%}" for share in look.shares(chosen).tolist())
            took = f"{look.weights[chosen][:, look.sinks].sum(1).mean():.0%} ({look.sinks.sum()})"
            shown.add_row(about[0], what, *shares, took, about[1])
            about = ("", "")
    return shown


def save(looks: Sequence[Look], prompt: Prompt, clip: Clip, what: str, folder: Path) -> Path:
    """`attention.json` and the frames as PNG files, for a viewer; null stands where a sink was left out."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"frame-{i:02d}.png" for i in range(len(frames(clip)))]
    for name, frame in zip(names, frames(clip), strict=True):
        Image.fromarray(np.ascontiguousarray(frame)).save(folder / name)
    about: dict[str, Any] = {"sample": prompt.id, "level": prompt.level, "question": prompt.question, "of": what}
    about |= {"options": prompt.options, "gold": prompt.answer, "frames": names, "kinds": TOKEN_KINDS}
    about |= {"image_is_last": clip.image is not None, "runs": [_plain(look, what) for look in looks]}
    write_text(folder / "attention.json", json.dumps(about))
    return folder / "attention.json"


def _plain(look: Look, what: str) -> dict[str, Any]:
    return {
        "name": look.name,
        "completion": look.row["completion"],
        "answer": look.row["answer"],
        "correct": look.row["correct"],
        "tokens": look.tokens,
        "chosen": look.choose(what),
        "sinks": look.sinks.nonzero()[:, 0].tolist(),
        "shares": [[round(share, 4) for share in row] for row in look.shares().tolist()],
        "maps": [
            [[None if np.isnan(v) else round(float(v), 6) for v in row] for row in heat] for heat in heats(look, what)
        ],
    }
