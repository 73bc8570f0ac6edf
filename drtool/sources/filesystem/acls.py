"""POSIX ACLs as Linux stores them in extended attributes: whom they name, and the same ACL with another host's numbers. PURE.

Invariants
    An ACL in which no number changes keeps its bytes, and so does one that is malformed.
    Two entries of one kind never name the same number: the one that was found by its name stays.

Source: `struct posix_acl_xattr_entry` in Linux's include/uapi/linux/posix_acl_xattr.h.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from drtool.trees import AclNames

ACL_ACCESS = b"system.posix_acl_access"
ACL_DEFAULT = b"system.posix_acl_default"
ACLS = frozenset({ACL_ACCESS, ACL_DEFAULT})
ACL_USER, ACL_GROUP = 0x02, 0x08
"""The tags of the entries that name a user or a group by number."""
_VERSION = 2
_NO_ID = 2**32 - 1

Xattrs = tuple[tuple[bytes, bytes], ...]
IdOf = Callable[[str, int], int]
"""(name, number) of a user or group in the snapshot to its number on this host."""


class AclEntry(NamedTuple):
    tag: int
    permissions: int
    id: int


def read_acl(value: bytes) -> list[AclEntry] | None:
    """Return the entries of an ACL; None if it is malformed."""
    if len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != _VERSION:
        return None
    return [AclEntry(*fields) for fields in struct.iter_unpack("<HHI", value[4:])]


def named_ids(xattrs: Xattrs) -> Iterator[tuple[int, int]]:
    """Yield (tag, number) of each user and group that the ACLs among these attributes name."""
    for attribute, value in xattrs:
        if attribute in ACLS:
            for entry in read_acl(value) or ():
                if entry.tag in (ACL_USER, ACL_GROUP):
                    yield entry.tag, entry.id


def mapped_xattrs(xattrs: Xattrs, names: AclNames, uid_of: IdOf, gid_of: IdOf) -> tuple[Xattrs, list[str]]:
    """Return the attributes with the numbers that the named users and groups have on this host.

    With them, in words, the ACL entries that are left out because another one names the same user or group here.
    """
    known = {(tag, number): name for tag, number, name in names}
    problems: list[str] = []
    return tuple(
        (attribute, _mapped(value, known, uid_of, gid_of, problems) if attribute in ACLS else value)
        for attribute, value in xattrs
    ), problems


def _mapped(value: bytes, known: dict[tuple[int, int], str], uid_of: IdOf, gid_of: IdOf, problems: list[str]) -> bytes:
    entries = read_acl(value)
    if entries is None:
        return value
    # Those with a name come first, so that they stay where two entries come to one number.
    ranked = sorted(entries, key=lambda entry: not known.get((entry.tag, entry.id)))
    mapped: dict[tuple[int, int], AclEntry] = {}
    for entry in ranked:
        here = _here(entry, known, uid_of, gid_of)
        if mapped.setdefault((here.tag, here.id), here) is not here:
            kind = "user" if entry.tag == ACL_USER else "group"
            problems.append(f"ACL entry of {kind} {entry.id}: another entry names the same {kind} on this host")
    if sorted(mapped.values()) == sorted(entries):
        return value
    rows = sorted(mapped.values(), key=lambda entry: (entry.tag, entry.id))
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *row) for row in rows)


def _here(entry: AclEntry, known: dict[tuple[int, int], str], uid_of: IdOf, gid_of: IdOf) -> AclEntry:
    if entry.tag not in (ACL_USER, ACL_GROUP) or entry.id == _NO_ID:
        return entry
    id_of = uid_of if entry.tag == ACL_USER else gid_of
    return entry._replace(id=id_of(known.get((entry.tag, entry.id), ""), entry.id))
