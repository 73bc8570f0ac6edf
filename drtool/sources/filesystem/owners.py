"""Names of users and groups: by number while capturing, by name while putting back; each asked once.

Invariants
    A number without a name is captured as an empty string, never as its digits.
    A name that does not exist on this host falls back to the number, so that nothing is lost on bare metal.
    What the user maps comes first, also before numbers.
    The users and groups that an ACL names follow the same rules as owners.
"""

import grp
import pwd
from collections.abc import Callable, Iterable, Mapping

from drtool.errors import UsageError
from drtool.sources.filesystem.acls import ACL_USER, Xattrs, mapped_xattrs, named_ids
from drtool.trees import Entry, with_acl_names


class _UserNames(dict[int, str]):
    def __missing__(self, uid: int) -> str:
        try:
            name = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            name = ""
        self[uid] = name
        return name


class _GroupNames(dict[int, str]):
    def __missing__(self, gid: int) -> str:
        try:
            name = grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError):
            name = ""
        self[gid] = name
        return name


class OwnerNames:
    """uid → user name and gid → group name, remembered: `users` and `groups` answer any number (dicts that fill)."""

    __slots__ = ("groups", "users")

    def __init__(self) -> None:
        self.users: dict[int, str] = _UserNames()
        self.groups: dict[int, str] = _GroupNames()

    def with_acl_names(self, entry: Entry) -> Entry:
        """Return the entry with the names of the users and groups in its ACLs; the very object if it has them already.

        A name that was captured stays where the number has none any more.
        """
        ids = set(named_ids(entry.xattrs))
        if not ids:
            return entry if not entry.acl_names else with_acl_names(entry, ())
        before = {(tag, number): name for tag, number, name in entry.acl_names}
        names = ((*each, self._name(*each) or before.get(each, "")) for each in sorted(ids))
        return with_acl_names(entry, tuple(row for row in names if row[2]))

    def _name(self, tag: int, number: int) -> str:
        return self.users[number] if tag == ACL_USER else self.groups[number]


class _UserIds(dict[str, int]):
    def __missing__(self, name: str) -> int:
        try:
            uid = pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            uid = -1
        self[name] = uid
        return uid


class _GroupIds(dict[str, int]):
    def __missing__(self, name: str) -> int:
        try:
            gid = grp.getgrnam(name).gr_gid
        except (KeyError, ValueError):
            gid = -1
        self[name] = gid
        return gid


_UNMAPPED: Mapping[str, int] = {}


class OwnerIds:
    """Which numbers an entry's owner has on this host: as mapped, by name where the name exists, else as captured.

    `users` and `groups` map names, or numbers as text, to numbers of this host.
    """

    __slots__ = ("_groups", "_mapped_groups", "_mapped_users", "_users", "numeric_ids")

    def __init__(
        self, *, numeric_ids: bool = False, users: Mapping[str, int] = _UNMAPPED, groups: Mapping[str, int] = _UNMAPPED
    ) -> None:
        self.numeric_ids = numeric_ids
        self._mapped_users = users
        self._mapped_groups = groups
        self._users: dict[str, int] = _UserIds()
        self._groups: dict[str, int] = _GroupIds()

    def uid(self, user: str, uid: int) -> int:
        """The number to give to a file of `user`, who had the number `uid`."""
        if self._mapped_users and (mapped := _mapped(self._mapped_users, user, uid)) is not None:
            return mapped
        if self.numeric_ids or not user:
            return uid
        known = self._users[user]
        return uid if known < 0 else known

    def gid(self, group: str, gid: int) -> int:
        """The number to give to a file of `group`, which had the number `gid`."""
        if self._mapped_groups and (mapped := _mapped(self._mapped_groups, group, gid)) is not None:
            return mapped
        if self.numeric_ids or not group:
            return gid
        known = self._groups[group]
        return gid if known < 0 else known

    def xattrs(self, entry: Entry) -> tuple[Xattrs, list[str]]:
        """Return the entry's attributes with ACLs for this host, and in words the ACL entries that it cannot have."""
        if not entry.xattrs:
            return (), []
        return mapped_xattrs(entry.xattrs, entry.acl_names, self.uid, self.gid)


def _mapped(mapping: Mapping[str, int], name: str, number: int) -> int | None:
    by_name = mapping.get(name) if name else None
    return mapping.get(str(number)) if by_name is None else by_name


def read_user_mapping(texts: Iterable[str]) -> dict[str, int]:
    """`FROM:TO` of users, each a name or a number; TO must be known to this host if it is a name. UsageError."""
    return _read_mapping(texts, "--map-owner", "user", _UserIds().__getitem__)


def read_group_mapping(texts: Iterable[str]) -> dict[str, int]:
    """The same of groups."""
    return _read_mapping(texts, "--map-group", "group", _GroupIds().__getitem__)


def _read_mapping(texts: Iterable[str], option: str, kind: str, look_up: Callable[[str], int]) -> dict[str, int]:
    mapping = {}
    for text in texts:
        old, colon, new = text.partition(":")
        if not old or not new or not colon or ":" in new:
            raise UsageError(f"{option} {text}: it is not FROM:TO", hint=f"{option} alice:bob, or with numbers")
        number = int(new) if new.isascii() and new.isdigit() else look_up(new)
        if not 0 <= number < 2**32 - 1:
            raise UsageError(
                f"{option} {text}: this host has no {kind} {new}", hint="create it first, or give a number"
            )
        mapping[old] = number
    return mapping
