"""Time limits for plug-ins. tests/trainer/test_faults.py has those of rewards in real runs."""

import signal
import time

from rlvid.utils.timeout import time_limit


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
