"""Runs as real processes that can be killed: forked from a server that has torch loaded, so that they start at once."""

import multiprocessing
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from rlvid.utils.files import read_jsonl

SMALL = ["train.prompts_per_step=4", "train.num_generations=4", "train.max_completion_length=32"]
SMALL += [
    "train.lr_scheduler_type=constant",
    "train.learning_rate=1e-3",
    "eval.splits=['L1']",
    "eval.limit=3",
    "eval.batch_size=2",
]
SMALL += ["eval.transfer=[]", "data=kitchen/small"]
SERVER = multiprocessing.get_context("forkserver")
# DeepSpeed and its optimizer, which imports the compiler, take each run longer to import than a step takes.
PRELOADED = ["rlvid.trainer.loop", "algorithms.grpo", "deepspeed.runtime.zero.muon.muon_optimizer"]
PRELOADED += ["tests.helpers.processes", "tests.helpers.freeze"]
SERVER.set_forkserver_preload(PRELOADED)


class Child:
    """One `rlvid train nano` in `out`, with the settings `SMALL` or others, and more arguments."""

    def __init__(self, out, *arguments, settings=SMALL, **environment):
        self.log = Path(out).with_name(f"{Path(out).name}-{environment.get('RANK', 0)}.log")
        command = ["train", "nano", *settings, *arguments, "--out", str(out)]
        self.process = SERVER.Process(target=live, args=(command, environment, self.log))
        self.process.start()

    def send(self, sign):
        with suppress(ProcessLookupError):  # it was quicker
            os.kill(self.process.pid, sign)

    def end(self, within=450):
        """Its exit code and its output. DeepSpeed may have to build its kernels first, which takes minutes."""
        self.process.join(within)
        assert self.process.exitcode is not None, "it hangs"
        return self.process.exitcode, self.log.read_text()


def finish(*children):
    """Wait for runs to succeed; returns what each wrote to the terminal."""
    logs = []
    for child in children:
        code, log = child.end()
        assert code == 0, log
        logs.append(log)
    return logs


def live(command, environment, log):
    """Run `rlvid COMMAND` in the child process, with its output in the file `log`."""
    os.environ.update(environment)
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(words, 1)
    os.dup2(words, 2)
    from rlvid.__main__ import main

    sys.exit(main(command))


def several(out, *arguments, zero=0, ranks=(0, 1)):
    """Start the given ranks of a run of two processes, as torchrun would; `zero` is DeepSpeed's stage."""
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    world |= {"MASTER_PORT": str(20000 + os.getpid() % 20000), "ACCELERATE_USE_CPU": str(not zero)}
    world |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(zero)} if zero else {}
    return [Child(out, *arguments, **world, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in ranks]


def wait_for(out, lines, *children, within=200):
    """Wait until the run has begun and metrics.jsonl has so many lines."""
    deadline = time.monotonic() + within
    while len(read_jsonl(out / "metrics.jsonl")) < lines or not (out / "status.json").exists():
        assert all(child.process.is_alive() for child in children), [child.log.read_text() for child in children]
        assert time.monotonic() < deadline
        time.sleep(0.01)
