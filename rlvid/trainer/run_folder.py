"""A run's folder: what is written there, and the lock that keeps other processes out.

config.toml           the resolved config      metrics.jsonl    one object per step: the same bits for the same seed
environment.json      versions, machine        timing.jsonl     seconds per phase: never the same, so kept apart
status.json           state, step and phase    samples/         every completion of every step, with its rewards
checkpoints/step-N/   see checkpoint.py        eval/            LEVEL.jsonl, one object per question
noise_manifest.jsonl  samples that noise changed        noise.json    its measured rates, and Youden's J where known
skipped.jsonl         clips that could not be read      alarms.jsonl  signs that the run learns the wrong thing
plugins/              a copy of each plug-in file from outside, NAME-HASH.py; config.toml has the hashes
protocol.toml         the protocol of the evaluation in full, see rlvid/protocols
weights.json          only of an evaluation: which weights were evaluated, see same_run.py
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from accelerate import Accelerator

from rlvid.config import COPIES, Config
from rlvid.distributed import is_peer_failure
from rlvid.errors import NOT_FINITE, UserError
from rlvid.protocols import RECORD, load_protocol, record
from rlvid.trainer.alarms import Alarm
from rlvid.trainer.counters import Counters, clip_key
from rlvid.trainer.records import GroupRecord
from rlvid.trainer.same_run import (
    WEIGHTS,
    differing_settings,
    holds_results,
    is_same_run,
    weights_fingerprint,
    weights_have_changed,
)
from rlvid.trainer.timer import StepTimer
from rlvid.types import Prompt
from rlvid.utils.files import (
    append_jsonl,
    read_json,
    read_jsonl,
    wrap_write_errors,
    write_jsonl,
    write_text,
)
from rlvid.video.read import BadVideo

PACKAGES = ("rlvid", "torch", "transformers", "trl", "accelerate", "numpy")
LEFT_BY_A_START = ("noise_manifest.jsonl", "noise.json", "skipped.jsonl")  # before a step or an evaluation
PER_STEP_FILES = ("metrics.jsonl", "timing.jsonl", "alarms.jsonl")


class RunFolder:
    """The folder of one run, claimed by one launch at a time; only the main process writes.

    As a context manager it releases the claim at the end, and writes down an error that ends the run.
    """

    def __init__(self, path: Path, config: Config, accelerator: Accelerator, timer: StepTimer) -> None:
        self.path, self.config, self.accelerator, self.timer = path, config, accelerator, timer
        self.id, self.toml = config.id, config.to_toml()  # once: a plug-in file may change while the run lasts
        self.is_main = accelerator.is_main_process
        self.rank, self.world_size = accelerator.process_index, accelerator.num_processes
        self.is_done = False  # the run had finished before this launch
        self.logged_step = 0
        self.saved_step = 0  # the step of the last checkpoint
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        peer_failure = self.peer_failure_error() if is_peer_failure(error) else None
        if cause := peer_failure or error:
            state = "failed" if isinstance(cause, Exception) else "interrupted"
            with suppress(UserError):  # such as of a full disk, which may be what ends the run
                self.write_status(state, "", f"{type(cause).__name__}: {cause}")
        if self.config.report_to:
            self.accelerator.end_training()
        if self._lock:
            self._lock.close()
        if peer_failure:
            raise peer_failure from error

    def claim(self, resume: bool) -> None:
        """Create the folder, or take up the run in it. A collective.

        Raises:
            UserError: if the folder holds a run of another config, or this run and `resume` is False, or is in use.
        """
        status, run_id = read_json(self.path / "status.json"), self.id
        if status and not holds_results(self.path):  # of a start that failed: it leaves no claim
            status = None
        if status:
            if not is_same_run(self.path, self.config, status["id"]):
                differs = differing_settings(self.path, self.toml)
                raise UserError(
                    f"{self.path} holds run {status['id']} and this config is run {run_id}{differs}: give another --out"
                )
            run_id = self.id = status["id"]  # it stays the run that it was
            self.toml = saved.read_text() if (saved := self.path / "config.toml").is_file() else self.toml
        if status and not resume:
            if status["state"] == "done":
                raise UserError(
                    f"{self.path} holds this run, and it is done: rlvid report reads it; or give another --out"
                )
            raise UserError(
                f"{self.path} holds this run already ({status['state']}): continue it with --resume, or give --out"
            )
        self.is_done = status is not None and status["state"] == "done"
        weights = "" if self.config.train.max_steps else weights_fingerprint(self.config.model)
        if status and weights_have_changed(self.path, weights):
            raise UserError(
                f"{self.path} holds an evaluation of {self.config.model} whose weights have changed since: "
                "evaluate the new ones into another folder with --out"
            )
        self.wait()  # until every process has read the status
        if self.is_main and not self.is_done:
            self._take_lock()
            if status is None:
                for name in LEFT_BY_A_START:
                    (self.path / name).unlink(missing_ok=True)
                if weights:
                    write_text(self.path / WEIGHTS, json.dumps({"fingerprint": weights}))
            write_text(self.path / "config.toml", self.toml)
            write_text(self.path / RECORD, record(load_protocol(self.config.eval.protocol)))
            self._copy_plugins()
            write_text(self.path / "environment.json", json.dumps(environment(self.accelerator), indent=1))
            self.write_status("running", "load")
        if self.config.report_to:
            self.accelerator.init_trackers("rlvid", config={"id": run_id, "toml": self.toml})
        self.wait()

    def _copy_plugins(self) -> None:
        """Copy each plug-in file from outside to plugins/NAME-HASH.py; config.toml holds the hashes."""
        for plugin in self.config.plugins:
            if plugin.file:
                text = Path(plugin.copy or plugin.file).read_text()
                write_text(self.path / COPIES / plugin.copy_name(), text)

    def _take_lock(self) -> None:
        with wrap_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{self.path} is in use by another process: wait for it, or give another --out") from error

    def wait(self) -> None:
        """Wait until every process has arrived here; raise UserError if one has died or does not come in time."""
        try:
            self.accelerator.wait_for_everyone()
        except RuntimeError as error:
            if is_peer_failure(error):
                raise self.peer_failure_error() from error
            raise

    def peer_failure_error(self) -> UserError:
        """The error to raise where another process has ended or is late; names rank, step and phase of this one."""
        return UserError(
            f"process {self.rank} of {self.world_size}, after step {self.logged_step}, in phase {self.timer.phase!r}, "
            "waited for the other processes, and one of them ended "
            f"or did not arrive within train.ddp_timeout = {self.config.train.ddp_timeout} s: check its log. --resume "
            f"continues from step {self.saved_step}, also with a longer train.ddp_timeout"
        )

    def write_status(self, state: str, phase: str, message: str = "") -> None:
        """Write status.json, which `rlvid grid` and `rlvid watch` read. An empty `phase` keeps the timer's."""
        self.timer.phase = phase or self.timer.phase
        if self.is_main:
            status = {
                "state": state,
                "id": self.id,
                "step": self.saved_step,
                "steps": self.config.train.max_steps,
                "phase": phase,
                "message": message,
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            write_text(self.path / "status.json", json.dumps(status))

    def log(
        self,
        step: int,
        metrics: Mapping[str, float],
        records: Sequence[GroupRecord],
        alarms: Sequence[Alarm],
        judge_costs: Mapping[str, float],
    ) -> None:
        """Write a step's metrics, seconds per phase, samples and alarms, and report the metrics to the trackers."""
        self.logged_step, seconds = step, self.timer.reset()
        if self.is_main:
            append_jsonl(self.path / "metrics.jsonl", {"step": step, **metrics})
            timing = {f"timing_s/{phase}": value for phase, value in seconds.items()}
            timing |= {"step": step, "step_time": sum(seconds.values()), **judge_costs}
            append_jsonl(self.path / "timing.jsonl", timing)
            if records:
                write_jsonl(self.path / "samples" / f"step-{step:06d}.jsonl", (record.to_row() for record in records))
            for alarm in alarms:
                append_jsonl(self.path / "alarms.jsonl", {"step": step, **asdict(alarm)})
        if self.config.report_to:
            self.accelerator.log(dict(metrics), step=step)
        self.write_status("running", "train")

    def refuse_non_finite(self, step: int, metrics: Mapping[str, float], records: Sequence[GroupRecord]) -> None:
        """Raise UserError where a step's loss or gradient norm is not finite; its samples are kept for inspection."""
        bad = [name for name in ("loss", "grad_norm") if not abs(metrics[name]) < float("inf")]
        if bad:
            path = self.path / "samples" / f"step-{step:06d}-not-finite.jsonl"
            if self.is_main:
                write_jsonl(path, (record.to_row() for record in records))
            raise UserError(
                f"step {step}: {' and '.join(bad)} {NOT_FINITE}; the step's samples are in {path}. Lower "
                "train.learning_rate or train.max_grad_norm, or check the rewards for one that explodes, in a new run "
                "with another --out"
            )

    def on_bad_clip(self, counters: Counters) -> Callable[[Prompt, BadVideo], None]:
        """What to do with an unreadable clip: raise its error, or count it and list it in skipped.jsonl.

        `video.on_bad_video` decides.
        """

        def skip(prompt: Prompt, error: BadVideo) -> None:
            if self.config.video.on_bad_video == "error":
                advice = 'rlvid data check finds all such clips; video.on_bad_video="skip" goes on without them'
                raise UserError(f"{error}; {advice}") from error
            key = clip_key(prompt.level, prompt.id)
            if key not in counters.skipped:
                counters.skipped[key] = str(error)
                append_jsonl(self.path / "skipped.jsonl", {"level": prompt.level, "id": prompt.id, "error": str(error)})

        return skip

    def rewind(self, step: int, skipped: Collection[str]) -> None:
        """Remove what was logged and answered after `step`, the last checkpoint's: it will be made again. A collective.

        `skipped` are the clips that could not be read until then, by their `clip_key`.

        The steps are taken again, and on a GPU or with another number of threads they may lead to another policy. So an
        evaluation after them is not continued; one of `step` itself is.
        """
        self.saved_step = step
        if self.is_main:
            for name in PER_STEP_FILES:
                rows = read_jsonl(self.path / name)
                write_jsonl(self.path / name, (row for row in rows if row["step"] <= step))
            for path in self.path.glob("eval/**/*.jsonl"):
                folder, *_ = path.relative_to(self.path / "eval").parts  # see `eval_path`
                if (int(folder[5:]) if folder.startswith("step-") else self.config.train.max_steps) > step:
                    path.unlink()
            skips = self.path / "skipped.jsonl"
            if skips.is_file() and self.config.train.max_steps:  # an evaluation keeps its answers, and so its skips
                by_key = {clip_key(row.get("level", ""), row["id"]): row for row in read_jsonl(skips)}
                write_jsonl(skips, (row for key, row in by_key.items() if key in skipped))
        self.wait()

    def eval_path(self, level: str, step: int, view: str = "") -> Path:
        """The file of a level's answers: `eval/LEVEL.jsonl` after the last step, `eval/step-N/LEVEL.jsonl` before.

        Answers under an altered view are in `views/VIEW/` beside them.
        """
        folder = self.path / "eval" / ("" if step == self.config.train.max_steps else f"step-{step:06d}")
        return (folder / "views" / view if view else folder) / f"{level}.jsonl"

    def finish(self) -> dict[str, float]:
        """Mark the run as done; returns the last line of metrics.jsonl. A collective."""
        if not self.is_done:
            self.write_status("done", "")
        self.wait()
        return read_jsonl(self.path / "metrics.jsonl")[-1]


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """What the run ran on: Python, platform, devices and package versions."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: version(name) for name in PACKAGES},
        "command": sys.argv,
        "folder": str(Path.cwd()),  # what relative paths of the config are relative to
    }
