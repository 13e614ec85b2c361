"""The rewards, one file each. The folder is the registry: `accuracy` is `rewards/accuracy.py:accuracy`."""
