"""Valid object names: names that every medium distinguishes, sorts alike and returns unchanged.

Lower-case only (some file systems fold case), no empty part and no `..` (servers collapse them), no part that begins
with a dot (temporary files are `.tmp-…`), and short enough for every medium.
"""

import re

from drtool.errors import StoreError

TEMPORARY_PREFIX = ".tmp-"
PROBE_DIRECTORY = "probe"
"""The directory for trials of a medium. It never contains repository data."""
MAX_NAME_BYTES = 512
_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,127}(?:/[a-z0-9_][a-z0-9._-]{0,127})*", re.ASCII)


def is_object_name(name: str) -> bool:
    """Return whether drtool could have written an object of this name."""
    return len(name) <= MAX_NAME_BYTES and _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Raise StoreError for an invalid name, before it reaches a medium."""
    if not is_object_name(name):
        raise StoreError(
            f"{name!r} is not an object name: use lower-case ASCII letters, digits, '.', '_' and '-', in parts joined by '/'"
        )


def may_hold(directory: str, prefix: str, start_after: str) -> bool:
    """Return whether a name below `directory` (which ends in `/`) can begin with `prefix` and sort after `start_after`."""
    meets_prefix = directory.startswith(prefix) or prefix.startswith(directory)
    return meets_prefix and (directory > start_after or start_after.startswith(directory))
