"""The command line: `parser.py` declares the commands, `commands.py` runs them, `tables.py` renders lists."""
