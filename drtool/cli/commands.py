"""All commands: the module and the exit codes of each, and the commands that are not built yet.

A command's module is imported only when the command is named or listed in help, because cron starts drtool every few
minutes.
"""

from typing import NamedTuple

Path = tuple[str, ...]
"""The words that name a command: `("manifest", "status")`."""


class Entry(NamedTuple):
    """One command. `module` holds a function of the command's name, and `exits` lists the exit codes of the command."""

    module: str
    section: str
    exits: tuple[int, ...]


_ALWAYS = (0, 1, 2)
_OPENS = (6, 10, 12)
_STOPS = (129, 130, 143)
_READS = (*_ALWAYS, *_OPENS, *_STOPS)

BASICS, LOOK, CARE, GROUP = "Back up and restore", "Look inside", "Look after", ""

COMMANDS: dict[Path, Entry] = {
    ("init",): Entry("drtool.cli.founding", BASICS, (*_ALWAYS, 6, 11, *_STOPS)),
    ("connect",): Entry("drtool.cli.connecting", BASICS, (*_ALWAYS, *_OPENS, 11, *_STOPS)),
    ("backup",): Entry("drtool.cli.backup", BASICS, (*_ALWAYS, 3, 5, *_OPENS, *_STOPS)),
    ("restore",): Entry("drtool.cli.restore", BASICS, (*_ALWAYS, 3, *_OPENS, 11, *_STOPS)),
    ("snapshots",): Entry("drtool.cli.look", LOOK, _READS),
    ("ls",): Entry("drtool.cli.look", LOOK, _READS),
    ("find",): Entry("drtool.cli.looking_inside", LOOK, _READS),
    ("diff",): Entry("drtool.cli.looking_inside", LOOK, _READS),
    ("drift",): Entry("drtool.cli.drifting", LOOK, _READS),
    ("dump",): Entry("drtool.cli.dumping", LOOK, (*_READS, 3)),
    ("mount",): Entry("drtool.cli.mounting", LOOK, _READS),
    ("stats",): Entry("drtool.cli.counting", LOOK, _READS),
    ("status",): Entry("drtool.cli.health", CARE, (*_READS, 7)),
    ("report",): Entry("drtool.cli.reporting", CARE, (*_READS, 7)),
    ("survive",): Entry("drtool.cli.surviving", CARE, (*_READS, 4, 7)),
    ("forget",): Entry("drtool.cli.forgetting", CARE, (*_READS, 11)),
    ("tag",): Entry("drtool.cli.tagging", CARE, _READS),
    ("hold",): Entry("drtool.cli.tagging", CARE, _READS),
    ("verify",): Entry("drtool.cli.verifying", CARE, (*_READS, 4, 5)),
    ("repair",): Entry("drtool.cli.repairing", CARE, (*_READS, 4, 5, 11)),
    ("rebalance",): Entry("drtool.cli.rebalancing", CARE, (*_READS, 4, 5)),
    ("prune",): Entry("drtool.cli.pruning", CARE, (*_READS, 11)),
    ("doctor",): Entry("drtool.cli.doctoring", CARE, (*_ALWAYS, *_STOPS)),
    ("benchmark",): Entry("drtool.cli.benchmark", CARE, (*_ALWAYS, *_STOPS)),
    ("key", "list"): Entry("drtool.cli.keys", GROUP, _READS),
    ("key", "add"): Entry("drtool.cli.keys", GROUP, (*_READS, 5, 11)),
    ("key", "remove"): Entry("drtool.cli.keys", GROUP, (*_READS, 3, 11)),
    ("key", "kit"): Entry("drtool.cli.kit", GROUP, (*_READS, 11)),
    ("key", "rotate"): Entry("drtool.cli.keys", GROUP, (*_READS, 3, 5, 11)),
    ("target", "list"): Entry("drtool.cli.places", GROUP, _READS),
    ("target", "add"): Entry("drtool.cli.places", GROUP, (*_READS, 11)),
    ("target", "set"): Entry("drtool.cli.places", GROUP, (*_READS, 11)),
    ("target", "drain"): Entry("drtool.cli.places", GROUP, (*_READS, 11)),
    ("target", "remove"): Entry("drtool.cli.places", GROUP, (*_READS, 5, 11)),
    ("ring", "show"): Entry("drtool.cli.places", GROUP, _READS),
    ("ring", "preview"): Entry("drtool.cli.rebalancing", GROUP, (*_READS, 11)),
    ("site", "list"): Entry("drtool.cli.sites", GROUP, _READS),
    ("site", "add"): Entry("drtool.cli.sites", GROUP, (*_READS, 11)),
    ("site", "replace"): Entry("drtool.cli.sites", GROUP, (*_READS, 11)),
    ("site", "remove"): Entry("drtool.cli.sites", GROUP, (*_READS, 11)),
    ("session", "list"): Entry("drtool.cli.sessions", GROUP, _READS),
    ("session", "expire"): Entry("drtool.cli.sessions", GROUP, (*_READS, 11)),
    ("plan", "list"): Entry("drtool.cli.plans", GROUP, (*_ALWAYS, *_STOPS)),
    ("plan", "check"): Entry("drtool.cli.plans", GROUP, (*_ALWAYS, *_STOPS)),
    ("plan", "run"): Entry("drtool.cli.plan_runs", GROUP, (*_READS, 7, 8, 9, 11, 75)),
    ("plan", "resume"): Entry("drtool.cli.plan_runs", GROUP, (*_READS, 7, 8, 9, 11, 75)),
    ("plan", "history"): Entry("drtool.cli.plan_reports", GROUP, _READS),
    ("plan", "report"): Entry("drtool.cli.plan_reports", GROUP, (*_READS, 4)),
    ("plan", "approve"): Entry("drtool.cli.plan_runs", GROUP, (*_ALWAYS, 11, *_STOPS)),
    ("schedule", "show"): Entry("drtool.cli.scheduling", GROUP, (*_ALWAYS, 11, *_STOPS)),
    ("schedule", "install"): Entry("drtool.cli.scheduling", GROUP, (*_ALWAYS, 11, *_STOPS)),
    ("schedule", "remove"): Entry("drtool.cli.scheduling", GROUP, (*_ALWAYS, *_STOPS)),
    ("scratch", "list"): Entry("drtool.cli.scratch", GROUP, (*_ALWAYS, *_STOPS)),
    ("scratch", "remove"): Entry("drtool.cli.scratch", GROUP, (*_ALWAYS, 8, 11, *_STOPS)),
    ("fault", "list"): Entry("drtool.cli.faults", GROUP, (*_ALWAYS, *_STOPS)),
    ("fault", "clear"): Entry("drtool.cli.faults", GROUP, (*_ALWAYS, 8, *_STOPS)),
    ("manifest", "status"): Entry("drtool.cli.catalogue", GROUP, _READS),
    ("manifest", "log"): Entry("drtool.cli.catalogue", GROUP, _READS),
    ("manifest", "check"): Entry("drtool.cli.catalogue", GROUP, (*_READS, 4)),
    ("manifest", "compact"): Entry("drtool.cli.catalogue", GROUP, _READS),
    ("manifest", "recover"): Entry("drtool.cli.catalogue", GROUP, (*_READS, 11)),
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


def names_below(prefix: Path) -> list[str]:
    """Return the words that can follow `prefix`, in the order of the tables."""
    known = [*COMMANDS, *sorted(LATER)]
    return list(
        dict.fromkeys(path[len(prefix)] for path in known if path[: len(prefix)] == prefix and len(path) > len(prefix))
    )


def is_group(path: Path) -> bool:
    return path not in COMMANDS and path not in LATER and bool(names_below(path))
