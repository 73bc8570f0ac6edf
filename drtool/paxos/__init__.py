"""Pure consensus: ballots, acceptor records, the promise and accept rules, quorums. No input, no output, no clock.

Source: Lamport 1998 (The Part-Time Parliament) and 2001 (Paxos Made Simple); Gafni & Lamport 2003 (Disk Paxos: storage
as the acceptor); Rystsov 2018 (CASPaxos: a register that is changed, not a log that is filled).
"""

from drtool.paxos.acceptor import Preempted, accept, found, promise
from drtool.paxos.ballot import NO_BALLOT, Ballot, next_ballot
from drtool.paxos.quorum import agreed, highest_accepted, highest_round, majority, to_adopt
from drtool.paxos.record import RECORD_LIMIT_BYTES, Chain, Mac, Record, Verify, decode_record, encode_record

__all__ = [
    "NO_BALLOT",
    "RECORD_LIMIT_BYTES",
    "Ballot",
    "Chain",
    "Mac",
    "Preempted",
    "Record",
    "Verify",
    "accept",
    "agreed",
    "decode_record",
    "encode_record",
    "found",
    "highest_accepted",
    "highest_round",
    "majority",
    "next_ballot",
    "promise",
    "to_adopt",
]
