"""A drill's faults on this host: files in the state directory, which every process that reaches targets observes.

`record` is one file's content, `files` the directory, and `watch` the faults now in force and the stores that apply
them.
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
