"""Restriction of the work to some objects, or to one site's copies. Pure.

Invariants
    Restricted work never removes a copy that the whole work would have replaced first.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from drtool.model import SiteName, TargetName, site_of
from drtool.repository.reconciling import Job


def narrowed(jobs: Sequence[Job], objects: frozenset[str] | None, site: SiteName | None) -> list[Job]:
    """Return the jobs for these objects, with only the work at this site."""
    chosen = [job for job in jobs if objects is None or job.expected.name in objects]
    return chosen if site is None else [_at_site(job, site) for job in chosen]


def _at_site(job: Job, site: SiteName) -> Job:
    def here(names: Sequence[TargetName]) -> tuple[TargetName, ...]:
        return tuple(name for name in names if site_of(name) == site)

    write, bad = here(job.write), here(job.bad)
    all_done = (write, bad) == (job.write, job.bad)
    return replace(
        job, write=write, bad=bad, surplus=here(job.surplus) if all_done else (), complete=job.complete and all_done
    )
