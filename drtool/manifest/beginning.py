"""How a manifest begins, and how a host that knows nothing finds out who votes.

Invariants
    An acceptor begins with version 1, written once, with the founding head accepted. Nothing else is an initial state.
    A founding that finds an acceptor anywhere changes nothing more and says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from drtool.errors import FormatError, NoQuorum, NoRepository, Refused
from drtool.manifest import acceptor
from drtool.manifest.acceptor import MAC_PURPOSE, Place, SiteView, Trouble, unreachable
from drtool.manifest.head import NO_DIGEST, Head, digest_after, open_head, seal_head
from drtool.manifest.names import acceptor_prefix
from drtool.manifest.ops import Found, make_change
from drtool.manifest.ports import Draw, Failed, Gather, Keys, List, Missing, Note, Read, Talk, never
from drtool.manifest.records import Config, Founding, Voter
from drtool.manifest.state import begin
from drtool.manifest.witness import Witness
from drtool.model import RepositoryId, SessionId, SiteName
from drtool.paxos import Ballot, Chain, Record, Verify, decode_record, found, majority

FIRST_GENERATION = 1
FIRST_CONFIG = 1


class Begun(msgspec.Struct, frozen=True):
    """A founded manifest: its configuration and the sites that confirmed."""

    config: Config
    value: bytes
    views: Mapping[SiteName, SiteView]


def places_of(config: Config, repository: RepositoryId, keys: Keys, witness: Witness) -> dict[SiteName, Place]:
    """Where the acceptors of `config` are. What the witness saw counts only within the same life of a register."""
    same = (witness.generation, witness.config_number) == (config.generation, config.number)
    prefix = acceptor_prefix(config.generation, config.number)
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
    """Write version 1 at every voter; a quorum must confirm."""
    voters: list[Voter] = []
    for site, target in founding.voters:
        voters.append(Voter(site, target, (yield Draw(16)), founding.modes.get(site, "chain")))
    config = Config(FIRST_GENERATION, FIRST_CONFIG, tuple(voters), majority(len(voters)))
    value = seal_head(keys, _first_head(founding, config, (yield Draw(16)), time_ns, host))
    ballot = Ballot(1, (yield Draw(16)))
    places = places_of(config, founding.repository, keys, Witness())
    replies = yield Gather({site: _begin_at(place, ballot, value) for site, place in places.items()}, never)
    views = {site: reply for site, reply in replies.items() if isinstance(reply, SiteView)}
    yield Note("confirm", f"founded at {', '.join(views) or 'no site'}")
    _demand_quorum(config, replies, views)
    return Begun(config, value, views)


def _first_head(founding: Founding, config: Config, session: bytes, time_ns: int, host: str) -> Head:
    targets = tuple(sorted(founding.targets, key=lambda target: target.name))
    op = Found(founding.repository, founding.label, founding.policy, targets, founding.ring_epoch, config)
    change = make_change(op, SessionId(session), 0, time_ns, host)
    state = begin(change)
    return Head(state.sequence, digest_after(NO_DIGEST, change), config, (change,), state.sessions)


def _begin_at(place: Place, ballot: Ballot, value: bytes) -> Talk[Any]:
    there = yield List(place.site, place.prefix)
    if isinstance(there, Failed):
        return unreachable(there)
    if there:
        return Trouble("broken", "an acceptor is there already")
    record = found(place.chain, ballot, value, (yield Draw(16)))
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


def discover(sites: Sequence[SiteName], keys: Keys) -> Talk[Config]:
    """The newest configuration that any of the sites knows of; `NoRepository` if all answer and none holds one."""
    replies = yield Gather({site: newest_value(site, keys) for site in sites}, _any_majority, 0.3)
    configs = [open_head(keys, reply.value).config for reply in replies.values() if isinstance(reply, Record)]
    if configs:
        return max(configs, key=lambda config: (config.generation, config.number))
    silent = [f"{site}: {_why(reply)}" for site, reply in replies.items() if not isinstance(reply, Missing)]
    if silent:
        raise NoQuorum(f"no site could tell who votes on the manifest ({', '.join(silent)})")
    raise NoRepository(f"none of the sites holds a manifest ({', '.join(sites)})", hint="found one with `drtool init`")


def newest_value(site: SiteName, keys: Keys) -> Talk[Record | Missing | Failed]:
    """The newest authentic record of any configuration at the site, whoever its voters are: tentative by nature."""
    names = yield List(site, acceptor_prefix(0, 0).partition("g0")[0])
    if isinstance(names, Failed):
        return names
    problem = ""
    for name in sorted((name for name in names if "/v-" in name or name.endswith("/state")), reverse=True):
        data = yield Read(site, name)
        if isinstance(data, Failed):
            return data
        try:
            record = decode_record(data, _verifier(keys)) if isinstance(data, bytes) else None
        except FormatError as error:
            problem = str(error)
            continue
        if record is not None and (record.chain.site, record.chain.repository) == (site, keys.repository):
            return record
    return Failed(problem, definite=True) if problem else Missing()


def _verifier(keys: Keys) -> Verify:
    return lambda body, tag: keys.mac_matches(MAC_PURPOSE, body, tag)


def _any_majority(results: Mapping[SiteName, Any]) -> bool:
    return any(isinstance(result, Record) for result in results.values())


def _why(reply: object) -> str:
    return reply.reason if isinstance(reply, Failed) else "it holds none"


def newest_of(records: Iterable[Record]) -> Record:
    """The record with the newest generation, configuration and accepted ballot."""
    return max(records, key=lambda record: (record.chain.generation, record.chain.config_number, record.accepted))
