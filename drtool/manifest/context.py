"""The inputs and the outcome of one conversation, and the error when too few sites take part.

Invariants
    A context belongs to one configuration. The next configuration needs another context.
"""

from collections.abc import Mapping
from typing import NoReturn

import msgspec

from drtool.errors import NoQuorum
from drtool.manifest.acceptor import Place, SiteView, Trouble
from drtool.manifest.keyslots import SlotSource
from drtool.manifest.library import Learned, Library
from drtool.manifest.proposer import Survey
from drtool.manifest.records import Config
from drtool.manifest.turns import Crowd
from drtool.manifest.witness import SiteWitness, Witness
from drtool.model import SiteName


class Context(msgspec.Struct, frozen=True):
    """The inputs of one conversation."""

    config: Config
    places: Mapping[SiteName, Place]
    library: Library
    witness: Witness
    patience_s: float = 30.0
    crowd: Crowd = msgspec.field(default_factory=Crowd)
    slots: SlotSource = SlotSource()

    @property
    def quorum(self) -> int:
        return self.config.quorum


class Outcome(msgspec.Struct, frozen=True):
    """A chosen head and its state, the site records that were seen to be effective, and the voters that lost their
    state.
    """

    learned: Learned
    views: Mapping[SiteName, SiteView]
    lapsed: tuple[SiteName, ...] = ()

    def witness(self, config: Config) -> Witness:
        head = self.learned.head
        sites: dict[SiteName, SiteWitness] = {site: view.witness() for site, view in self.views.items()}
        return Witness(config.generation, config.number, head.sequence, head.digest, sites, config)


def nearest(context: Context, seen: Survey) -> tuple[SiteName, ...]:
    """Return the sites to fetch objects from: those that answered first, then the rest."""
    answered = [site for site in context.places if site in seen.views]
    return (*answered, *(site for site in context.places if site not in seen.views))


def is_hopeless(context: Context, seen: Survey, refused: Mapping[SiteName, Trouble]) -> bool:
    """Return whether there are too few sites and asking again cannot change that."""
    definite = {site for site, trouble in seen.troubles.items() if trouble.definite}
    return len(context.places) - len(definite | refused.keys() | seen.rolled_back.keys()) < context.quorum


def raise_no_quorum(context: Context, seen: Survey, refused: Mapping[SiteName, Trouble], *, in_doubt: bool) -> NoReturn:
    """Raise an error that says how many sites were needed and reached, and what is wrong with each of the others."""
    reached = sorted(seen.views.keys() - refused.keys())
    ails = [f"{site}: {_words(trouble)}" for site, trouble in sorted({**seen.troubles, **refused}.items())]
    ails += [f"{site}: it went back in time" for site in sorted(seen.rolled_back)]
    doubt = "; enough sites must return before it is known whether the change was made" if in_doubt else ""
    had = "can write at" if seen.views.keys() & refused.keys() else "reached"
    raise NoQuorum(
        f"the manifest needs {context.quorum} of {len(context.places)} sites and {had} {len(reached)}"
        f" ({', '.join(reached) or 'none'}){': ' if ails else ''}{', '.join(ails)}{doubt}",
        hint=f"to read one site's copy: --manifest-from {min(seen.views, default='SITE')}",
    )


def _words(trouble: Trouble) -> str:
    return trouble.reason if trouble.kind in {"unreachable", "unknown"} else f"{trouble.kind}, {trouble.reason}"
