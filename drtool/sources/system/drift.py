"""Comparison of a host with its record. Pure.

Invariants
    A fact that is unknown on either side is not compared, and is reported by `lacking`: unknown is never equal.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from drtool.sources.system.record import SETTINGS_OF_ROOT, System

WHAT = ("packages", "units", "users", "groups", "crontabs", "repositories", "sysctl")
_QUESTIONS = {"packages": ("packages", "packages of pip", "packages of npm"), "sysctl": ("sysctl", SETTINGS_OF_ROOT)}


class Difference(Struct, frozen=True):
    """One difference from the record."""

    what: str
    """One of WHAT. For `drtool drift` also `files`."""
    change: str
    """`added`, `removed` or `changed` since the record."""
    name: str
    detail: str = ""
    """The recorded and the present value."""


def differences(recorded: System, found: System, what: Sequence[str] = WHAT) -> Iterator[Difference]:
    """Yield the differences in the order of `what`, then by name."""
    for each in what:
        before, after = _known(recorded, found, each)
        for name in sorted({*before, *after}):
            row = _difference(each, name, before.get(name), after.get(name))
            if row is not None:
                yield row


def counted(recorded: System, found: System, what: Sequence[str] = WHAT) -> dict[str, int]:
    """Return how many recorded items can be compared."""
    return {each: len(_known(recorded, found, each)[0]) for each in what}


def lacking(recorded: System, found: System, what: Sequence[str] = WHAT) -> dict[str, str]:
    """Return the parts of `what` that one side lacks, so that they cannot be compared, with the reasons."""
    reasons: dict[str, str] = {}
    for each in what:
        for question in _QUESTIONS.get(each, (each,)):
            for side, system in (("when it was recorded", recorded), ("now", found)):
                if question in system.lacking:
                    reasons[question] = f"{side}: {system.lacking[question]}"
    return reasons


def _known(recorded: System, found: System, what: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return both tables, without the items that one side lacks."""
    if what != "packages" and (what in recorded.lacking or what in found.lacking):
        return {}, {}
    before, after = _table(recorded, what), _table(found, what)
    if what == "packages":
        unknown = _unknown_managers(recorded, found)
        before, after = (
            {name: text for name, text in side.items() if name.partition(" ")[0] not in unknown}
            for side in (before, after)
        )
    if what == "sysctl" and SETTINGS_OF_ROOT in found.lacking:  # unreadable settings may still exist
        before = {name: text for name, text in before.items() if name in after}
    return before, after


def _difference(what: str, name: str, before: str | None, after: str | None) -> Difference | None:
    if before == after:
        return None
    if after is None:
        return Difference(what, "removed", name, f"{before} was recorded" if before else "")
    if before is None:
        # a setting of a newer kernel, or of a module that was not loaded, is not drift
        return None if what == "sysctl" else Difference(what, "added", name, after)
    return Difference(what, "changed", name, f"{after}; {before} was recorded")


def _table(system: System, what: str) -> Mapping[str, str]:
    """Return names, with the compared properties in words."""
    if what == "packages":
        rows: dict[str, list[str]] = {}
        for package in system.packages:
            held = ", held" if package.held else ""
            rows.setdefault(f"{package.manager} {package.name}", []).append(package.version + held)
        return {name: " and ".join(sorted(versions)) for name, versions in rows.items()}
    if what == "units":
        return system.units
    if what == "users":
        return {
            user.name: f"uid {user.uid}, gid {user.gid}, home {user.home}, shell {user.shell}" for user in system.users
        }
    if what == "groups":
        return {
            group.name: f"gid {group.gid}" + (f", with {', '.join(group.members)}" if group.members else "")
            for group in system.groups
        }
    if what == "crontabs":
        return dict.fromkeys(system.crontabs, "")
    if what == "repositories":
        return {name: " / ".join(lines) for name, lines in system.repositories.items()}
    if what == "sysctl":
        return system.sysctl
    raise ValueError(f"{what}: for a system, compare {', '.join(WHAT)}")


def _unknown_managers(recorded: System, found: System) -> tuple[str, ...]:
    """Return package managers that one side could not query."""
    questions = {*recorded.lacking, *found.lacking}
    managers = {"packages": ("dpkg", "rpm"), "packages of pip": ("pip",), "packages of npm": ("npm",)}
    return tuple(name for question, names in managers.items() if question in questions for name in names)
