"""Chance that belongs to what it falls on: a hash of names, the same everywhere and for ever."""

from __future__ import annotations

import hashlib


def uniform_hash(*parts: object) -> float:
    """A number in [0, 1) that the parts alone decide."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
