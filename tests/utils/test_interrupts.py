"""SIGINT while a process is started."""

import os
import signal
import subprocess
import sys

import pytest

from rlvid.utils.interrupts import interrupts_deferred

INTERRUPTED_FORK = """
import os, signal, subprocess, sys
from contextlib import nullcontext
from rlvid.utils.interrupts import interrupts_deferred
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    with %s():
        child = subprocess.Popen(["true"], preexec_fn=lambda: None)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted with", child.args)
"""


@pytest.mark.parametrize(
    ("context", "said"), [("interrupts_deferred", "interrupted with ['true']"), ("nullcontext", "not interrupted")]
)
def test_an_interrupt_during_a_fork_is_not_lost(context, said):
    command = [sys.executable, "-c", INTERRUPTED_FORK % context]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip() == said


def test_what_the_handler_was_it_is_again():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert reached and signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_context_comes_first():
    with pytest.raises(FileNotFoundError), interrupts_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        subprocess.Popen(["no-such-command"])


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
