"""Small runs of the embedded model, in this process or as a command."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from unittest.mock import patch

from rlvid import api
from rlvid.policy.model import Policy
from rlvid.policy.parity import require_parity
from rlvid.video.decode import Decoder, Worker
from tests.helpers.loaded_models import models_read_once

DATA = "data=kitchen/small"  # quick to load
SMALL = [
    DATA,
    "train.prompts_per_step=4",
    "train.num_generations=4",
    "train.max_completion_length=32",
    "train.learning_rate=1e-3",
    "train.lr_scheduler_type=constant",
    "eval.splits=['L1']",
    "eval.limit=6",
    "eval.transfer=[]",
]
TINY = [
    DATA,
    "train.prompts_per_step=4",
    "train.num_generations=4",
    "train.max_completion_length=32",
    "train.max_steps=1",
    "eval.splits=['L1']",
    "eval.limit=2",
]


GATED = set()  # models that the parity gate has passed in this process
SEEING = set()  # models whose scores were found to depend on their pixels in this process
IDLE: list[Worker] = []  # decoding processes that outlive the runs of this process, since each takes a while to start
new_decoder = Decoder.__init__
check_pixels_matter = Policy.check_pixels_matter


def train(out, *overrides, resume=False):
    """Run `rlvid train nano` in this process with the `SMALL` settings; returns the run's folder."""
    with shared_by_runs():
        api.train("nano", [*SMALL, *overrides], out, resume)
    return out


@contextmanager
def shared_by_runs():
    """Let runs of this process share decoders, models, and the gates that a model has passed."""
    with (
        patch.object(Decoder, "__init__", share_workers),
        models_read_once(),
        patch("rlvid.trainer.setup.require_parity", require_parity_once),
        patch.object(Policy, "check_pixels_matter", check_pixels_once),
    ):
        yield


def require_parity_once(policy, prompts, train):
    """The parity gate, once for each model and way to train it: it takes a sixth of a small run's time."""
    kind = (policy.model.name_or_path, type(policy), train.lora_r, train.dtype, train.temperature, train.use_vllm)
    if kind not in GATED:
        require_parity(policy, prompts, train)
        GATED.add(kind)


def check_pixels_once(policy, prompt):
    """`Policy.check_pixels_matter`, once for each model: it takes a twentieth of a small run's time."""
    kind = policy.model.name_or_path, type(policy)
    if kind not in SEEING:
        check_pixels_matter(policy, prompt)
        SEEING.add(kind)


def share_workers(decoder, *arguments):
    """Make a decoder whose processes go to the next run's decoder when it is done with them."""
    new_decoder(decoder, *arguments)
    decoder.idle = IDLE


def stop_after(folder, step):
    """Make a finished run look as if it had been killed after a step's checkpoint."""
    for path in (folder / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    shutil.rmtree(folder / "eval", ignore_errors=True)  # a run without evaluation has none
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "running"}))


def command(*arguments, launcher=("-m", "rlvid")):
    """The command line `rlvid ARGUMENTS`, run by this Python."""
    return [sys.executable, *launcher, *map(str, arguments)]


def rlvid(*arguments, timeout=300, **options):
    """Run `rlvid ARGUMENTS` to its end; returns the finished process with its output as text."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout, **options)
