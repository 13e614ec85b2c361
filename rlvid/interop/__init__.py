"""rlvid's rewards in other trainers, and theirs in rlvid."""
