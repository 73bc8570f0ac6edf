"""A drill's faults on this host: files in the state directory, seen by every process that reaches targets.

`record` is one file's content, `files` the directory, `watch` what is in force now and the stores around which it is put.
"""

from drtool.repository.overlays.files import BadFile, OverlayFiles, Shelf, Swept
from drtool.repository.overlays.record import LONGEST_S, OverlayRecord, State, canonical
from drtool.repository.overlays.watch import NO_OVERLAYS, Overlays, sentence, warnings

__all__ = [
    "LONGEST_S",
    "NO_OVERLAYS",
    "BadFile",
    "OverlayFiles",
    "OverlayRecord",
    "Overlays",
    "Shelf",
    "State",
    "Swept",
    "canonical",
    "sentence",
    "warnings",
]
