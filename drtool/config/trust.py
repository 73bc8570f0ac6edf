"""Whether a file may direct drtool, which may run as root: its owner, and who else can change it.

Invariants
    A file that drtool finds on its own, and every directory and link on its path, has a trusted owner, and no other user can
    write it. A sticky directory such as /tmp may be writable by all, because its entries are checked too.
    A file that the user names is refused only if every user of the host can write it.
    A group without members other than the owner counts as the owner (user private groups, umask 002), unless the file has
    an ACL.
"""

import grp
import os
import pwd
import shlex
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from drtool.errors import ConfigError

_ACL = "system.posix_acl_access"
_LINKS_MAX = 40


class Trust(Struct, frozen=True, kw_only=True):
    """The rules for trusted files."""

    uids: frozenset[int]
    """Trusted owners: root, and the user that drtool runs as."""
    named: bool = False
    """Whether the user named the file, or drtool found it."""
    unmapped_uid: int | None = None
    """In a user namespace, the owner that stands for every user outside of it, else None."""


class _Fault(NamedTuple):
    why: str
    remedy: str
    """The command that removes the fault."""


def check_trusted(path: Path, role: str, trust: Trust) -> None:
    """Raise ConfigError if an untrusted user could have written `path`, which is the `role`. A missing file passes."""
    try:
        fault = _fault_named(path) if trust.named else _fault_found(path, trust)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{path}: cannot be examined: {error.strerror}") from None
    if fault is not None:
        raise ConfigError(f"the {role} {path} is not used: {fault.why}", hint=fault.remedy)


def _fault_named(path: Path) -> _Fault | None:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & stat.S_IWOTH:
        return None
    return _Fault(f"every user of this host can write it (mode {_mode(found)})", _command("chmod", "o-w", path))


def _fault_found(path: Path, trust: Trust) -> _Fault | None:
    return next((fault for step, found in _steps(path) if (fault := _fault(step, found, trust)) is not None), None)


def _fault(path: Path, found: os.stat_result, trust: Trust) -> _Fault | None:
    is_directory = stat.S_ISDIR(found.st_mode)
    from_outside = is_directory and found.st_uid == trust.unmapped_uid
    if found.st_uid not in trust.uids and not from_outside:
        owners = " or ".join(_user(uid) for uid in sorted(trust.uids))
        owner = str(max(trust.uids))
        return _Fault(f"{path} belongs to {_user(found.st_uid)}, not to {owners}", _command("chown", "-h", owner, path))
    if stat.S_ISLNK(found.st_mode) or (is_directory and found.st_mode & stat.S_ISVTX):
        return None
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_private(path, found)):
        return _Fault(f"other users can write {path} (mode {_mode(found)})", _command("chmod", "go-w", path))
    return None


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every directory and link on the way to `path`, then the file. Links are resolved one at a time, as in the kernel."""
    here = Path("/")
    yield here, here.lstat()
    waiting, links = deque(path.absolute().parts[1:]), 0
    while waiting:
        part = waiting.popleft()
        if part == "..":
            here = here.parent
            continue
        found = (here / part).lstat()
        yield here / part, found
        if not stat.S_ISLNK(found.st_mode):
            here /= part
            continue
        links += 1
        if links > _LINKS_MAX:
            raise OSError(0, "too many links")
        target = (here / part).readlink()
        here = Path("/") if target.is_absolute() else here
        waiting.extendleft(reversed(target.parts[target.is_absolute() :]))


def _is_private(path: Path, found: os.stat_result) -> bool:
    """Return whether the group that may write `path` has no member but the owner."""
    if hasattr(os, "listxattr") and _ACL in os.listxattr(path):
        return False  # the group's bits are then the mask of an ACL, which may name any user
    owner = _user(found.st_uid)
    try:
        members = set(grp.getgrgid(found.st_gid).gr_mem)
    except KeyError:
        members = set()
    members |= {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == found.st_gid}
    return members <= {owner}


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _command(*words: object) -> str:
    return shlex.join(map(str, words))
