"""Places for objects: one medium each, none knows another; decorators add one behaviour each.

`ports` says what every store promises, `memory` is that promise as code, `tests/conformance` is the promise as tests.
"""

from drtool.stores.local import LocalStore
from drtool.stores.memory import MemoryStore
from drtool.stores.ports import Buffer, Mode, Register, Store, Tagged, VoterStore

__all__ = ["Buffer", "LocalStore", "MemoryStore", "Mode", "Register", "Store", "Tagged", "VoterStore"]
