"""A run's folder: what is written there, and how a killed run goes on as if nothing had happened.

config.toml          resolved             metrics.jsonl   one object per step: the same bits for the same seed
environment.json     versions, machine    timing.jsonl    seconds per phase, kept apart because they never repeat
status.json          where it stands      samples/        every completion of every step, with its rewards
checkpoints/step-N/  see checkpoint.py    eval/           LEVEL.jsonl, one object per question
noise_manifest.jsonl what noise changed   noise.json      how much of it, and J where it has a closed form
skipped.jsonl        clips that could not be read   alarms.jsonl  signs that something else is learnt than should be
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from rlvid import distributed
from rlvid.config import Config
from rlvid.errors import UserError
from rlvid.noise.apply import build_noise
from rlvid.trainer import alarms
from rlvid.types import Prompt
from rlvid.utils.files import append_jsonl, explain_write_errors, read_json, read_jsonl, write_jsonl, write_text
from rlvid.video.decode import BadVideo

if TYPE_CHECKING:
    from rlvid.policy.model import Policy
    from rlvid.trainer.metrics import GroupRecord

PACKAGES = ("rlvid", "torch", "transformers", "trl", "accelerate", "numpy")


class Run:
    """One run, and its folder, in which only the main process writes."""

    def __init__(self, folder: Path, config: Config, accelerator: Accelerator) -> None:
        self.folder, self.config, self.accelerator = folder, config, accelerator
        self.main = accelerator.is_main_process
        self.step = 0  # the last step that is safe in a checkpoint
        self.tokens = 0  # completion tokens so far
        self.drawn = 0  # prompts asked so far, those of flat groups that others replaced included
        self.memory: dict[str, Any] = {}  # what the algorithm keeps from step to step
        self.verdicts = dict.fromkeys(("right", "right_paid", "wrong", "wrong_paid"), 0.0)  # see `judged`
        self.skipped: dict[str, str] = {}  # sample id: why its clip could not be read
        self.best: tuple[float, int] | None = None  # accuracy on the first evaluated level, and at which step
        self.alarms: Sequence[alarms.Alarm] = ()  # of the last step
        self.seconds: dict[str, float] = {}
        self.costs: Callable[[], Mapping[str, float]] = dict  # of a judge so far
        self.done = False  # it had finished before
        self.logged = 0  # the last step that is written down
        self.doing = "load"  # the phase that it is in, or was in when it ended
        self._lock: IO[str] | None = None  # held from open to exit

    @classmethod
    def open(cls, folder: Path, config: Config, resume: bool, accelerator: Accelerator) -> Run:
        """Make the folder, or take up the run in it; refuse another config's folder, and a folder in use."""
        run = cls(folder, config, accelerator)
        status = read_json(folder / "status.json")
        if status and status["id"] != config.id:
            raise UserError(f"{folder} holds run {status['id']} and this config is run {config.id}: give another --out")
        if status and not resume:
            raise UserError(f"{folder} holds this run already ({status['state']}): go on with --resume, or give --out")
        run.done = status is not None and status["state"] == "done"
        run.wait()  # until all have read what stands there
        if run.main and not run.done:
            with explain_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                run._lock = (folder / ".lock").open("w")
            try:
                fcntl.flock(run._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"{folder} is in use by another process: wait for it, or give another --out") from error
            write_text(folder / "config.toml", config.to_toml())
            write_text(folder / "environment.json", json.dumps(environment(accelerator), indent=1))
            run.status("running", "load")
        if config.report_to:
            accelerator.init_trackers("rlvid", config={"id": config.id, "toml": config.to_toml()})
        run.wait()
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        alone = self.alone() if distributed.is_peer_failure(error) else None
        if last := alone or error:
            state = "failed" if isinstance(last, Exception) else "interrupted"
            with suppress(UserError):  # of a full disk, say, which is what ends the run
                self.status(state, "", f"{type(last).__name__}: {last}")
        if self.config.report_to:
            self.accelerator.end_training()
        if self._lock:
            self._lock.close()
        if alone:
            raise alone from error

    def wait(self) -> None:
        """For the other processes to come here, too."""
        try:
            self.accelerator.wait_for_everyone()
        except RuntimeError as error:
            if distributed.is_peer_failure(error):
                raise self.alone() from error
            raise

    def alone(self) -> UserError:
        """Another process has died, or did not come: what this one waited for."""
        accelerator, patience = self.accelerator, self.config.train.ddp_timeout
        return UserError(
            f"process {accelerator.process_index} of {accelerator.num_processes}, after step {self.logged}, in phase "
            f"{self.doing!r}, waited for the others, and one of them has ended or did not come within "
            f"train.ddp_timeout = {patience} s; its own last words say why. --resume goes on from step {self.step}"
        )

    def status(self, state: str, phase: str, message: str = "") -> None:
        """Say where the run stands, for `rlvid grid` and for people."""
        self.doing = phase or self.doing
        if self.main:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            about = {"state": state, "id": self.config.id, "step": self.step, "steps": self.config.train.max_steps}
            write_text(
                self.folder / "status.json", json.dumps(about | {"phase": phase, "message": message, "updated": now})
            )

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds spent inside, less those of phases within it, to this step's `timing_s/phase`."""
        start, others = time.perf_counter(), sum(self.seconds.values())
        outer, self.doing = self.doing, phase
        yield
        self.doing = outer
        spent = time.perf_counter() - start - (sum(self.seconds.values()) - others)
        self.seconds[phase] = self.seconds.get(phase, 0.0) + spent

    def warm(self, policy: Policy, prompts: Iterable[Prompt]) -> None:
        """Decode into the cache what this process will need, and refuse a model that does not look."""
        ours = list({p.id: p for _, p in self.share(list(prompts))}.values())
        bad = policy.frames.warm(ours, progress=self.main)
        if bad and self.config.video.on_bad_video == "error":
            raise bad[0]
        if len(bad) < len(ours):
            policy.check_pixels_matter(next(p for p in ours if p.id not in {error.sample for error in bad}))

    def share(self, prompts: Sequence[Prompt]) -> list[tuple[int, Prompt]]:
        """This process's prompts among all of a step's, with their places; pixels weigh as at the paper's shape."""
        sizes = [len(p.text) / 4 + 648 * bool(p.video) + 81 * bool(p.image) for p in prompts]
        places = distributed.shard_prompts(sizes, self.accelerator.num_processes, self.accelerator.process_index)
        return [(place, prompts[place]) for place in places]

    def skip(self, prompt: Prompt, error: BadVideo) -> None:
        """Count and list a clip that could not be read, or raise, as `video.on_bad_video` says."""
        if self.config.video.on_bad_video == "error":
            raise error
        if prompt.id not in self.skipped:
            self.skipped[prompt.id] = str(error)
            append_jsonl(self.folder / "skipped.jsonl", {"id": prompt.id, "error": str(error)})

    def count(self, records: Sequence[GroupRecord], drawn: int) -> dict[str, float]:
        """Running totals: completion tokens learnt from, prompts asked, clips that could not be read; noise so far."""
        self.tokens += sum(sum(record.lengths) for record in records)
        self.drawn += drawn
        failures = self.accelerator.reduce(torch.tensor(len(self.skipped)).to(self.accelerator.device), "sum")
        totals = {"num_tokens": self.tokens, "num_prompts": self.drawn, "data/decode_failures": int(failures)}
        return totals | (self.judged(records) if self.config.noise.kind else {})

    def judged(self, records: Sequence[GroupRecord]) -> dict[str, float]:
        """What the verdicts so far were worth, which only this compares with clean labels and clean verdicts.

        `changed`: the share that verdict noise changed, of the verdicts of its own reward. Where the accuracy reward's
        verdicts are wrong: false positives, what a wrong answer was paid on average; false negatives, what a right one
        was paid less than 1. Youden's J is 1 less both: the clean gradient's share in the noisy one's expectation.
        """
        seen, reward = self.verdicts, build_noise(self.config.noise).reward
        for record in records:
            pairs = zip(record.evidence.get("clean_verdicts", ()), record.columns.get(reward, ()), strict=False)
            for clean, verdict in pairs:
                if clean is not None:
                    seen["said"] = seen.get("said", 0.0) + 1
                    seen["changed"] = seen.get("changed", 0.0) + (verdict != clean)
            for answer, paid in zip(record.answers, record.columns.get("accuracy", ()), strict=False):
                if paid is not None:
                    kind = "right" if answer == record.clean else "wrong"
                    seen[kind] += 1
                    seen[f"{kind}_paid"] += paid
        found = {"noise/changed": seen["changed"] / seen["said"]} if seen.get("said") else {}
        if reward != "accuracy" or not seen["right"] or not seen["wrong"]:
            return found
        wrongly, missed = seen["wrong_paid"] / seen["wrong"], 1 - seen["right_paid"] / seen["right"]
        found |= {"noise/false_positive_rate": wrongly, "noise/false_negative_rate": missed}
        return found | {"noise/youden_j": 1 - wrongly - missed}

    def log(self, step: int, metrics: Mapping[str, float], records: Sequence[GroupRecord]) -> None:
        """Write down a step."""
        self.logged, seconds, self.seconds = step, self.seconds, {}
        if self.main:
            append_jsonl(self.folder / "metrics.jsonl", {"step": step, **metrics})
            timing = {f"timing_s/{phase}": value for phase, value in seconds.items()}
            timing |= {"step": step, "step_time": sum(seconds.values()), **self.costs()}
            append_jsonl(self.folder / "timing.jsonl", timing)
            if records:
                write_jsonl(self.folder / "samples" / f"step-{step:06d}.jsonl", map(asdict, records))
            self._watch(step, metrics, records)
        if self.config.report_to:
            self.accelerator.log(dict(metrics), step=step)
        self.status("running", "train")

    def _watch(self, step: int, metrics: Mapping[str, float], records: Sequence[GroupRecord]) -> None:
        """Write down the step's alarms; the display shows them."""
        levels = [level for level in self.config.eval.splits if f"eval/{level}/accuracy" in metrics]
        asked = {level: len(read_jsonl(self.eval_path(level, step))) for level in levels}
        due = asked or not step % alarms.WINDOW
        before = read_jsonl(self.folder / "metrics.jsonl")[:-1] if due else []
        self.alarms = alarms.detect_alarms(metrics, records, before, asked)
        for alarm in self.alarms:
            append_jsonl(self.folder / "alarms.jsonl", {"step": step, **asdict(alarm)})

    def stop_unless_finite(self, step: int, learnt: Mapping[str, float], records: Sequence[GroupRecord]) -> None:
        """Refuse to go on from a loss or gradient that is no number; the step's samples are kept to be looked at."""
        bad = [name for name in ("loss", "grad_norm") if not abs(learnt[name]) < float("inf")]
        if bad:
            path = self.folder / "samples" / f"step-{step:06d}-not-finite.jsonl"
            if self.main:
                write_jsonl(path, map(asdict, records))
            raise UserError(
                f"step {step}: {' and '.join(bad)} not finite; the step's samples are in {path}. Lower "
                "train.learning_rate or train.max_grad_norm, or look for a reward that explodes; --resume goes on from "
                f"step {self.step}"
            )

    def rewind(self) -> None:
        """Forget what was written after the checkpoint: it will be written again, the same."""
        if self.main:
            for name in ("metrics.jsonl", "timing.jsonl", "alarms.jsonl"):
                rows = read_jsonl(self.folder / name)
                write_jsonl(self.folder / name, (row for row in rows if row["step"] <= self.step))

    def eval_path(self, level: str, step: int, view: str = "") -> Path:
        """`eval/LEVEL.jsonl` for the finished run, `eval/step-N/..` before; `../views/VIEW/..` for altered views."""
        where = self.folder / "eval" / ("" if step == self.config.train.max_steps else f"step-{step:06d}")
        return (where / "views" / view if view else where) / f"{level}.jsonl"

    def finish(self) -> dict[str, float]:
        """The run is done; returns its last step's metrics."""
        self.status("done", "")
        return self.last_metrics()

    def last_metrics(self) -> dict[str, float]:
        """The last line of metrics.jsonl."""
        self.wait()
        return read_jsonl(self.folder / "metrics.jsonl")[-1]


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """What the run ran on."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: version(name) for name in PACKAGES},
        "command": sys.argv,
    }
