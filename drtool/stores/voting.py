"""Whether a directory may hold a voter's register: only where link(2) is known to be atomic for everybody who sees it.

Local file systems by name; network and FUSE file systems are refused unless a person vouches for them (`vote: true`), since
caching on another host can hide a record that is there.
"""

import os
from pathlib import Path

from msgspec import Struct

MAY_VOTE = frozenset({"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs"})


class VoteVerdict(Struct, frozen=True, kw_only=True):
    """Whether a target may vote by itself, and why or why not, in words."""

    can_vote: bool
    file_system: str
    reason: str


def file_system_of(descriptor: int) -> str:
    """The type of the file system that an open file is on, as the kernel names it; empty where that cannot be learnt."""
    try:
        mount_id = _field(Path(f"/proc/self/fdinfo/{descriptor}").read_text(), "mnt_id")
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except FileNotFoundError:  # not Linux
        return ""
    return type_of_mount(mounts, mount_id)


def type_of_mount(mounts: str, mount_id: str) -> str:
    """The type of one mount in the text of /proc/self/mountinfo (proc(5): what follows the lone `-`)."""
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
