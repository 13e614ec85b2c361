"""Silence the logging of third-party libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import huggingface_hub
import torch
import transformers

BAR_DELAY = 2.0  # seconds after which a bar of transformers is shown: the embedded models load in less


def silence_libraries() -> None:
    """Let third-party libraries log errors only, and show only on a terminal the bars of what takes long."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # without it DeepSpeed, if installed, warns at every start
    transformers.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    transformers.logging.set_tqdm_hook(_delayed)


def _delayed(bar: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return bar(*args, **{"delay": BAR_DELAY, **options})
