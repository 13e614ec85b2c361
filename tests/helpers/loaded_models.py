"""Models and tokenizers that tests read from the same folder again and again: each is read once, and copied."""

import copy
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from transformers import AutoTokenizer

from rlvid.distributed import uses_deepspeed
from rlvid.policy.loading import disable_cudnn_attention, load_pretrained
from rlvid.registry import model_path

MOST = 8  # models that are kept; the oldest goes first
MODELS = {}  # models and their paths by folder and attention, as `load_pretrained` returns them
TOKENIZERS = {}  # tokenizers by folder
read_tokenizer = AutoTokenizer.from_pretrained


@contextmanager
def models_read_once():
    """Within this context a policy's model and tokenizer are copies of those that were read from the folder before."""
    with (
        patch("rlvid.policy.model.load_pretrained", load_once),
        patch("rlvid.policy.model.AutoTokenizer.from_pretrained", read_tokenizer_once),
    ):
        yield


def load_once(name, train):
    """`load_pretrained`, which reads a folder once: that takes a fifth of a small run's time."""
    files = stamps(model_path(name))
    if not files or uses_deepspeed() or any(name == "adapter_config.json" for name, *_ in files):
        return load_pretrained(name, train)
    kind = name, train.attn_implementation, files
    if kind not in MODELS:
        MODELS[kind] = load_pretrained(name, train)
        drop_oldest(MODELS)
    disable_cudnn_attention()
    model, path = MODELS[kind]
    return copy.deepcopy(model), path


def read_tokenizer_once(path, **options):
    """`AutoTokenizer.from_pretrained`, which reads that of a folder once for policies, which do not change it."""
    if options != {"trust_remote_code": False}:  # not as `Policy.load` reads it, but for a tokenizer that is changed
        return read_tokenizer(path, **options)
    kind = path, stamps(path)
    if kind not in TOKENIZERS:
        TOKENIZERS[kind] = read_tokenizer(path, **options)
        drop_oldest(TOKENIZERS)
    return TOKENIZERS[kind]


def stamps(folder):
    """Names, sizes and times of a folder's files, which tell a changed folder from the one that was read."""
    files = sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def drop_oldest(kept):
    """Drop the oldest entry of a dictionary that holds more than `MOST`."""
    if len(kept) > MOST:
        del kept[next(iter(kept))]
