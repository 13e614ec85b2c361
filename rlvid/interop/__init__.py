"""rlvid's rewards at home in other trainers, and theirs in rlvid."""
