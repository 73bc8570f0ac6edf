"""Beside libfaketime only: a `time.sleep` that it does not break.

Python 3.11 sleeps until a moment of CLOCK_MONOTONIC, and libfaketime 0.9.10 makes nonsense of that moment (its issue 426,
mended later). A lock with a timeout waits by a call that it leaves alone.
"""

import threading
import time

time.sleep = lambda seconds: threading.Event().wait(seconds) and None
