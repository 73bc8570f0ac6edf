"""The work of the racing processes, separate from the tests so that a spawned process can import it."""

from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Barrier as ThreadBarrier

from thoroughness import sample

from drtool.stores import LocalStore, Register

NAMES = sample(200)


def record_of(racer: int, i: int) -> bytes:
    """Return a record unique to the racer, and long enough to be seen torn."""
    return f"{racer}:{i};".encode() * 2000


def race_to_create(register: Register, racer: int, start: "Barrier | ThreadBarrier") -> list[int]:
    """Return the names that this racer was told it had created."""
    start.wait(60)
    return [i for i in range(NAMES) if register.put_if_absent(f"race/v-{i:012}", record_of(racer, i))]


def race_in_directory(root: Path, racer: int, start: Barrier, results: Path) -> None:
    store = LocalStore.open(root)
    won = race_to_create(store, racer, start)
    (results / str(racer)).write_text(" ".join(map(str, won)))
    store.close()


def race_to_swap(register: Register, rounds: int) -> int:
    """Count up one object until `rounds` swaps succeeded, and return the number of attempts."""
    attempts = 0
    while rounds:
        attempts += 1
        found = register.read_tagged("counter")
        assert found is not None
        rounds -= register.compare_and_swap("counter", b"%d" % (int(found.data) + 1), found.tag) is not None
    return attempts
