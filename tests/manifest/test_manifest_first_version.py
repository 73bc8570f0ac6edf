"""A first version that arrives late at a chain that was begun, continued and collected without it."""

import pytest
from manifest_world import Sites

from drtool.manifest.acceptor import SiteView, Trouble, begin
from drtool.manifest.beginning import places_of
from drtool.manifest.names import version_name
from drtool.manifest.ports import List, Missing, PutIfAbsent
from drtool.manifest.records import Config, Voter
from drtool.manifest.witness import Witness
from drtool.paxos import Ballot, found, promise
from drtool.paxos.record import record_hash


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 1)


def answered(talk, site):
    """Drive a conversation with one site, a dictionary."""
    reply = None
    while True:
        try:
            request = talk.send(reply)
        except StopIteration as done:
            return done.value
        if isinstance(request, PutIfAbsent):
            reply = site.setdefault(request.name, request.data) is request.data
        elif isinstance(request, List):
            reply = sorted(name for name in site if name.startswith(request.prefix) and name > request.start_after)
        else:
            reply = site.get(request.name, Missing())


@pytest.mark.parametrize("left", [(5, 6), (2, 3)])
def test_a_first_version_that_lands_in_the_hole_of_a_collected_one_begins_nothing(sites, left):
    config = Config(1, 1, (Voter("site0", "site0/main", bytes(16)),), 1)
    place = places_of(config, sites.keys.repository, sites.keys, Witness())["site0"]
    late = found(place.chain, Ballot(1, b"l" * 16), b"late", b"l" * 16)
    theirs = found(place.chain, Ballot(1, b"t" * 16), b"theirs", b"t" * 16)
    site = {}
    record = theirs
    for version in range(1, left[-1] + 1):
        if version in left:
            site[version_name(place.prefix, version)] = place.encode(record)
        record = promise(record, record_hash(place.encode(record)), Ballot(version + 1, b"t" * 16), bytes(16))
    assert isinstance(answered(begin(place, late), site), Trouble)
    assert version_name(place.prefix, 1) in site  # it is there, and void


def test_a_first_version_counts_if_another_host_has_already_built_on_it(sites):
    config = Config(1, 1, (Voter("site0", "site0/main", bytes(16)),), 1)
    place = places_of(config, sites.keys.repository, sites.keys, Witness())["site0"]
    ours = found(place.chain, Ballot(1, b"o" * 16), b"ours", b"o" * 16)
    data = place.encode(ours)
    after = promise(ours, record_hash(data), Ballot(2, b"t" * 16), bytes(16))
    site = {version_name(place.prefix, 1): data, version_name(place.prefix, 2): place.encode(after)}
    assert isinstance(answered(begin(place, ours), site), SiteView)
