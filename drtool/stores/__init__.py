"""Stores of objects: one module per medium, independent of each other, and decorators that add one behaviour each.

`ports` defines the promises of every store, `memory` implements them in the simplest way, and `tests/conformance` tests them.
"""

from drtool.stores.circuit import Circuit, CircuitStore
from drtool.stores.faults import NO_FAULTS, Faults, FaultyStore
from drtool.stores.guarding import UNLIMITED, Guard, Rates
from drtool.stores.limits import Bucket, LimitedStore
from drtool.stores.local import LocalStore
from drtool.stores.memory import MemoryStore
from drtool.stores.ports import Buffer, Medium, Mode, Register, Store, Tagged, VoterStore
from drtool.stores.readonly import ReadOnlyStore
from drtool.stores.retry import Backoff, RetryingStore
from drtool.stores.voting import VoteVerdict
from drtool.stores.watch import CallLimits, Errand, WatchedStore

__all__ = [
    "NO_FAULTS",
    "UNLIMITED",
    "Backoff",
    "Bucket",
    "Buffer",
    "CallLimits",
    "Circuit",
    "CircuitStore",
    "Errand",
    "Faults",
    "FaultyStore",
    "Guard",
    "LimitedStore",
    "LocalStore",
    "Medium",
    "MemoryStore",
    "Mode",
    "Rates",
    "ReadOnlyStore",
    "Register",
    "RetryingStore",
    "Store",
    "Tagged",
    "VoteVerdict",
    "VoterStore",
    "WatchedStore",
]
