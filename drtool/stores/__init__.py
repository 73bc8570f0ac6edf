"""Places for objects: one medium each, none knows another; decorators add one behaviour each.

`ports` says what every store promises, `memory` is that promise as code, `tests/conformance` is the promise as tests.
"""

from drtool.stores.faults import NO_FAULTS, Faults, FaultyStore
from drtool.stores.local import LocalStore
from drtool.stores.memory import MemoryStore
from drtool.stores.ports import Buffer, Mode, Register, Store, Tagged, VoterStore
from drtool.stores.readonly import ReadOnlyStore
from drtool.stores.voting import VoteVerdict

__all__ = [
    "NO_FAULTS",
    "Buffer",
    "Faults",
    "FaultyStore",
    "LocalStore",
    "MemoryStore",
    "Mode",
    "ReadOnlyStore",
    "Register",
    "Store",
    "Tagged",
    "VoteVerdict",
    "VoterStore",
]
