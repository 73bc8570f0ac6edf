"""The selection of entries to restore. Excludes override includes, and a matched directory includes its contents. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from drtool.sources.filesystem import Matcher, patterns_below, text_of
from drtool.trees import Entry, FileType


class Verdict(NamedTuple):
    take: bool
    """Restore the entry itself."""
    enter: bool
    """Search below it, if it is a directory."""


class Selection:
    """Patterns are relative to the restored part, the directory `root` of the snapshot, or absolute."""

    def __init__(self, includes: Sequence[str], excludes: Sequence[str], root: bytes = b"/") -> None:
        self._includes = Matcher(rest for line in includes for rest in patterns_below(line, root) or ["*"])
        self._excludes = Matcher(rest for line in excludes for rest in patterns_below(line, root))

    def judge(self, folder: tuple[bytes, ...], entry: Entry, *, inherited: bool) -> Verdict:
        """Return the verdict on an entry. `inherited`: a parent directory was included, so everything below is."""
        if not self._includes and not self._excludes:
            return Verdict(take=True, enter=True)
        prefix = "".join(text_of(part) + "/" for part in folder)
        name, is_directory = text_of(entry.name), entry.type == FileType.DIRECTORY
        if self._excludes.verdict(prefix, name, is_directory=is_directory):
            return Verdict(take=False, enter=False)
        take = inherited or not self._includes or bool(self._includes.verdict(prefix, name, is_directory=is_directory))
        return Verdict(take, is_directory)
