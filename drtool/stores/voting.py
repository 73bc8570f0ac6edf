"""Whether a directory may hold a voter's register: only where link(2) is known to be atomic for all hosts that see it.

Local file systems are accepted by name. Network and FUSE file systems are refused unless a person confirms them
(`vote: true`), because caching on another host can hide an existing record.
"""

import os
from pathlib import Path

from msgspec import Struct

MAY_VOTE = frozenset({"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs"})


class VoteVerdict(Struct, frozen=True, kw_only=True):
    """Whether a target may vote without confirmation, and the reason in words."""

    can_vote: bool
    file_system: str
    reason: str


def file_system_of(descriptor: int) -> str:
    """Return the type of an open file's file system, as the kernel names it, or an empty string if it is unknown."""
    try:
        mount_id = _field(Path(f"/proc/self/fdinfo/{descriptor}").read_text(), "mnt_id")
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except FileNotFoundError:  # not Linux
        return ""
    return type_of_mount(mounts, mount_id)


def type_of_mount(mounts: str, mount_id: str) -> str:
    """Return the type of one mount in the text of /proc/self/mountinfo (proc(5): the field after the lone `-`)."""
    for line in mounts.splitlines():
        words = line.split(" ")
        if words[0] == mount_id:
            return words[words.index("-") + 1]
    return ""


def verdict(file_system: str) -> VoteVerdict:
    """Judge by the allow-list."""
    if file_system in MAY_VOTE:
        return VoteVerdict(can_vote=True, file_system=file_system, reason=f"{file_system} is a local file system")
    known = f"{file_system} is not a local file system that is known to be safe"
    return VoteVerdict(
        can_vote=False,
        file_system=file_system,
        reason=f"{known if file_system else 'the type of its file system is unknown'}; `vote: true` overrides this",
    )


def _field(text: str, name: str) -> str:
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(name + ":")), "")
