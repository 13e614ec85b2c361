"""Benchmarks outside of training: questions answered per second, and clips decoded per second."""

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
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rlvid.bench.implementations import generate_inputs
from rlvid.bench.loaded_workload import load_workload
from rlvid.bench.workload import Workload, write_random_model
from rlvid.config import VideoConfig
from rlvid.policy.sampler import Sampler
from rlvid.types import Prompt
from rlvid.video.cache import FrameCache
from rlvid.video.read import frame_indices
from rlvid.video.resize import resize

QUESTIONS = 16
CLIPS = 8
CLIP_SIZE = (360, 640)  # height and width in pixels
CLIP_FPS = 30
CLIP_SECONDS = 10

Variants = Mapping[str, Callable[[], Any]]  # name -> a function that does the same work in one way


def answering_variants(workload: Workload, model_folder: Path, questions: int = QUESTIONS) -> Variants:
    """Return two ways to answer `questions` greedily with `workload.completion_tokens` tokens each.

    One decodes all questions in a batch. The other calls the `generate` method of transformers once per question, as
    SEED-Bench-R1's code does. Neither samples the end token before the full length.
    """
    folder = write_random_model(workload.model, model_folder)
    loaded = load_workload(folder, replace(workload, groups=questions, num_generations=1))
    policy, prompts, clips = loaded.policy, loaded.prompts, loaded.clips
    greedy = replace(loaded.config.train, num_generations=1, temperature=0.0)
    sampler = Sampler(policy, greedy, lambda phase: nullcontext())

    def answer_in_a_batch() -> None:
        inputs = [policy.encode(prompt, clip) for prompt, clip in zip(prompts, clips, strict=True)]
        sampler(prompts, inputs, "bench")

    @torch.no_grad()
    def answer_one_by_one() -> None:
        length = workload.completion_tokens
        for prompt, clip in zip(prompts, clips, strict=True):
            inputs = generate_inputs(policy, policy.encode(prompt, clip))
            with policy.precision():
                policy.model.generate(**inputs, do_sample=False, min_new_tokens=length, max_new_tokens=length)

    return {"ours, a batch": answer_in_a_batch, "one by one": answer_one_by_one}


def decoding_variants(folder: Path) -> Variants:
    """Return three ways to decode clips of ten seconds at 640x360 to 16 frames of 252x252.

    They are plain decord, and our frame cache in a first epoch, when it is empty, and in a second one. Clips and cache
    are written to the folder; sets the environment variable RLVID_CACHE.
    """
    video = VideoConfig(max_frames=16, resized_height=252, resized_width=252)
    prompts = [Prompt(f"clip{i}", "", (), "", video=str(write_clip(folder / f"{i}.mp4", i))) for i in range(CLIPS)]
    os.environ["RLVID_CACHE"] = str(folder / "cache")
    cache = FrameCache(video)
    cache.warm(prompts)  # starts the decoding processes

    def plain_decord() -> None:
        from decord import VideoReader

        for prompt in prompts:
            reader = VideoReader(prompt.video)
            chosen = frame_indices(len(reader), reader.get_avg_fps(), video)
            resize(reader.get_batch(chosen).asnumpy(), video)

    def first_epoch() -> None:
        for path in cache.store.folder.iterdir():
            path.unlink()
        second_epoch()

    def second_epoch() -> None:
        cache.warm(prompts)
        for prompt in prompts:
            np.array(cache(prompt).video)

    return {"decord": plain_decord, "ours, first epoch": first_epoch, "ours, second epoch": second_epoch}


def write_clip(path: Path, seed: int) -> Path:
    """Write a video of ten seconds in H.264: a bright square that moves over noise. Returns the path."""
    import av

    generator, (height, width) = np.random.default_rng(seed), CLIP_SIZE
    background = generator.integers(0, 120, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=CLIP_FPS)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(CLIP_SECONDS * CLIP_FPS):
            frame = background.copy()
            frame[100:200, i : i + 100] = 250
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return path


def time_variants(variants: Variants, repeats: int) -> dict[str, list[float]]:
    """Run the variants in turn, `repeats` times after one turn to warm up; returns the seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("bench", total=len(variants) * (repeats + 1))
        for turn in range(repeats + 1):
            for name, run in variants.items():
                progress.update(task, description=f"{name}, turn {turn} of {repeats}")
                start = time.perf_counter()
                run()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if turn > 0:  # turn 0 warms up
                    seconds[name].append(time.perf_counter() - start)
                progress.advance(task)
    return seconds


def variants_table(seconds: Mapping[str, list[float]], unit: str, count: int) -> Table:
    """Return how many units per second each variant does, and its time relative to the first variant's.

    Args:
        seconds: variant -> seconds of each turn.
        unit: what is counted, such as "clips".
        count: units per turn.
    """
    table = Table("variant", f"{unit} per second", "range of seconds", "x the first", box=None, padding=(0, 2, 0, 0))
    first = next(iter(seconds.values()))
    for name, turns in seconds.items():
        ratio = median(a / b for a, b in zip(turns, first, strict=True))
        seconds_range = f"{min(turns):.2f} to {max(turns):.2f}"
        table.add_row(name, f"{count / median(turns):.2f}", seconds_range, f"{ratio:.2f}")
    return table


def answering_table(workload: Workload, repeats: int, model_folder: Path) -> Table:
    """Time the variants of answering; returns their table."""
    variants = answering_variants(workload, model_folder)
    return variants_table(time_variants(variants, repeats), "questions", QUESTIONS)


def decoding_table(repeats: int) -> Table:
    """Time the variants of decoding; returns their table."""
    with TemporaryDirectory() as folder:
        variants = decoding_variants(Path(folder))
        return variants_table(time_variants(variants, repeats), "clips", CLIPS)
