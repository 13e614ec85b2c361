"""Parts of `rlvid bench gpu` that fail in every way, and one that hides packages. Imports little: it starts fast."""

import os
import sys
import time

# Packages that no part may need; a machine with a GPU need not have them.
MISSING = ("av", "decord", "trl", "datasets", "argcomplete", "simplemma", "math_verify", "openai")


def raises(run):
    run.record(before=1)
    raise RuntimeError("planted")


def misses_its_bar(run):
    run.record(difference=2.0)
    run.require(False, "2 is more than 1")


def dies(run):
    os._exit(9)


def hangs(run):
    time.sleep(100)


def hides_packages(run):
    """From here on, an import of these packages in this process fails."""
    sys.modules.update(dict.fromkeys(MISSING))
