"""Copies of the head at targets that hold no register: written after each commit, cleaned, and read without a quorum."""

import shutil

import pytest
from manifest_world import Sites, backup, sources

from drtool.crypto import Keyring
from drtool.errors import NoQuorum, ObjectMissing, StoreError
from drtool.manifest import Member, OpenSession, commit
from drtool.manifest.mirror import mirror_names
from drtool.manifest.names import MIRRORS, OBJECTS
from drtool.manifest.ports import Delete, Put
from drtool.stores import LocalStore

PLACES = ("site1/main", "site2/main")


class Killed(BaseException):
    """Stands for signal 9."""


class MirrorSites(Sites):
    """One site that votes, and two that only store."""

    def __init__(self, root):
        super().__init__(root, count=1, spare=2)

    def targets(self):
        here = [name for name in (*self.names, *self.spare) if (self.root / name).is_dir()]
        return {f"{name}/main": LocalStore.open(self.root / name) for name in here}

    def host(self, name="host", **options):
        every = {name: LocalStore.open(self.root / name) for name in (*self.names, *self.spare)}
        return super().host(name, **{"stores": self.targets, "sites": every, **options})

    def mirrors(self, place):
        found = (self.root / place.partition("/")[0] / MIRRORS).glob("*")
        return [name.sequence for name in mirror_names(MIRRORS + path.name for path in found)]

    def files(self, place, kind=MIRRORS):
        return sorted((self.root / place.partition("/")[0] / kind).glob("*"))

    def alone(self, place):
        """Return the manifest as read by a stranger who reaches only this target."""
        site = place.partition("/")[0]
        port = {site: LocalStore.open(self.root / site)}
        return super().host(f"stranger of {site}", sites=port, stores=lambda: {place: port[site]})


@pytest.fixture
def sites(tmp_path, monkeypatch):
    monkeypatch.setattr(commit, "RECENT_LIMIT", 6)  # makes short histories fold
    sites = MirrorSites(tmp_path)
    sites.found()
    return sites


def folded(host, count=8):
    """So many backups that the head names pages."""
    for number in range(count):
        backup(host, f"s{number}")
    return host.read()


def test_every_place_alone_provides_everything_even_after_folds(sites):
    view = folded(sites.host())
    assert view.learned.checkpoint is not None
    for place in PLACES:
        alone = sites.alone(place).read_offline(place.partition("/")[0])
        assert (alone.digest, alone.tentative, alone.mirror) == (view.digest, True, place)
        assert len(sources(alone)) == 8
        pages = {row.reference.name.hex() for row in view.learned.checkpoint.pages()}
        assert {path.name for path in sites.files(place, OBJECTS)} >= pages


def test_a_writer_that_is_killed_at_any_request_leaves_a_copy_that_can_be_read(sites):
    host = sites.host()
    whole = folded(host, 4).sequence
    for killed_at in range(1, 100):
        met = []

        def hook(_step, request, met=met, killed_at=killed_at):
            if isinstance(request, Put | Delete) and "/" in request.site:
                met.append(request)
                if len(met) == killed_at:
                    raise Killed

        try:
            backup(sites.host(hook=hook), f"killed at {killed_at}")
        except Killed:
            assert host.settle() == 0, "a commit is over before its copies are written"
        for place in PLACES:
            seen = sites.alone(place).read_offline(place.partition("/")[0])
            assert seen.sequence >= whole
            assert not seen.problems
        if len(met) < killed_at:
            break
    assert killed_at > 6
    assert seen.sequence == host.read().sequence


def test_an_older_writer_never_replaces_a_newer_copy(sites):
    slow = sites.host("slow")
    backup(slow)
    held = {}

    def late(_step, request):
        if isinstance(request, Put) and request.name.startswith(MIRRORS):
            held[request.site, request.name] = request.data
            raise Killed

    with pytest.raises(Killed):
        backup(sites.host("late", hook=late))
    backup(sites.host("fast"), "newer")
    newest = sites.host().read().sequence
    for (place, name), data in held.items():  # delayed requests arrive now
        LocalStore.open(sites.root / place.partition("/")[0]).put(name, data)
    assert held
    for place in PLACES:
        assert sites.alone(place).read_offline(place.partition("/")[0]).sequence == newest


