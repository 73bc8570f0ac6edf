"""Which names an object may have: those that every medium keeps apart, sorts alike and hands back unchanged.

Lower-case only (some file systems fold case), no empty part and no `..` (servers collapse them), no part that begins
with a dot (temporary files are `.tmp-…`), and short enough for every medium.
"""

import re

from drtool.errors import StoreError

TEMPORARY_PREFIX = ".tmp-"
PROBE_DIRECTORY = "probe"
"""Where a medium tries what it can do; nothing of a repository is ever there."""
MAX_NAME_BYTES = 512
_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,127}(?:/[a-z0-9_][a-z0-9._-]{0,127})*", re.ASCII)


def is_object_name(name: str) -> bool:
    """Whether `name` is one that drtool could have written."""
    return len(name) <= MAX_NAME_BYTES and _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Refuse a name before it reaches a medium."""
    if not is_object_name(name):
        raise StoreError(
            f"{name!r} is no object's name: lower-case ASCII letters, digits, '.', '_' and '-', in parts joined by '/'"
        )


def may_hold(directory: str, prefix: str, start_after: str) -> bool:
    """Whether a name below `directory` (it ends in `/`) can begin with `prefix` and sort after `start_after`."""
    meets_prefix = directory.startswith(prefix) or prefix.startswith(directory)
    return meets_prefix and (directory > start_after or start_after.startswith(directory))
