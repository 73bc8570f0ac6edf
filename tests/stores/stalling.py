"""Virtual time for tests of waiting, and stores with scripted failures."""

from drtool.stores import MemoryStore
from drtool.stores.passing import PassingStore


class VirtualTime:
    """A clock that advances only by sleeping."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Scripted(PassingStore):
    """A store that raises the given errors, one per call, then passes calls on. With `after`, failing calls take effect."""

    def __init__(self, *errors, inner=None, after=False):
        super().__init__(inner or MemoryStore("cas"))
        self.errors, self.after, self.calls = list(errors), after, []

    def _call(self, name, *words):
        self.calls.append((name, *words))
        error = self.errors.pop(0) if self.errors else None
        if error is not None and not self.after:
            raise error
        result = getattr(self.inner, name)(*words)
        if error is not None:
            raise error
        return result

    def put(self, *words):
        return self._call("put", *words)

    def get(self, *words):
        return self._call("get", *words)

    def stat(self, *words):
        return self._call("stat", *words)

    def list(self, *words):
        return self._call("list", *words)

    def delete(self, *words):
        return self._call("delete", *words)

    def free_bytes(self):
        return self._call("free_bytes")

    def put_if_absent(self, *words):
        return self._call("put_if_absent", *words)

    def read_tagged(self, *words):
        return self._call("read_tagged", *words)

    def compare_and_swap(self, *words):
        return self._call("compare_and_swap", *words)
