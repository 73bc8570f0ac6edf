"""The capture of a host's system: an inventory, a script that rebuilds it, and its files.

Invariants
    The files are walked like any others (`walked`). This module captures the facts that no file contains.
    A program that exists but does not answer makes the backup incomplete. Facts that no program of this host could supply are
    listed in the inventory.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from drtool.sources.filesystem import Problem
from drtool.sources.port import Around, Attributes, Foreseen, Foresight, VirtualFile, from_bytes
from drtool.sources.system import asking
from drtool.sources.system.questions import Questions
from drtool.sources.system.rebuild import script
from drtool.sources.system.record import INVENTORY, KIND, Package, System

_FILES = (
    "etc",
    "var/spool/cron",
    "var/lib/dpkg/status",
    "var/lib/apt/extended_states",
    "usr/lib/os-release",
    "usr/share/keyrings",
    "usr/local/share/keyrings",
    "boot/loader",
    "boot/grub/grub.cfg",
    "boot/grub/grubenv",
    "boot/grub2/grub.cfg",
    "boot/extlinux",
)
_SCRIPT_MODE = 0o700


def walked(root: Path = Path("/")) -> list[Path]:
    """Return the files of the host that a rebuild needs, as far as they exist."""
    return [root / name for name in _FILES if os.path.lexists(root / name)]


class SystemSource:
    """An implementation of `port.Source`. Its files are below `/system`."""

    kind = KIND
    again = True
    paths = (b"/" + KIND.encode(),)

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def foresee(self, around: Around) -> Foresight:
        system = asking.system_of(self._root, Questions(around.environ))
        files = [Foreseen(INVENTORY, len(system.encoded())), Foreseen(_named("rebuild.sh"), len(script(system)))]
        return Foresight(tuple(files), tuple(_facts(system)))

    def files(self, around: Around) -> Generator[VirtualFile, None, None]:
        def failed(what: str, why: str) -> None:
            around.problem(Problem(_named(what), why))

        questions = Questions(around.environ, failed)
        system = asking.system_of(self._root, questions)
        texts = dict(asking.texts(system, questions))
        # gaps found while the texts were made belong in the inventory, too
        system = asking.with_lacking(system, questions)
        yield from_bytes(INVENTORY, system.encoded())
        yield VirtualFile(
            path=_named("rebuild.sh"),
            opened=from_bytes(b"", script(system)).opened,
            attributes=Attributes.own(_SCRIPT_MODE),
        )
        for name, lines in _lists(system):
            yield from_bytes(_named(name), "".join(f"{line}\n" for line in lines).encode())
        for name, text in texts.items():
            yield from_bytes(_named(name), text.encode())


def _named(name: str) -> bytes:
    return f"/{KIND}/{name}".encode()


def _facts(system: System) -> Iterator[str]:
    managers = sorted({package.manager for package in system.packages})
    for manager in managers:
        count = sum(package.manager == manager for package in system.packages)
        yield f"{count} packages of {manager}"
    yield f"{len(system.units)} units, {len(system.users)} users, {len(system.crontabs)} crontabs"
    for what, why in system.lacking.items():
        yield f"unknown: {what}: {why}"


def _lists(system: System) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the lists that the script reads line by line."""
    yield "packages.txt", [_pinned(package) for package in _system_packages(system)]
    yield "packages-manual.txt", [_pinned(package) for package in _system_packages(system) if package.manual]
    yield "packages-held.txt", [package.name for package in _system_packages(system) if package.held]
    yield "pip.txt", [f"{package.name}=={package.version}" for package in system.packages if package.manager == "pip"]
    yield "npm.txt", [f"{package.name}@{package.version}" for package in system.packages if package.manager == "npm"]
    yield "units.txt", [f"{state}\t{name}" for name, state in system.units.items() if state in ("enabled", "masked")]


def _system_packages(system: System) -> list[Package]:
    return [package for package in system.packages if package.manager in ("dpkg", "rpm")]


def _pinned(package: Package) -> str:
    between = "=" if package.manager == "dpkg" else "-"
    return f"{package.name}{between}{package.version}"
