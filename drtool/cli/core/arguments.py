"""One pass over argv that moves global options before the command, so they work on both sides of it.

The module is pure and imports nothing, so `--version` and the output form of an error are known before Typer is
imported.

Invariants
    Nothing at or after `--` moves. The value of an option does not move either, even if it looks like an option.
    The moved words keep their order, and so do the words that stay. No word is added or lost, though a cluster such as
    `-lq` may be split in two.
"""

from __future__ import annotations

from itertools import islice

# True for type checkers. Importing typing would double the time of `drtool --version`
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GLOBAL_VALUES = frozenset(("-c", "--config", "--password-file", "--metrics-file"))
GLOBAL_FLAGS = frozenset(("--json", "--json-lines", "-q", "--quiet", "-v", "--verbose", "--no-color", "--version"))

_VALUES = """
target copies erasure arbiter write-config source exclude exclude-file exclude-larger-than files-from files-from0 tag host time
skip-if-newer-than stdin-name latest limit archive to include overwrite from-site level sample budget snapshot site
manifest-from weight add remove drain url from lose var incident-at html junit run group-by keep-tag keep-last keep-hourly
keep-daily keep-weekly keep-monthly keep-yearly keep-within keep-within-hourly keep-within-daily keep-within-weekly
keep-within-monthly keep-within-yearly new-password-file also-password-file label text seconds size
to-dsn map-owner map-group database directory set reason until type object max-objects max-bytes seed note what
"""
COMMAND_VALUES = frozenset(f"--{name}" for name in _VALUES.split())
"""All command options that take a value. A test compares them with the real parser. None of them has a short form."""


class Arguments:
    """argv in two parts. The parser gets `moved + rest`.

    `dangling` is a global option at the very end that has no value.
    """

    __slots__ = ("dangling", "moved", "rest")

    def __init__(self, moved: Sequence[str], rest: Sequence[str], dangling: str | None) -> None:
        self.moved = tuple(moved)
        self.rest = tuple(rest)
        self.dangling = dangling

    @property
    def argv(self) -> list[str]:
        return [*self.moved, *self.rest]

    def has(self, *flags: str) -> bool:
        """Return whether one of the global `flags` is given."""
        return self.count(*flags) > 0

    def count(self, *flags: str) -> int:
        """Return how often one of the global `flags` is given."""
        return sum(word in flags for word in self.moved)


def arrange(argv: Sequence[str]) -> Arguments:
    """Split argv into global options and the rest."""
    moved: list[str] = []
    rest: list[str] = []
    dangling: str | None = None
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        if word in GLOBAL_FLAGS or (word.startswith("--") and word.partition("=")[0] in GLOBAL_VALUES and "=" in word):
            moved.append(word)
        elif word in GLOBAL_VALUES:
            moved += (pair := [word, *islice(words, 1)])
            dangling = word if len(pair) == 1 else None
        elif word in COMMAND_VALUES:
            rest += [word, *islice(words, 1)]
        elif word.startswith("-") and not word.startswith("--") and len(word) > 2:
            mine, others = _cluster(word)
            moved += mine
            rest += others
            if mine and mine[-1] == "-c":
                moved += (value := list(islice(words, 1)))
                dangling = None if value else "-c"
        else:
            rest.append(word)
    return Arguments(moved, rest, dangling)


def _cluster(word: str) -> tuple[list[str], list[str]]:
    """Split a cluster of short options: `-vlq` → (`-v`, `-q`), (`-l`). `-cFILE` and `-vcFILE` carry a value."""
    mine: list[str] = []
    others = ""
    for index, letter in enumerate(word[1:], 1):
        if f"-{letter}" in GLOBAL_VALUES:
            mine.append(f"-{letter}" + word[index + 1 :])
            break
        if f"-{letter}" in GLOBAL_FLAGS:
            mine.append(f"-{letter}")
        else:
            others += letter
    return mine, [f"-{others}"] if others else []
