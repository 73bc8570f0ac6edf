"""The catalogue, replicated by Paxos over passive storage: no daemon, each run is a proposer and a learner."""

from drtool.manifest.catalogue import Catalogue
from drtool.manifest.facade import Author, Committed, Manifest, View
from drtool.manifest.local import DirectoryState, MemoryCache, MemoryState
from drtool.manifest.ops import (
    AddSnapshot,
    CheckpointSession,
    CloseSession,
    ExpireSession,
    ForgetSnapshots,
    Found,
    Op,
    OpenSession,
    Record,
    ReplaceIndex,
    SetPolicy,
    SetRing,
)
from drtool.manifest.ports import Keys, LocalState, Note, PageCache, SitePort
from drtool.manifest.records import (
    Config,
    Counts,
    Coverage,
    Evidence,
    Founding,
    Policy,
    SegmentRef,
    Session,
    Snapshot,
    Target,
    Voter,
)
from drtool.manifest.state import State

__all__ = [
    "AddSnapshot",
    "Author",
    "Catalogue",
    "CheckpointSession",
    "CloseSession",
    "Committed",
    "Config",
    "Counts",
    "Coverage",
    "DirectoryState",
    "Evidence",
    "ExpireSession",
    "ForgetSnapshots",
    "Found",
    "Founding",
    "Keys",
    "LocalState",
    "Manifest",
    "MemoryCache",
    "MemoryState",
    "Note",
    "Op",
    "OpenSession",
    "PageCache",
    "Policy",
    "Record",
    "ReplaceIndex",
    "SegmentRef",
    "Session",
    "SetPolicy",
    "SetRing",
    "SitePort",
    "Snapshot",
    "State",
    "Target",
    "View",
    "Voter",
]
