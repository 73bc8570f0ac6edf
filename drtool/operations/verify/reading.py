"""Reading of one target's objects whole: first their bytes against their names, then every seal, block and chunk id.

A pack that passes can be restored, since this performs every check that a restore relies on.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count

from blake3 import blake3

from drtool.crypto import HEADER_BYTES, Keyring, SealKind, object_name
from drtool.errors import DrtoolError, ObjectMissing, StoreError, TargetOffline
from drtool.model import ChunkKind, TargetName
from drtool.operations.verify.rounds import Copy
from drtool.packing import PackKind, read_footer, unseal_segment
from drtool.packing.pack import decompress
from drtool.repository.targets import Targets
from drtool.stores import Store

_ID_BYTES = 32


class Reader:
    """Reads copies a few at a time, so that memory stays at a few objects.

    `left`: targets that went away, and why. `unread`: copies that exist but could not be read, and why.
    """

    def __init__(self, targets: Targets, keyring: Keyring, workers: int) -> None:
        self._targets, self._keyring, self._workers = targets, keyring, workers
        self.left: dict[TargetName, str] = {}
        self.unread: dict[Copy, str] = {}

    def read(self, copies: Iterable[Copy], may_go_on: Callable[[], bool]) -> Iterator[tuple[Copy, str | None]]:
        """Yield each copy, in order until `may_go_on` is false, with why it is bad: empty if whole, None if its target
        went away.
        """
        pool = ThreadPoolExecutor(self._workers, "verify")
        under_way: deque[tuple[Copy, Future[str | None]]] = deque()
        coming = iter(copies)
        try:
            while True:
                while len(under_way) < 2 * self._workers and may_go_on():
                    copy = next(coming, None)
                    if copy is None:
                        break
                    under_way.append((copy, pool.submit(self._problem, copy)))
                if not under_way:
                    return
                copy, problem = under_way.popleft()
                while not wait([problem], timeout=1.0).done:
                    self._targets.announce()
                yield copy, problem.result()
        finally:
            pool.shutdown(cancel_futures=True)  # an interruption waits only for the objects being read

    def _problem(self, copy: Copy) -> str | None:
        if copy.target in self.left:
            return None
        for attempt in count():
            try:
                problem = problem_with(self._targets.store(copy.target), copy.expected.name, self._keyring)
            except TargetOffline as error:
                if self._waited(copy.target, error, attempt):
                    continue
                self.left.setdefault(copy.target, error.message)
            except StoreError as error:
                self.unread[copy] = error.message
            else:
                self._targets.answered(copy.target)
                return problem
            return None
        return None

    def _waited(self, target: TargetName, error: TargetOffline, attempt: int) -> bool:
        """Wait for a server that stopped answering, since no other target can stand in for its copies."""
        why = f"{target}: {error.message}"
        return self._targets.may_return(target, error) and self._targets.wait_for([target], attempt, why)


def problem_with(store: Store, name: str, keyring: Keyring) -> str:
    """Return why an object is bad, or an empty string.

    A target's refusal says nothing about the object, so it is raised.
    """
    try:
        data = store.get(name)
        if object_name(data).hex() != name.rpartition("/")[2]:
            return "its content does not match its name"
        if name.startswith("index/"):
            unseal_segment(keyring, data)
        else:
            _open_everything(keyring, data)
    except ObjectMissing as error:
        return error.message
    except StoreError:
        raise
    except DrtoolError as error:
        return error.message
    return ""


def _open_everything(keyring: Keyring, pack: bytes) -> None:
    contents = read_footer(keyring, pack)
    opener = keyring.opener(SealKind.PACK, pack[:HEADER_BYTES])
    kinds = (ChunkKind.DATA,) if contents.kind == PackKind.DATA else (ChunkKind.TREE, ChunkKind.LIST)
    keys = [keyring.id_key(kind) for kind in kinds]
    view = memoryview(pack)
    at = HEADER_BYTES
    for number, block in enumerate(contents.blocks):
        text = memoryview(decompress(block.codec, opener.part(number, view[at : at + block.length]), block.text_length))
        at += block.length
        _check_chunks(text, block.ids, block.lengths, keys)


def _check_chunks(text: memoryview, ids: bytes, lengths: tuple[int, ...], keys: list[bytes]) -> None:
    start = 0
    for number, length in enumerate(lengths):
        chunk = text[start : start + length]
        start += length
        wanted = ids[number * _ID_BYTES : (number + 1) * _ID_BYTES]
        if all(blake3(chunk, key=key).digest() != wanted for key in keys):
            raise DrtoolError("a chunk in it does not match its id")
