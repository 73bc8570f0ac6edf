"""One overlay as stored in the state directory: its fault, place, owner and end.

Invariants
    The end is counted since the boot, so setting the clock neither lengthens nor shortens a fault.
    Each reader decides on its own whether it is in force. No process has to be alive to end it.
"""

import os
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from drtool.config.urls import FILE_SCHEME, scheme_of
from drtool.model import SiteName, TargetName, site_of
from drtool.repository.processes import ProcessMark
from drtool.stores.overlay import FLIP_BYTES_MAX, Overlay

LONGEST_S = 7 * 86400.0
"""The maximum duration of a fault. A file with a longer one is ignored."""

State: TypeAlias = Literal["in force", "expired", "owner gone", "stopped", "elsewhere"]
"""stopped: by the kill switch. elsewhere: it belongs to another machine that shares the directory."""

OVER = frozenset({"expired", "owner gone", "stopped"})
"""The states in which the file only waits to be removed."""


class OverlayRecord(Overlay, frozen=True, kw_only=True):
    """The file. `url`: the full place, or empty for any place with that target's name."""

    target: TargetName
    url: str = ""
    owner: ProcessMark
    boot_deadline_s: float
    injected_at: str
    """By the wall clock, in RFC 3339, for people."""
    kill_switch: str = ""
    """A file whose existence ends it, in addition to the one in the state directory."""

    @property
    def site(self) -> SiteName:
        return site_of(self.target)

    def at(self, target: TargetName, url: str) -> bool:
        """Return whether it concerns that place. `url` is canonical."""
        return self.url == url if self.url else self.target == target

    def state(self, boot_now_s: float, *, stopped: bool) -> State:
        """Return its present state."""
        standing = self.owner.standing()
        if standing == "elsewhere":
            return "elsewhere"
        if standing == "gone":
            return "owner gone"
        if boot_now_s >= self.boot_deadline_s:
            return "expired"
        return "stopped" if stopped or bool(self.kill_switch and os.path.lexists(self.kill_switch)) else "in force"

    def problem(self, boot_now_s: float) -> str:
        """Return why it is invalid, or an empty string."""
        if not _finite(self.boot_deadline_s) or self.boot_deadline_s - boot_now_s > LONGEST_S:
            return "it would last longer than allowed"
        if not (0 <= self.latency_s <= LONGEST_S and 0 < self.flip_bytes <= FLIP_BYTES_MAX):
            return "its amount is out of range"
        if self.bytes_per_second is not None and self.bytes_per_second <= 0:
            return "its rate is out of range"
        return "it names no objects to corrupt" if self.kind == "corrupt" and not self.objects else ""


def canonical(url: str) -> str:
    """Return a place's URL in the canonical form for comparisons: directories without symbolic links."""
    if scheme_of(url) != "file":
        return url.rstrip("/")
    return FILE_SCHEME + str(Path(url.removeprefix(FILE_SCHEME)).resolve())


def decode(data: bytes) -> OverlayRecord:
    """Return the overlay. Raises msgspec.MsgspecError for bytes that are not one."""
    return msgspec.json.decode(data, type=OverlayRecord)


def encode(record: OverlayRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _finite(number: float) -> bool:
    return number == number and abs(number) != float("inf")  # noqa: PLR0124 - NaN is the number that is not itself
