"""Reading without a quorum: the newest head that single sites hold, in a register or in a mirror.

Invariants
    The result is never certain, and nothing is written.
    A mirror is used only if no register at the sites in question has a newer record.
    If the pages of the newest head are lost, the next older head that is whole is read, and this is reported.
"""

from collections.abc import Mapping, Sequence

import msgspec

from drtool.errors import NoQuorum, ObjectMissing
from drtool.manifest.descent import problem_of_descent
from drtool.manifest.finding import Sighting, age_of, look_around, newest_config, why_no_head
from drtool.manifest.head import open_head
from drtool.manifest.library import Learned, Library
from drtool.manifest.mirror import KEPT, MirrorView, look_at_mirrors, sighting_of
from drtool.manifest.ports import Gather, Talk, never
from drtool.manifest.witness import Witness
from drtool.model import SiteName, TargetName, site_of


class Found(msgspec.Struct, frozen=True):
    """The newest head that can be read. `by_site`: the newest change at each site that has one.

    `mirror`: the target whose mirror it is, or None if it is in a register.
    """

    learned: Learned
    by_site: Mapping[SiteName, int]
    mirror: TargetName | None = None
    problems: tuple[str, ...] = ()


class _Candidate(msgspec.Struct, frozen=True):
    seen: Sighting
    value: bytes
    mirror: TargetName | None = None


def read_offline(
    library: Library,
    sites: Sequence[SiteName],
    others: Sequence[SiteName],
    mirrors: Sequence[SiteName],
    witness: Witness,
) -> Talk[Found]:
    """Read the newest head at `sites`.

    Its objects come from there, then from `others`. `mirrors`: targets with a mirror.
    """
    replies = yield from look_around(sites, library.keys, wait_for_all=True)
    there = [place for place in mirrors if site_of(TargetName(place)) in sites]
    views = yield Gather({place: look_at_mirrors(place, library.keys, KEPT) for place in there}, never)
    candidates = sorted((*_registers(replies), *_mirrors(views)), key=lambda row: age_of(row.seen), reverse=True)
    if not candidates:
        why = "; ".join(f"{site}: {why_no_head(reply)}" for site, reply in sorted(replies.items()))
        raise NoQuorum(f"no authentic head of the manifest ({why})", hint="name another site with --manifest-from")
    if len(sites) > 1:
        newest_config(
            [row.seen for row in candidates] + [seen for seen in replies.values() if isinstance(seen, Sighting)]
        )
    by_site: dict[SiteName, int] = {}
    for row in candidates:
        sequence = open_head(library.keys, row.value).sequence
        by_site[row.seen.site] = max(sequence, by_site.get(row.seen.site, 0))
    near = list(dict.fromkeys(row.seen.site for row in candidates if row.mirror is None))
    near += [site for site in (*sites, *others) if site not in near]
    chosen, learned, problems = yield from _first_whole(library, near, candidates)
    descent = yield from problem_of_descent(library, near, witness, learned)
    return Found(learned, by_site, chosen.mirror, (*problems, descent) if descent else problems)


def _registers(replies: Mapping[SiteName, object]) -> list[_Candidate]:
    seen = [reply for reply in replies.values() if isinstance(reply, Sighting)]
    return [_Candidate(row, row.record.value) for row in seen if row.record is not None and row.config is not None]


def _mirrors(views: Mapping[SiteName, object]) -> list[_Candidate]:
    return [
        _Candidate(sighting_of(site_of(TargetName(place)), held), held.mirror.value, TargetName(place))
        for place, view in views.items()
        if isinstance(view, MirrorView)
        for held in view.held
    ]


def _first_whole(
    library: Library, near: Sequence[SiteName], candidates: Sequence[_Candidate]
) -> Talk[tuple[_Candidate, Learned, tuple[str, ...]]]:
    """Return the newest candidate whose objects can all be read. Raise the first error if there is none."""
    first: ObjectMissing | NoQuorum | None = None
    for row in candidates:
        try:
            learned = yield from library.learn(near, row.value)
        except (ObjectMissing, NoQuorum) as error:
            first = first or error
            continue
        if first is None:
            return row, learned, ()
        newest = open_head(library.keys, candidates[0].value).sequence
        return row, learned, (f"change {newest} cannot be read, and an older one is: {first.message}",)
    assert first is not None  # there is a candidate, and it failed
    raise first
