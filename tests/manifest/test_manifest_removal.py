"""Condemn, take back, remove, cross off: the transitions, and the lists that heads name."""

import os
import shutil
from unittest.mock import patch

import pytest
from manifest_world import Sites, backup, snapshot

from drtool.errors import ObjectMissing, Rejected
from drtool.manifest import AddSnapshot, OpenSession
from drtool.manifest.ops import Compact, Condemn, Remove, Removed, Withdraw
from drtool.manifest.pages import NameList
from drtool.manifest.switching import Member
from drtool.stores import LocalStore


@pytest.fixture
def sites(tmp_path):
    return Sites(tmp_path / "world", 3)


def opened(host, kind="prune", **more):
    return host.commit(OpenSession(kind=kind, host_id="host", host="host", **more)).session


def names(count):
    return NameList(packs=b"".join(sorted(os.urandom(32) for _ in range(count))))


def rejected(host, op):
    with pytest.raises(Rejected) as caught:
        host.commit(op)
    return caught.value.reason


def condemned(host, session, count=3):
    """Condemn some names, and return the view after it."""
    marked = host.read().sequence
    kept = host.keep_names(names(count), 100 * count)
    return host.commit(Condemn(kept, marked, session)).view


def test_the_whole_way(sites):
    host = sites.found()
    session = opened(host)
    listed = names(3)
    kept = host.keep_names(listed, 300)
    view = host.commit(Condemn(kept, host.read().sequence, session)).view
    row = view.state.condemned
    assert row.sequence == view.sequence
    assert sites.host("other").names_in(row.objects) == listed
    view = host.commit(Remove(row.sequence, row.objects, view.sequence, ("a/main", "b/main"), session=session)).view
    assert view.state.condemned is None
    (removal,) = view.state.removing
    assert removal.pending == ("a/main", "b/main")
    view = host.commit(Removed(removal.sequence, ("a/main",), session)).view
    assert view.state.removing[0].pending == ("b/main",)
    assert host.commit(Removed(removal.sequence, ("b/main",), session)).view.state.removing == ()


def test_only_a_prune_session_does_it_and_one_at_a_time(sites):
    host = sites.found()
    writer = opened(host, "backup")
    kept = host.keep_names(names(1), 1)
    assert rejected(host, Condemn(kept, 1, writer)) == "wrong-session"
    assert rejected(host, Condemn(kept, 1)) == "wrong-session"
    opened(host)
    with pytest.raises(Rejected) as caught:
        opened(sites.host("second"))
    assert caught.value.reason == "prune-open"


def test_nothing_is_removed_while_a_session_from_before_is_open(sites):
    host = sites.found()
    writer = opened(host, "backup")
    session = opened(host)
    view = condemned(host, session)
    row = view.state.condemned
    op = Remove(row.sequence, row.objects, view.sequence, ("a/main",), session=session)
    assert rejected(host, op) == "sessions-open"
    host.commit(AddSnapshot(writer, snapshot(writer)))
    assert rejected(host, op) == "changed-since"
    late = opened(host, "backup")  # opened later, so condemned objects are absent for it
    view = host.read()
    op = Remove(row.sequence, row.objects, view.sequence, ("a/main",), session=session)
    assert host.commit(op).view.state.session(late) is not None


def test_condemned_objects_can_be_withdrawn_and_not_condemned_twice(sites):
    host = sites.found()
    session = opened(host)
    view = condemned(host, session)
    assert rejected(host, Condemn(view.state.condemned.objects, 1, session)) == "condemned-already"
    assert rejected(host, Withdraw(view.sequence + 5, session)) == "not-condemned"
    view = host.commit(Withdraw(view.state.condemned.sequence, session)).view
    assert view.state.condemned is None
    assert rejected(host, Remove(1, host.keep_names(names(1), 1), 1, (), session=session)) == "not-condemned"


def test_the_lists_are_objects_of_the_head_and_survive_folds_compaction_and_a_lost_site(sites):
    with patch("drtool.manifest.commit.RECENT_LIMIT", 6):
        host = sites.found()
        session = opened(host)
        view = condemned(host, session, 50)
        listed = host.names_in(view.state.condemned.objects)
        assert rejected(host, Compact()) == "prune-open"
        for _ in range(6):
            backup(sites.host("busy"))
        host.commit(_close(session))
        host.compact()
        shutil.rmtree(sites.root / "site0")
        stranger = sites.host("stranger")
        assert stranger.names_in(stranger.read().state.condemned.objects) == listed
        assert [problem for problem in stranger.check() if problem.kind != "unreachable"] == []


def _close(session):
    from drtool.manifest import CloseSession

    return CloseSession(session)


def test_the_state_remembers_when_anything_was_last_removed(sites):
    host = sites.found()
    session = opened(host)
    row = condemned(host, session).state.condemned
    view = host.commit(Remove(row.sequence, row.objects, host.read().sequence, ("a/main",), session=session)).view
    at = view.state.last_removal
    assert at == view.state.removing[0].sequence
    assert host.commit(Removed(at, ("a/main",), session)).view.state.last_removal == at


def test_a_list_that_was_kept_by_other_voters_is_stored_again_before_a_head_names_it(tmp_path):
    sites = Sites(tmp_path / "world", 3, spare=3)
    host = sites.found()
    session = opened(host)
    listed = names(3)
    kept = host.keep_names(listed, 300)
    grown = sites.stores() | {name: LocalStore.open(sites.root / name) for name in sites.spare}
    wide = sites.host("other", sites=grown)
    wide.set_voters([Member(name, f"{name}/main") for name in sites.spare])
    for name, store in grown.items():
        host.add_site(name, store)
    view = host.commit(Condemn(kept, host.read().sequence, session)).view
    for name in sites.names:
        shutil.rmtree(sites.root / name)
    stranger = sites.host("stranger", sites={name: grown[name] for name in sites.spare})
    assert stranger.names_in(stranger.read().state.condemned.objects) == listed
    assert view.config.number == 2


def test_a_list_missing_at_every_site_is_named_with_a_remedy(sites):
    host = sites.found()
    session = opened(host)
    view = condemned(host, session)
    name = view.state.condemned.objects.name.hex()
    for path in sites.root.rglob(name):
        path.unlink()
    with pytest.raises(ObjectMissing, match="list of 3 objects") as caught:
        sites.host("stranger").names_in(view.state.condemned.objects)
    assert "drtool prune" in caught.value.hint
