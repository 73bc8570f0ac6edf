"""The seals of registers whose configuration has ended (`z-sealed`): read at every target, and rewritten if damaged.

A seal names the configuration that follows, so a host that was away finds the present voters through it. The existence
of a seal ends its register regardless of its content, so a damaged one endangers no commit.

Invariants
    Only seals of configurations before the present one are judged, since any site can invent names.
    A seal under a key that this repository has given up is not a fault, since it cannot be read any more.
    The replacement of a damaged one leads to the current configuration.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from drtool.crypto import SealKind
from drtool.errors import DrtoolError, KeyMissing, ObjectMissing
from drtool.manifest.finding import successor_in
from drtool.manifest.head import open_row, seal_row
from drtool.manifest.names import ACCEPTORS, Life, life_of, sealed_name
from drtool.manifest.records import Successor
from drtool.manifest.switching import voters_targets
from drtool.stores import Store

if TYPE_CHECKING:
    from drtool.repository.repository import Repository

SEALS_MAX = 256


def seals_at(repository: "Repository", store: Store) -> Iterator[tuple[str, str]]:
    """Yield each seal of an ended configuration that the target holds, and its fault or an empty string."""
    names = sorted(info.name for info in store.list(ACCEPTORS))
    ended = [name for name in names if (life := _sealed_life(name)) is not None and _is_before(repository, life)]
    for name in ended[-SEALS_MAX:]:
        yield name, _why_bad(repository, store, name)


def new_seal(repository: "Repository", name: str) -> bytes | None:
    """Return a replacement for a damaged seal, or None if that configuration never preceded the present one."""
    life, config = _sealed_life(name), repository.view.config
    if life is None or not _is_before(repository, life):
        return None
    targets = voters_targets(repository.view.learned, config)
    row = Successor(life.generation, life.number, config, targets, life.recovery)
    return seal_row(repository.keyring, SealKind.SUCCESSOR, row)


def is_seal(name: str) -> bool:
    """Return whether an object is the seal of a register."""
    return _sealed_life(name) is not None


def _sealed_life(name: str) -> Life | None:
    life = life_of(name)
    return life if life is not None and name == sealed_name(life.prefix) else None


def _is_before(repository: "Repository", life: Life) -> bool:
    """Return whether the configuration preceded the present one, according to its name."""
    config = repository.view.config
    if life.generation == config.generation:
        return life.recovery == config.recovery and 0 < life.number < config.number
    recoveries = {row.generation: row.id for row in repository.view.state.recoveries}
    return 0 < life.generation < config.generation and life.recovery == recoveries.get(life.generation, b"")


def _why_bad(repository: "Repository", store: Store, name: str) -> str:
    life = _sealed_life(name)
    try:
        data = store.get(name)
        open_row(repository.keyring, SealKind.SUCCESSOR, data, Successor)
    except (KeyMissing, ObjectMissing):
        return ""
    except DrtoolError as error:
        return error.message
    found = successor_in(repository.keyring, life, data) if life is not None else ""
    return found if isinstance(found, str) else ""
