"""Deterministic uniform random numbers from a hash: the same on every machine, in every order, for ever."""

from __future__ import annotations

import hashlib


def uniform_hash(*parts: object) -> float:
    """Return a number in [0, 1) that depends only on the parts, joined as text with "|".

    >>> uniform_hash(0, "symmetric", "s1")
    0.46769183501434797
    """
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # a float64 holds 53 of the 64 bits
