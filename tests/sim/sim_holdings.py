"""Each site that accepted a head can tell all of it alone: after every write of a register, and in the end.

Left out: sites that lie, that lost or forgot what they held, or that move to a copy of themselves. There the register that
ends is at the one place, and what is stored meanwhile goes to the other.
"""

from typing import TYPE_CHECKING, Any

from sim_sites import Liar, Site

from drtool.crypto import SealKind
from drtool.manifest import ports
from drtool.manifest.head import open_head, open_row
from drtool.manifest.names import (
    ACCEPTORS,
    Life,
    life_of,
    object_key,
    sealed_name,
    state_name,
    version_name,
    version_of,
)
from drtool.manifest.pages import Checkpoint
from drtool.paxos import decode_record

if TYPE_CHECKING:
    from sim_run import Run


class Holdings:
    """Which objects the heads name, and whether they lie where the heads do."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._checkpoints: dict[bytes, bytes | None] = {}  # by sealed head
        self._pages: dict[bytes, frozenset[str]] = {}  # by the name of a checkpoint

    def after(self, site: Any, request: ports.SiteRequest, reply: Any) -> None:
        """Judge one request that was answered."""
        written = isinstance(request, ports.PutIfAbsent) and reply is True
        if not written and not (isinstance(request, ports.Swap) and isinstance(reply, str)):
            return
        life = life_of(request.name)
        if life is not None and request.name != sealed_name(life.prefix) and self._counts(request.site, site):
            self._judge(request.site, site, life, request.name)

    def in_the_end(self) -> None:
        """Judge what the registers hold after everything has landed."""
        for name, site in self._run.world.sites.items():
            lives = {life for each in site.objects if (life := life_of(each)) is not None}
            for life in lives if self._counts(name, site) else ():
                versions = [each for each in site.objects if version_of(life.prefix, each) is not None]
                newest = max(versions, default=state_name(life.prefix))
                if newest in site.objects:
                    self._judge(name, site, life, newest)

    def _counts(self, name: str, site: Any) -> bool:
        moves = self._run.copies is not None and name == self._run.copies.site
        return isinstance(site, Site) and not (isinstance(site, Liar) or moves or name in self._run.judge.faulty)

    def _judge(self, name: str, site: Site, life: Life, record_name: str) -> None:
        if not _is_in_force(site, life, record_name):
            return
        record = decode_record(site.objects[record_name], lambda _body, _tag: True)
        missing = self._missing(site, record.value)
        if missing:
            self._run.violations.append(f"{name} accepts a head without {len(missing)} of its pages: {min(missing)}")

    def _missing(self, site: Site, value: bytes) -> set[str]:
        if value not in self._checkpoints:
            reference = open_head(self._run.keys, value).checkpoint
            self._checkpoints[value] = None if reference is None else reference.name
        checkpoint = self._checkpoints[value]
        if checkpoint is None:
            return set()
        name = object_key(checkpoint)
        if name not in site.objects:
            return {name}
        if checkpoint not in self._pages:
            row: Any = open_row(self._run.keys, SealKind.CHECKPOINT, site.objects[name], Checkpoint)
            self._pages[checkpoint] = frozenset(object_key(page.reference.name) for page in row.pages())
        return {page for page in self._pages[checkpoint] if page not in site.objects}


def _is_in_force(site: Site, life: Life, name: str) -> bool:
    """Whether the record is the acceptor's memory, in the newest register of the site.

    The pages of an older register's head may be retired. A version that landed late, in a hole that collection left, is void.
    Names sort by the age of registers, and within one by version.
    """
    version = version_of(life.prefix, name)
    if any(each > name and each.startswith(ACCEPTORS) for each in site.objects):
        return False  # a newer version or register, or the seal, which sorts last
    return version in (None, 1) or version_name(life.prefix, version - 1) in site.objects
