"""Silence the logging of third-party libraries."""

from __future__ import annotations

import os
import sys

import huggingface_hub
import torch
import transformers


def silence_libraries() -> None:
    """Let third-party libraries log errors only, and show progress bars only on a terminal."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # without it DeepSpeed, if installed, warns at every start
    transformers.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
