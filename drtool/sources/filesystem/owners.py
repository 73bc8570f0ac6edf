"""Names of users and groups: by number while capturing, by name while putting back; each asked once.

Invariants
    A number without a name is captured as an empty string, never as its digits.
    A name that does not exist on this host falls back to the number, so that nothing is lost on bare metal.
"""

import grp
import pwd


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


class OwnerIds:
    """Which numbers an entry's owner has on this host: by name where the name exists, else as captured."""

    __slots__ = ("_groups", "_users", "numeric_ids")

    def __init__(self, *, numeric_ids: bool = False) -> None:
        self.numeric_ids = numeric_ids
        self._users: dict[str, int] = _UserIds()
        self._groups: dict[str, int] = _GroupIds()

    def uid(self, user: str, uid: int) -> int:
        """The number to give to a file of `user`, who had the number `uid`."""
        if self.numeric_ids or not user:
            return uid
        known = self._users[user]
        return uid if known < 0 else known

    def gid(self, group: str, gid: int) -> int:
        """The number to give to a file of `group`, which had the number `gid`."""
        if self.numeric_ids or not group:
            return gid
        known = self._groups[group]
        return gid if known < 0 else known
