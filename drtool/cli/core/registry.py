"""All commands with their sections and exit codes, and the commands that are not built yet.

The command `plan run` is the function `plan_run` in `drtool.cli.commands.plan.run`. A command's module is imported only
when the command is named or listed in help, because cron starts drtool every few minutes.
"""

from typing import NamedTuple

Path = tuple[str, ...]
"""The words that name a command: `("manifest", "status")`."""


class Entry(NamedTuple):
    """One command: its section in the list of commands, and its exit codes."""

    section: str
    exits: tuple[int, ...]


_ALWAYS = (0, 1, 2)
_OPENS = (6, 10, 12)
_STOPS = (129, 130, 143)
_READS = (*_ALWAYS, *_OPENS, *_STOPS)

BASICS, LOOK, CARE, GROUP = "Back up and restore", "Look inside", "Look after", ""

COMMANDS: dict[Path, Entry] = {
    ("init",): Entry(BASICS, (*_ALWAYS, 6, 11, *_STOPS)),
    ("connect",): Entry(BASICS, (*_ALWAYS, *_OPENS, 11, *_STOPS)),
    ("backup",): Entry(BASICS, (*_ALWAYS, 3, 5, *_OPENS, *_STOPS)),
    ("restore",): Entry(BASICS, (*_ALWAYS, 3, *_OPENS, 11, *_STOPS)),
    ("snapshots",): Entry(LOOK, _READS),
    ("ls",): Entry(LOOK, _READS),
    ("find",): Entry(LOOK, _READS),
    ("diff",): Entry(LOOK, _READS),
    ("drift",): Entry(LOOK, _READS),
    ("dump",): Entry(LOOK, (*_READS, 3)),
    ("mount",): Entry(LOOK, _READS),
    ("browse",): Entry(LOOK, (*_READS, 3, 11)),
    ("stats",): Entry(LOOK, _READS),
    ("status",): Entry(CARE, (*_READS, 7)),
    ("report",): Entry(CARE, (*_READS, 7)),
    ("survive",): Entry(CARE, (*_READS, 4, 7)),
    ("forget",): Entry(CARE, (*_READS, 11)),
    ("tag",): Entry(CARE, _READS),
    ("hold",): Entry(CARE, _READS),
    ("verify",): Entry(CARE, (*_READS, 4, 5)),
    ("repair",): Entry(CARE, (*_READS, 4, 5, 11)),
    ("rebalance",): Entry(CARE, (*_READS, 4, 5)),
    ("prune",): Entry(CARE, (*_READS, 11)),
    ("doctor",): Entry(CARE, (*_ALWAYS, *_STOPS)),
    ("benchmark",): Entry(CARE, (*_ALWAYS, *_STOPS)),
    ("key", "list"): Entry(GROUP, _READS),
    ("key", "add"): Entry(GROUP, (*_READS, 5, 11)),
    ("key", "remove"): Entry(GROUP, (*_READS, 3, 11)),
    ("key", "kit"): Entry(GROUP, (*_READS, 11)),
    ("key", "rotate"): Entry(GROUP, (*_READS, 3, 5, 11)),
    ("target", "list"): Entry(GROUP, _READS),
    ("target", "add"): Entry(GROUP, (*_READS, 11)),
    ("target", "set"): Entry(GROUP, (*_READS, 11)),
    ("target", "drain"): Entry(GROUP, (*_READS, 11)),
    ("target", "remove"): Entry(GROUP, (*_READS, 5, 11)),
    ("ring", "show"): Entry(GROUP, _READS),
    ("ring", "preview"): Entry(GROUP, (*_READS, 11)),
    ("site", "list"): Entry(GROUP, _READS),
    ("site", "add"): Entry(GROUP, (*_READS, 11)),
    ("site", "replace"): Entry(GROUP, (*_READS, 11)),
    ("site", "remove"): Entry(GROUP, (*_READS, 11)),
    ("session", "list"): Entry(GROUP, _READS),
    ("session", "expire"): Entry(GROUP, (*_READS, 11)),
    ("plan", "list"): Entry(GROUP, (*_ALWAYS, *_STOPS)),
    ("plan", "check"): Entry(GROUP, (*_ALWAYS, *_STOPS)),
    ("plan", "run"): Entry(GROUP, (*_READS, 7, 8, 9, 11, 75)),
    ("plan", "resume"): Entry(GROUP, (*_READS, 7, 8, 9, 11, 75)),
    ("plan", "history"): Entry(GROUP, _READS),
    ("plan", "report"): Entry(GROUP, (*_READS, 4)),
    ("plan", "approve"): Entry(GROUP, (*_ALWAYS, 11, *_STOPS)),
    ("schedule", "show"): Entry(GROUP, (*_ALWAYS, 11, *_STOPS)),
    ("schedule", "install"): Entry(GROUP, (*_ALWAYS, 11, *_STOPS)),
    ("schedule", "remove"): Entry(GROUP, (*_ALWAYS, *_STOPS)),
    ("scratch", "list"): Entry(GROUP, (*_ALWAYS, *_STOPS)),
    ("scratch", "remove"): Entry(GROUP, (*_ALWAYS, 8, 11, *_STOPS)),
    ("fault", "list"): Entry(GROUP, (*_ALWAYS, *_STOPS)),
    ("fault", "clear"): Entry(GROUP, (*_ALWAYS, 8, *_STOPS)),
    ("manifest", "status"): Entry(GROUP, _READS),
    ("manifest", "log"): Entry(GROUP, _READS),
    ("manifest", "check"): Entry(GROUP, (*_READS, 4)),
    ("manifest", "compact"): Entry(GROUP, _READS),
    ("manifest", "recover"): Entry(GROUP, (*_READS, 11)),
}

GROUPS: dict[str, str] = {
    "target": "Manage the targets, the places that hold copies.",
    "key": "Manage the passwords that open the repository.",
    "ring": "Show or preview which target holds which data.",
    "site": "Manage the sites and their votes on the catalogue.",
    "session": "Show or end the sessions of running writers.",
    "plan": "Check, run and measure runbooks that rehearse a recovery.",
    "schedule": "Manage timers for backup, prune, verify, status and plans.",
    "scratch": "Show or remove the directories that runs restore into.",
    "fault": "Show or end the faults that drills inject at targets.",
    "manifest": "Inspect, check and recover the replicated catalogue.",
}

_LATER = """
key-split key-join
"""
LATER: frozenset[Path] = frozenset(tuple(word.split("-", 1)) for word in _LATER.split())
"""Commands of the contract that this version refuses."""

LATER_OPTIONS: dict[Path, tuple[str, ...]] = {
    ("init",): ("--erasure=",),
}
"""Options of built commands that this version refuses. A trailing `=` marks an option that takes a value."""


def module_of(path: Path) -> str:
    """Return the name of a command's module."""
    return ".".join(("drtool.cli.commands", *path))


def names_below(prefix: Path) -> list[str]:
    """Return the words that can follow `prefix`, in the order of the tables."""
    known = [*COMMANDS, *sorted(LATER)]
    return list(
        dict.fromkeys(path[len(prefix)] for path in known if path[: len(prefix)] == prefix and len(path) > len(prefix))
    )


def is_group(path: Path) -> bool:
    return path not in COMMANDS and path not in LATER and bool(names_below(path))
