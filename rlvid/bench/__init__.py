"""The step benchmark: rlvid, its own loop without the shared prefix, the paper's scheme and TRL, side by side."""
