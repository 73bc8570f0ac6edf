"""The first record of a manifest, and of an acceptor.

Invariants
    An acceptor begins with version 1, written once, with the first head accepted. There is no other initial state.
    If any voter already has an acceptor, creating the manifest changes nothing more and is refused.
    A configuration that follows another begins with that one's last head: the same bytes from any writer.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from drtool.errors import NoQuorum, Refused
from drtool.manifest import acceptor
from drtool.manifest.acceptor import Place, SiteView, Trouble, unreachable
from drtool.manifest.head import NO_DIGEST, Head, digest_after, seal_head
from drtool.manifest.names import acceptor_prefix
from drtool.manifest.ops import Found, make_change
from drtool.manifest.ports import Draw, Failed, Gather, Keys, List, Note, Talk, never
from drtool.manifest.records import Config, Founding, Voter
from drtool.manifest.state import begin
from drtool.manifest.witness import Witness
from drtool.model import RepositoryId, SessionId, SiteName
from drtool.paxos import Ballot, Chain, Record, found, majority

FIRST_GENERATION = 1
FIRST_CONFIG = 1


class Begun(msgspec.Struct, frozen=True):
    """A new manifest: its configuration and the sites that confirmed."""

    config: Config
    value: bytes
    views: Mapping[SiteName, SiteView]


def places_of(config: Config, repository: RepositoryId, keys: Keys, witness: Witness) -> dict[SiteName, Place]:
    """Return the places of the acceptors of `config`.

    The witness counts only within the same incarnation of a register.
    """
    known = witness.config
    same = known is not None and (known.place, known.recovery) == (config.place, config.recovery)
    prefix = acceptor_prefix(config.generation, config.number, config.recovery)
    return {
        voter.site: Place(
            voter.site,
            prefix,
            Chain(voter.site, voter.incarnation, repository, config.generation, config.number),
            keys,
            witness.sites.get(voter.site) if same else None,
            voter.mode,
        )
        for voter in config.voters
    }


def begin_manifest(founding: Founding, keys: Keys, time_ns: int, host: str) -> Talk[Begun]:
    """Write version 1 at every voter. A quorum must confirm."""
    voters: list[Voter] = []
    for site, target in founding.voters:
        voters.append(Voter(site, target, (yield Draw(16)), founding.modes.get(site, "chain")))
    quorum = majority(len(voters), founding.liars)
    config = Config(FIRST_GENERATION, FIRST_CONFIG, tuple(voters), quorum, liars=founding.liars)
    value = seal_head(keys, _first_head(founding, config, (yield Draw(16)), time_ns, host), founding.keys)
    ballot = Ballot(1, (yield Draw(16)))
    places = places_of(config, founding.repository, keys, Witness())
    tokens: dict[SiteName, bytes] = {}
    for site in places:
        tokens[site] = yield Draw(16)
    talks = {site: begin_at(place, found(place.chain, ballot, value, tokens[site])) for site, place in places.items()}
    replies = yield Gather(talks, never)
    views = {site: reply for site, reply in replies.items() if isinstance(reply, SiteView)}
    yield Note("confirm", f"founded at {', '.join(views) or 'no site'}")
    _demand_quorum(config, replies, views)
    return Begun(config, value, views)


def _first_head(founding: Founding, config: Config, session: bytes, time_ns: int, host: str) -> Head:
    targets = tuple(sorted(founding.targets, key=lambda target: target.name))
    place = (founding.repository, founding.label, founding.policy, targets, founding.ring_epoch)
    op = Found(*place, config, founding.keys)
    change = make_change(op, SessionId(session), 0, time_ns, host)
    state = begin(change)
    return Head(state.sequence, digest_after(NO_DIGEST, change), config, (change,), state.sessions)


def first_record(place: Place, head: Head, value: bytes) -> Record:
    """Return version 1 in a configuration that follows another. It is determined by the head that ended that one."""
    return found(place.chain, Ballot(1, head.digest[:16]), value, head.digest[16:])


def begin_at(place: Place, record: Record) -> Talk[SiteView | Trouble]:
    """Make `record` the first of an acceptor, unless one exists."""
    there = yield List(place.site, place.prefix)
    if isinstance(there, Failed):
        return unreachable(there)
    if there:
        return Trouble("broken", "an acceptor is there already")
    return (yield from acceptor.begin(place, record))


def _demand_quorum(config: Config, replies: Mapping[SiteName, Any], views: Mapping[SiteName, SiteView]) -> None:
    taken = [site for site, reply in replies.items() if isinstance(reply, Trouble) and reply.kind == "broken"]
    if taken:
        raise Refused(f"there is a manifest already at {', '.join(taken)}", hint="use `drtool connect` to join it")
    if len(views) < config.quorum:
        raise NoQuorum(
            f"founding needs {config.quorum} of {len(config.voters)} sites and {len(views)} confirmed",
            hint="make the sites reachable and run `drtool init` again",
        )
