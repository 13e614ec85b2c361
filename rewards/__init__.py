"""One file per reward. The folder is the registry: `accuracy` is `rewards/accuracy.py:accuracy`."""
