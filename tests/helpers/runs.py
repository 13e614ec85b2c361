"""Small runs of the embedded model, in this process or as a command."""

import copy
import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from unittest.mock import patch

from transformers import AutoTokenizer

from rlvid import api
from rlvid.policy.loading import load_pretrained
from rlvid.policy.model import Policy
from rlvid.policy.parity import require_parity
from rlvid.registry import embedded_models
from rlvid.video.decode import Decoder, Worker

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


LOADED = {}  # embedded models as they are read from their folders, which no test changes
TOKENIZERS = {}  # their tokenizers by folder
GATED = set()  # models that the parity gate has passed in this process
SEEING = set()  # models whose scores were found to depend on their pixels in this process
IDLE: list[Worker] = []  # decoding processes that outlive the runs of this process, since each takes a while to start
new_decoder = Decoder.__init__
check_pixels_matter = Policy.check_pixels_matter
read_tokenizer = AutoTokenizer.from_pretrained


def train(out, *overrides, resume=False):
    """Run `rlvid train nano` in this process with the `SMALL` settings; returns the run's folder."""
    with shared_by_runs():
        api.train("nano", [*SMALL, *overrides], out, resume)
    return out


@contextmanager
def shared_by_runs():
    """Let runs of this process share decoders, embedded models, and the gates that a model has passed."""
    with (
        patch.object(Decoder, "__init__", share_workers),
        patch("rlvid.policy.model.load_pretrained", load_embedded_once),
        patch("rlvid.policy.model.AutoTokenizer.from_pretrained", read_tokenizer_once),
        patch("rlvid.trainer.setup.require_parity", require_parity_once),
        patch.object(Policy, "check_pixels_matter", check_pixels_once),
    ):
        yield


def load_embedded_once(name, train):
    """`load_pretrained`, which reads the files of an embedded model once: it takes a fifth of a small run's time."""
    if name not in embedded_models():
        return load_pretrained(name, train)
    kind = name, train.attn_implementation
    if kind not in LOADED:
        LOADED[kind] = load_pretrained(name, train)
    model, path = LOADED[kind]
    return copy.deepcopy(model), path


def require_parity_once(policy, prompts, train):
    """The parity gate, once for each model and way to train it: it takes a sixth of a small run's time."""
    kind = (policy.model.name_or_path, type(policy), train.lora_r, train.dtype, train.temperature, train.use_vllm)
    if kind not in GATED:
        require_parity(policy, prompts, train)
        GATED.add(kind)


def read_tokenizer_once(path, **options):
    """`AutoTokenizer.from_pretrained`, which reads that of an embedded model once: runs do not change it."""
    if not any(path == folder for _, folder in LOADED.values()):
        return read_tokenizer(path, **options)
    if path not in TOKENIZERS:
        TOKENIZERS[path] = read_tokenizer(path, **options)
    return TOKENIZERS[path]


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
