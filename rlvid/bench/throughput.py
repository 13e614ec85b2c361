"""Work apart from learning: questions answered a second, clips decoded a second, each beside the plain way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from rich.table import Table

from rlvid.bench.implementations import as_inputs, subject
from rlvid.bench.workload import Shape, write_model
from rlvid.config import VideoConfig
from rlvid.policy.sampler import Sampler
from rlvid.types import Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.read import frame_indices
from rlvid.video.resize import resize

CLIPS, SIZE, FPS = 8, (360, 640), 30  # ten seconds each


def answering(shape: Shape, home: Path, questions: int = 16) -> Mapping[str, Callable[[], Any]]:
    """Greedy replies of `shape.completion` tokens: in one batch, and one by one with `generate` as the paper's code."""
    one = subject(write_model(shape.model, home), replace(shape, groups=questions, generations=1))
    greedy = replace(one.config.train, num_generations=1, temperature=0.0)
    sampler = Sampler(one.policy, greedy, lambda phase: nullcontext())

    def ours() -> None:
        encoded = [one.policy.encode(p, clip) for p, clip in zip(one.prompts, one.clips, strict=True)]
        sampler(one.prompts, encoded, "bench")

    @torch.no_grad()
    def reference() -> None:
        for prompt, clip in zip(one.prompts, one.clips, strict=True):
            inputs, length = as_inputs(one.policy, one.policy.encode(prompt, clip)), shape.completion
            with one.policy.precision():
                one.policy.model.generate(**inputs, do_sample=False, min_new_tokens=length, max_new_tokens=length)

    return {"ours, a batch": ours, "one by one": reference}


def decoding(folder: Path) -> Mapping[str, Callable[[], Any]]:
    """Clips of ten seconds at 640x360 to 16 frames of 252x252: plain decord, our first epoch, our second."""
    video = VideoConfig(max_frames=16, resized_height=252, resized_width=252)
    prompts = [Prompt(f"clip{i}", "", (), "", video=str(clip(folder / f"{i}.mp4", i))) for i in range(CLIPS)]
    os.environ["RLVID_CACHE"] = str(folder / "cache")
    frames = FrameCache(video)
    frames.warm(prompts)  # starts the decoding processes

    def plain() -> None:
        from decord import VideoReader

        for prompt in prompts:
            reader = VideoReader(prompt.video)
            chosen = frame_indices(len(reader), reader.get_avg_fps(), video)
            resize(reader.get_batch(chosen).asnumpy(), video)

    def first() -> None:
        for kept in frames.store.folder.iterdir():
            kept.unlink()
        second()

    def second() -> None:
        frames.warm(prompts)
        for prompt in prompts:
            np.array(frames(prompt).video)

    return {"decord": plain, "ours, first epoch": first, "ours, second epoch": second}


def clip(path: Path, seed: int) -> Path:
    """Ten seconds of H.264: a bright square on its way over noise."""
    import av

    random, (height, width) = np.random.default_rng(seed), SIZE
    ground = random.integers(0, 120, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(10 * FPS):
            picture = ground.copy()
            picture[100:200, i : i + 100] = 250
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def race(ways: Mapping[str, Callable[[], Any]], pairs: int) -> dict[str, list[float]]:
    """Seconds of each way, taken in turn, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with Progress(transient=True) as progress:
        task = progress.add_task("bench", total=len(ways) * (pairs + 1))
        for turn in range(pairs + 1):
            for name, way in ways.items():
                progress.update(task, description=f"{name}, turn {turn} of {pairs}")
                start = time.perf_counter()
                way()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                seconds[name] += [time.perf_counter() - start] if turn else []
                progress.advance(task)
    return seconds


def table(seconds: Mapping[str, list[float]], what: str, count: int) -> Table:
    """Medians, and each way's ratio to the first, turn by turn."""
    shown = Table("way", f"{what} a second", "range of seconds", "times the first", box=None, padding=(0, 2, 0, 0))
    first = next(iter(seconds.values()))
    for name, turns in seconds.items():
        ratio = median(a / b for a, b in zip(turns, first, strict=True))
        span = f"{min(turns):.2f} to {max(turns):.2f}"
        shown.add_row(name, f"{count / median(turns):.2f}", span, f"{ratio:.2f}")
    return shown


def evaluation(shape: Shape, pairs: int, home: Path) -> Table:
    """Race the ways of answering."""
    return table(race(answering(shape, home), pairs), "questions", 16)


def videos(pairs: int) -> Table:
    """Race the ways of decoding."""
    with TemporaryDirectory() as folder:
        return table(race(decoding(Path(folder)), pairs), "clips", CLIPS)
