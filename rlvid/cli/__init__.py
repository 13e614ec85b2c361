"""The command line: `parser.py` declares the commands, `commands.py` runs them, `listing.py` is `rlvid list`."""
