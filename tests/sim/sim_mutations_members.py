"""More broken protocols: what a site must hold to vote, keys that rotate while a site is away, a site that exists twice."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import sim_membership
from sim_membership import Copies
from sim_mutations import mutation
from sim_world import Keys

from drtool.manifest import commit, compacting
from drtool.manifest.holdings import PageGuard
from drtool.manifest.keyslots import SlotGuard


@mutation("rotated")
def head_before_its_key_slots() -> Iterator[None]:
    """A site accepts a head, and begins a register, whatever slots it holds."""

    def content(_guard: Any, _site: str) -> Any:
        return None
        yield

    with patch.object(SlotGuard, "ready", content):
        yield


@mutation("rotated")
def slots_looked_at_where_a_head_is_old_only_by_its_checkpoint() -> Iterator[None]:
    """A site whose head is newer than the checkpoint is taken to have seen every change of the slots."""
    with patch("drtool.manifest.keyslots._last_change", lambda head: head.checkpoint_sequence):
        yield


@mutation("rotated")
def slots_judged_by_the_number_of_a_head() -> Iterator[None]:
    """A head with a higher number is taken to have the change of the slots in its past, though it may never have been chosen."""
    with patch("drtool.manifest.keyslots._has_in_its_past", lambda held, _offered, sequence: held.sequence >= sequence):
        yield


@mutation("rotated")
def head_under_a_newer_key_than_its_own_slots_hold() -> Iterator[None]:
    """A head that is built on a catalogue of before the rotation is sealed under the key of after it."""
    seal = Keys.seal
    with patch.object(Keys, "seal", lambda keys, kind, text, _newest=None: seal(keys, kind, text)):
        yield


@mutation("copied")
def copy_that_is_used_without_asking() -> Iterator[None]:
    """A host uses the place that its configuration names, though the catalogue names another one that answers."""

    def unbound(self: Copies, client: Any, talk: Callable[[], Any]) -> Callable[[], Any]:
        if self._copy is not None and client.name in self._misled:
            self._run.world.elsewhere[client.name, self.site] = self._copy
        return talk

    with patch.object(Copies, "bound", unbound), patch.object(Copies, "bind", lambda *_words: {}):
        yield


@mutation("copied")
def copy_that_goes_on_in_the_same_life() -> Iterator[None]:
    """The catalogue's address changes, and the register does not begin anew."""

    def declared(_self: Copies, manifest: Any, _config: Any, ring: Any) -> Any:
        return (yield from manifest.committing((ring,))).view

    with (
        patch.object(Copies, "declared", declared),
        patch.object(sim_membership, "drop_stale_registers", lambda *_words: None),
    ):
        yield


@mutation("lossy")
def head_before_its_pages() -> Iterator[None]:
    """A site accepts a head whatever pages it holds."""

    def content(_guard: Any, _site: str) -> Any:
        return None
        yield

    with patch.object(PageGuard, "ready", content):
        yield


@mutation("lossy")
def pages_that_a_site_still_needs_are_compacted() -> Iterator[None]:
    """What the chosen head does not name is deleted at every site, whatever head it has."""
    with patch.object(compacting, "_is_on_the_same_checkpoint", lambda *_words: True):
        yield


@mutation("lying")
def a_voter_that_never_began_is_left_out_for_ever() -> Iterator[None]:
    """A configuration that bears liars does not begin those who hold nothing, though it has no quorum without them."""

    def hopeless(*_words: Any) -> Any:
        return False
        yield

    with patch.object(commit, "begin_absent", hopeless):
        yield


@mutation("recovery")
def compaction_that_trusts_a_change_from_before_its_listing() -> Iterator[None]:
    """A compaction that is tried again finds the change of the first try, which says nothing of what was stored since."""
    with patch("drtool.manifest.drafting.Drafts.abandon", lambda *_words: None):
        yield
