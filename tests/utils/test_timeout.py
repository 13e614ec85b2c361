"""Time limits for plug-ins. tests/trainer/test_faults.py has those of rewards in real runs."""

import signal
import time

import pytest

from rlvid.errors import UserError
from rlvid.utils.timeout import time_limit, time_limit_paused


def test_an_outer_alarm_goes_on_and_the_time_limit_leaves_none_behind():
    rings = []
    before = signal.signal(signal.SIGALRM, lambda *_: rings.append(time.monotonic()))
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with time_limit(0.2, "too slow"):
            time.sleep(0.05)
        time.sleep(0.4)
        assert len(rings) == 1 and 0.25 < rings[0] - start < 0.45
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_pause_does_not_count_and_leaves_as_much_time_as_before():
    start = time.monotonic()
    with pytest.raises(UserError, match="too slow"), time_limit(0.3, "too slow"):
        with time_limit_paused():
            time.sleep(0.6)
        time.sleep(5)
    assert 0.85 < time.monotonic() - start < 3


def test_a_pause_without_a_time_limit_leaves_other_alarms_alone():
    rings = []
    before = signal.signal(signal.SIGALRM, lambda *_: rings.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with time_limit_paused():
            time.sleep(0.3)
            assert len(rings) == 1
    finally:
        signal.signal(signal.SIGALRM, before)
