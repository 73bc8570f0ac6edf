"""What a directory passes on to the names that are made in it: default ACLs, and flags."""

import errno
import os

from drtool.sources.filesystem.acls import ACL_DEFAULT, ACLS
from drtool.sources.filesystem.attributes import HAS_XATTRS, flags_of, set_flags


def passes_on(way: int | str) -> bool:
    """Return whether new names in a directory inherit something."""
    if isinstance(way, int) and flags_of(way):
        return True
    return HAS_XATTRS and os.fsdecode(ACL_DEFAULT) in _names(way)


def _names(way: int | str) -> list[str]:
    try:
        return os.listxattr(way)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def forget_inherited(fd: int) -> None:
    """Take off a new directory what it inherited, before anything is put into it."""
    if HAS_XATTRS:
        for acl in set(map(os.fsdecode, ACLS)) & set(_names(fd)):
            os.removexattr(fd, acl)
    if flags_of(fd):
        set_flags(fd, 0)
