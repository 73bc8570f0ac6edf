"""Times as the destination's file system can hold them: rounded to its steps, or not at all. PURE."""

import os
from datetime import UTC, datetime, timedelta

COARSEST_NS = 2 * 10**9
"""The step of vfat."""
_STEPS_NS = (COARSEST_NS, 10**9, 10**7, 10**6, 10**3, 100)
"""The steps of vfat; ext3 and HFS+; exFAT; SMB servers; UDF and older NFS servers; NTFS."""
_CTIME_STEP_NS = 10**7
"""vfat holds other times than the mtime to 10 ms."""
_EXACT_FROM_NS, _EXACT_UNTIL_NS = 315_705_600 * 10**9, 2**31 * 10**9
"""Every file system holds the years 1980, with which vfat and exFAT begin, to 2038, with which ext3 ends."""


def same_time(found: os.stat_result, mtime_ns: int) -> bool:
    """Return whether a file has this mtime, as far as its file system can hold it.

    The step is the coarsest one of which the file's own times are multiples.
    """
    off_ns = abs(found.st_mtime_ns - mtime_ns)
    return not off_ns or off_ns < _step_ns(found)


def proves_exactness(mtime_ns: int) -> bool:
    """Return whether a file system that holds this time rounds none: no step but that of 1 ns has it."""
    return bool(mtime_ns % 10)


def is_exact(mtime_ns: int) -> bool:
    """Return whether each file system that does not round times can hold this one."""
    return _EXACT_FROM_NS <= mtime_ns < _EXACT_UNTIL_NS


def cannot_hold(found: os.stat_result, mtime_ns: int) -> str:
    """Return in words that a file has another time than it was given."""
    return f"this file system cannot hold {_shown(mtime_ns)}, and gave {_shown(found.st_mtime_ns)} instead"


def _step_ns(found: os.stat_result) -> int:
    for step_ns in _STEPS_NS:
        if found.st_mtime_ns % step_ns == 0 and found.st_ctime_ns % min(step_ns, _CTIME_STEP_NS) == 0:
            return step_ns
    return 1


def _shown(time_ns: int) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_ns // 10**9)).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:
        return f"{time_ns // 10**9} s since 1970"
