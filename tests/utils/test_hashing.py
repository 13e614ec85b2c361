"""Uniform numbers from a hash."""

from rlvid.utils.hashing import uniform_hash


def test_uniform_hash_never_changes_and_is_uniform():
    assert uniform_hash(0, "symmetric", "s1") == 0.46769183501434797
    assert uniform_hash("a") == uniform_hash("a") != uniform_hash("b")
    values = sorted(uniform_hash("u", i) for i in range(4000))
    assert all(abs(v - i / 4000) < 0.04 for i, v in enumerate(values))  # Kolmogorov-Smirnov: 0.04 is p < 1e-5
    assert values[0] >= 0 and values[-1] < 1
