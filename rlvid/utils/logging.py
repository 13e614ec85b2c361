"""Libraries that speak where nobody asked them to."""

from __future__ import annotations

import os
import sys

import huggingface_hub
import torch
import transformers


def silence_libraries() -> None:
    """Errors only from now on, and bars only where somebody watches."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed, where installed, warns on every start
    transformers.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
