"""Pages before heads: a voter accepts a head only once it holds every object that the head names.

A fold stores its objects at a quorum, so a site may miss some because a put was lost, or because it was away. If that
site accepted the head anyway and all other sites were lost, nothing could be restored from it. So the missing objects
are copied there first.

Invariants
    A site accepts a head only if it holds the checkpoint of that head and every page that the state is read from.
    It also holds the log pages, unless every other site answered that it has lost them, too. It holds the lists of
    prune if any site that answers has them.
    A site whose present head names the same objects is not asked, since it held them when it accepted that head. Each
    fold asks all sites, so an object that went missing since then comes back with the next fold.
"""

from collections.abc import Mapping, Sequence

from drtool.crypto import object_name
from drtool.manifest.acceptor import SiteView, Trouble, unreachable
from drtool.manifest.head import open_head
from drtool.manifest.library import Learned, Library, lists_of, object_names, state_names
from drtool.manifest.names import OBJECTS, object_key
from drtool.manifest.ports import Failed, List, Put, Read, Talk
from drtool.model import SiteName


class PageGuard:
    """Copies the objects of one head to the sites that are about to accept it. `sites`: where they may be read."""

    def __init__(self, library: Library, sites: Sequence[SiteName], base: Learned, offered: Learned) -> None:
        self._library = library
        self._sites = sites
        self._base = base
        self._offered = offered
        self._names = object_names(offered)
        self._lists = {row.name for row in lists_of(offered.state)}
        self._state_names = state_names(offered)
        self._settled: set[SiteName] = set()

    def settle(self, views: Mapping[SiteName, SiteView]) -> None:
        """Note the sites whose present head names every object of the offered one. They are not asked."""
        known: dict[bytes, bool] = {self._base.value: self._names <= object_names(self._base)}
        for site, view in views.items():
            value = view.record.value
            if value not in known:
                known[value] = self._is_covered_by(value)
            if known[value]:
                self._settled.add(site)

    def _is_covered_by(self, value: bytes) -> bool:
        """Return whether `value` has the same checkpoint.

        This proves nothing about lists of prune, which come with a change.
        """
        checkpoint = self._offered.head.checkpoint
        return not self._lists and open_head(self._library.keys, value).checkpoint == checkpoint

    def ready(self, site: SiteName) -> Talk[Trouble | None]:
        """Return None once the site holds the objects of the head, or otherwise why it does not."""
        if not self._names or site in self._settled:
            return None
        listed = yield List(site, OBJECTS)
        if isinstance(listed, Failed):
            return unreachable(listed)
        for name in sorted(self._names - {name for name in self._names if object_key(name) in listed}):
            trouble = yield from self._bring(site, name)
            if trouble is not None:
                return trouble
        self._settled.add(site)
        return None

    def _bring(self, site: SiteName, name: bytes) -> Talk[Trouble | None]:
        sealed, silent = self._library.cached(name), list[SiteName]()
        for other in (*self._sites, *self._library.mirrors()) if sealed is None else ():
            found = (yield Read(other, object_key(name))) if other != site else None
            if isinstance(found, Failed):
                silent += [other] if other in self._sites else []
            elif isinstance(found, bytes) and object_name(found) == name:
                sealed = found
                break
        if sealed is not None:
            failed = yield Put(site, object_key(name), sealed)
            if not isinstance(failed, Failed):
                return None
            return Trouble("unreachable", f"it did not accept the catalogue's pages: {failed.reason}", failed.definite)
        if name in self._lists or (not silent and name not in self._state_names):
            return None  # lost history must not stop all backups, and `check` reports it
        where = f"{', '.join(silent)} did not answer" if silent else "no other site has it"
        return Trouble("unreachable", f"it lacks {object_key(name)}, and {where}", definite=False)
