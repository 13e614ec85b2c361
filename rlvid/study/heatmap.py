"""Attention as a figure, a table and JSON: heat maps over the frames, and shares of each completion token."""

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
from matplotlib.gridspec import GridSpec
from PIL import Image
from rich.table import Column, Table

from rlvid.policy.attention import TOKEN_KINDS
from rlvid.study.attention import CompletionAttention
from rlvid.study.style import COLORS, STYLE
from rlvid.types import Prompt
from rlvid.utils.files import write_text
from rlvid.video.views import Clip

COLORMAP = "inferno"
TEXT_SIZE = 7  # points


def map_frames(clip: Clip) -> list[np.ndarray]:
    """Return the (H, W, 3) frames below the heat maps: the first of each two video frames, then the image.

    Two video frames share their visual tokens.
    """
    video = list(clip.video[::2]) if clip.video is not None else []
    image = [clip.image] if clip.image is not None else []
    return [*video, *image]


def heat_maps(attention: CompletionAttention, what: str) -> list[np.ndarray]:
    """Return the (height, width) attention of some tokens to each frame of `map_frames`; sinks are NaN."""
    positions = attention.require_tokens(what)
    return [frame.numpy() for medium in attention.maps(positions) for frame in medium]


def draw_figure(recorded: Sequence[CompletionAttention], prompt: Prompt, clip: Clip, what: str, path: Path) -> Path:
    """Draw a row per run: heat maps over the frames, on one scale for all runs, and the shares along the completion.

    Args:
        recorded: the attention of each run.
        prompt: the question.
        clip: its frames.
        what: the tokens whose attention is drawn, see `CompletionAttention.find_tokens`.
        path: the file to write.

    Returns:
        `path`.
    """
    frames = map_frames(clip)
    maps = [heat_maps(attention, what) for attention in recorded]  # of each run, one per frame
    top = max(np.nanmax(heat) for run_maps in maps for heat in run_maps)
    # rows: runs; columns: frames, and the shares in a wider last one
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.15 * len(frames) + 4.5, 1.25 * len(recorded) + 1), layout="constrained")
        cells = figure.add_gridspec(len(recorded), len(frames) + 1, width_ratios=[1] * len(frames) + [3.5])
        for row, (attention, run_maps) in enumerate(zip(recorded, maps, strict=True)):
            scaled = [heat / top for heat in run_maps]
            _draw_row(figure, cells, row, attention, list(zip(frames, scaled, strict=True)), clip.image is not None)
        panel = figure.axes[-1]
        panel.set_xlabel("completion token", fontsize=TEXT_SIZE)
        scale = ScalarMappable(Normalize(0, 100 * top), COLORMAP)
        bar = figure.colorbar(scale, ax=figure.axes, location="left", shrink=0.8, aspect=30)
        bar.set_label("% of a token's\nattention", fontsize=TEXT_SIZE)
        bar.ax.tick_params(labelsize=TEXT_SIZE - 1)
        handles, labels = panel.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=len(TOKEN_KINDS), fontsize=TEXT_SIZE)
        figure.suptitle(f"{prompt.level} {prompt.id}: attention of the {what} tokens", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight")  # the label of the bar may be longer than one row is high
    return path


def _draw_row(
    figure: Figure,
    cells: GridSpec,
    row: int,
    attention: CompletionAttention,
    frames: Sequence[tuple[np.ndarray, np.ndarray]],
    last_is_image: bool,
) -> None:
    """Draw one run: a panel per frame with its heat, then the shares; the first row has titles."""
    for column, (frame, heat) in enumerate(frames):
        panel = figure.add_subplot(cells[row, column])
        _draw_heat(panel, frame, heat)
        if column == 0:
            label = f"{fill(attention.run, 16)}\n{describe_answer(attention)}"
            panel.set_ylabel(label, fontsize=TEXT_SIZE)
        if row == 0:
            is_image = last_is_image and column == len(frames) - 1
            title = "observation" if is_image else f"frames {2 * column + 1}–{2 * column + 2}"
            panel.set_title(title, fontsize=TEXT_SIZE)
    panel = figure.add_subplot(cells[row, -1])
    _draw_shares(panel, attention)
    if row == 0:
        panel.set_title("share of attention, token by token", fontsize=TEXT_SIZE)


def _draw_heat(panel: Axes, frame: np.ndarray, heat: np.ndarray) -> None:
    """Draw a grey frame below (height, width) heat from 0 to 1; where the heat is low or a sink, the frame shows."""
    extent = (-0.5, frame.shape[1] - 0.5, frame.shape[0] - 0.5, -0.5)
    panel.imshow(frame.mean(-1), cmap="gray", vmin=-80, vmax=255)
    heat = np.nan_to_num(heat)
    panel.imshow(heat, cmap=COLORMAP, vmin=0, vmax=1, alpha=0.65 * heat, extent=extent, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def _draw_shares(panel: Axes, attention: CompletionAttention) -> None:
    """Draw a stacked bar per completion token, a colour per kind, and a line where the answer begins."""
    positions, shares = range(len(attention.tokens)), attention.shares().numpy()
    bottoms = np.cumsum(shares, axis=1) - shares
    for kind, color, share, bottom in zip(TOKEN_KINDS, COLORS, shares.T, bottoms.T, strict=False):
        panel.bar(positions, share, width=1, bottom=bottom, color=color, alpha=0.85, label=kind)
    if answer := attention.find_tokens("answer"):
        panel.axvline(answer[0] - 0.5, color="black", lw=0.8, ls=":")
    panel.set(xlim=(-0.5, len(attention.tokens) - 0.5), ylim=(0, 1))
    panel.tick_params(labelsize=TEXT_SIZE - 1)


def describe_answer(attention: CompletionAttention) -> str:
    """Return what the run answered, such as "B, right"."""
    answer = attention.row["answer"] or "no answer"
    return f"{answer}, {'right' if attention.row['correct'] else 'wrong'}"


def share_table(recorded: Sequence[CompletionAttention]) -> Table:
    """Return the shares of attention of the reasoning and of the answer, by run; sinks are in none of them."""
    run_column = Column("run", overflow="fold")
    table = Table(run_column, "tokens", *TOKEN_KINDS, "sinks", "answer", box=None, padding=(0, 2, 0, 0))
    for attention in recorded:
        run, answer = attention.run, describe_answer(attention)
        for part in [part for part in ("reasoning", "answer") if attention.find_tokens(part)] or ["reply"]:
            positions = attention.find_tokens(part)
            shares = (f"{share:.0%}" for share in attention.shares(positions).tolist())
            sinks = attention.weights[positions][:, attention.sinks].sum(1).mean()
            table.add_row(run, part, *shares, f"{sinks:.0%} ({attention.sinks.sum()})", answer)
            run = answer = ""  # only in the first row of a run
    return table


def save_json(recorded: Sequence[CompletionAttention], prompt: Prompt, clip: Clip, what: str, folder: Path) -> Path:
    """Write FOLDER/attention.json and the frames as PNG, for a viewer; returns the path of the JSON.

    In the maps null stands for an attention sink.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = map_frames(clip)
    names = [f"frame-{i:02d}.png" for i in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(np.ascontiguousarray(frame)).save(folder / name)
    content = {
        "sample": prompt.id,
        "level": prompt.level,
        "question": prompt.question,
        "of": what,
        "options": prompt.options,
        "gold": prompt.answer,
        "frames": names,
        "kinds": TOKEN_KINDS,
        "image_is_last": clip.image is not None,
        "runs": [_to_record(attention, what) for attention in recorded],
    }
    write_text(folder / "attention.json", json.dumps(content))
    return folder / "attention.json"


def _to_record(attention: CompletionAttention, what: str) -> dict[str, Any]:
    return {
        "name": attention.run,
        "completion": attention.row["completion"],
        "answer": attention.row["answer"],
        "correct": attention.row["correct"],
        "tokens": attention.tokens,
        "chosen": attention.require_tokens(what),
        "sinks": attention.sinks.nonzero()[:, 0].tolist(),
        "shares": [[round(share, 4) for share in row] for row in attention.shares().tolist()],
        "maps": [[[_round_or_null(value) for value in row] for row in heat] for heat in heat_maps(attention, what)],
    }


def _round_or_null(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