def test_a_rotten_forged_or_foreign_copy_counts_for_nothing(sites):
    host = sites.host()
    backup(host)
    backup(host, "newest")
    newest = host.read().sequence
    *_, before, last = sites.files("site1/main")
    sound = last.read_bytes()
    names = {
        "cut": sound[:-1],
        "flipped": sound[:60] + bytes([sound[60] ^ 1]) + sound[61:],
        "older bytes under a newer name": before.read_bytes(),
        "nothing": b"",
    }
    for data in names.values():
        last.write_bytes(data)
        (status,) = [row for row in host.mirrors(host.read()) if row.target == "site1/main"]
        assert (status.problem != "", status.is_current) == (True, False)
        assert sites.alone("site1/main").read_offline("site1").sequence < newest
    stranger = Keyring.draw(sites.keys.repository)
    with pytest.raises(NoQuorum):
        MirrorSites.alone.__get__(_with_keys(sites, stranger))("site1/main").read_offline("site1")
    assert host.mirror({"site1/main": [MIRRORS + last.name]}) == {}
    assert sites.alone("site1/main").read_offline("site1").sequence == newest
    assert not last.exists()


def _with_keys(sites, keys):
    other = MirrorSites.__new__(MirrorSites)
    other.__dict__.update(sites.__dict__, keys=keys)
    return other


def test_any_number_of_invented_names_hides_at_most_one_site(sites):
    host = sites.host()
    backup(host)
    for number in range(20):
        name = f"{MIRRORS}g0009-c000001-s{number:012d}-{number:064x}"
        LocalStore.open(sites.root / "site1").put(name, b"invented")
    view = sites.host("stranger").read_offline("site1", "site2")
    assert view.sequence == host.read().sequence
    assert host.mirrors(host.read())[0].problem


def test_a_page_that_the_newest_copy_lacks_is_taken_from_another_place_or_the_copy_before_is_read(sites):
    view = folded(sites.host())
    pages = [row.reference.name.hex() for row in view.learned.checkpoint.snapshot_pages]
    for page in pages:
        (sites.root / "site1" / OBJECTS / page).unlink()
    both = sites.host("other").read_offline("site1", "site2")
    assert (both.digest, both.problems) == (view.digest, ())
    with pytest.raises(ObjectMissing, match="which no site has"):
        sites.alone("site1/main").read_offline("site1")


def test_a_copy_says_nothing_certain(sites):
    backup(sites.host())
    sites.names.clear()  # the voter is gone
    with pytest.raises(NoQuorum):
        sites.alone("site1/main").read()
    with pytest.raises(NoQuorum):
        backup(sites.alone("site1/main"))


def test_a_quorum_that_was_set_back_is_found_out_by_the_copies(sites, tmp_path):
    host = sites.host()
    backup(host)
    shutil.copytree(sites.root / "site0", tmp_path / "last week")
    backup(host)
    shutil.rmtree(sites.root / "site0")
    shutil.copytree(tmp_path / "last week", sites.root / "site0")
    stranger = sites.host("stranger")
    view = stranger.read()
    assert [row.ahead for row in stranger.mirrors(view)] == [True, True]
    with pytest.raises(NoQuorum, match="went back in time"):
        backup(sites.host())
    assert sites.host("another").read_offline("site0", "site1").sequence > view.sequence


def test_pages_that_others_may_need_are_never_swept(sites):
    """A host with an older listing sweeps after its next commit. Pages of a newer head arrived after that listing."""
    slow, fast = sites.host("slow"), sites.host("fast")
    backup(slow)
    folded(fast)
    backup(slow, "again")
    for place in PLACES:
        assert len(sources(sites.alone(place).read_offline(place.partition("/")[0]))) == 10
    backup(sites.host("tidy"))
    assert all(len(sites.mirrors(place)) == 2 for place in PLACES), "the next host removes pages unknown to the first"


def test_pages_that_cannot_be_deleted_stay_and_harm_no_reader(sites, monkeypatch):
    def refuse(_store, _name):
        raise StoreError("append only", target="")

    monkeypatch.setattr(LocalStore, "delete", refuse)
    host = sites.host()
    for number in range(4):
        backup(host, f"s{number}")
    assert len(sites.mirrors("site1/main")) > 4
    assert sites.alone("site1/main").read_offline("site1").sequence == host.read().sequence


def test_a_commit_costs_one_object_and_one_deletion_at_each_place_and_lists_it_once(sites):
    asked = []
    host = sites.host(hook=lambda _step, request: asked.append(request))
    backup(host)
    backup(host)
    asked.clear()
    host.commit(OpenSession(kind="backup", host_id="host", host="host", source="home"))
    there = [type(request).__name__ for request in asked if getattr(request, "site", "") == "site1/main"]
    assert there == ["Put", "Delete"]


def test_the_copies_at_a_target_that_votes_by_now_go_with_the_next_repair(sites):
    host = sites.host()
    backup(host)
    assert sites.mirrors("site1/main")
    host.set_voters([Member("site0", "site0/main"), Member("site1", "site1/main", fresh=True)])
    host.mirror()
    assert (sites.mirrors("site1/main"), len(sites.mirrors("site2/main"))) == ([], 2)
