"""Assessment of the facts about targets. Pure."""

import shlex
from collections.abc import Iterator, Sequence

from drtool.operations.doctor.facts import Facts, TargetFacts
from drtool.operations.doctor.findings import Finding

SKEW_WARNED_S = 60
SKEW_REFUSED_S = 15 * 60
"""S3 rejects requests signed by a clock that is further off."""
ROOM_BYTES = 1 << 30


def judge_target(target: TargetFacts, facts: Facts) -> Iterator[Finding]:
    """Yield the findings about one target, on its own and compared with the repository of most targets."""
    yield from _clock(target)
    if target.refusal is not None:
        _, message, hint = target.refusal
        hint = hint or "mount it, bring its server back, or correct its URL; the other targets are used meanwhile"
        yield Finding(level="error", what="unreachable", where=target.name, message=message, hint=hint)
        return
    if target.step is not None:
        yield _hung(target)
    yield from _identity(target, facts)
    yield from _writing(target)
    yield from _keeping(target)
    if target.free_bytes is not None and target.free_bytes < ROOM_BYTES:
        yield Finding(
            level="warning",
            what="room",
            where=target.name,
            message=f"{target.free_bytes >> 20} MiB are free",
            hint="free some space there: drtool forget and drtool prune, or add a target",
        )


def judge_beyond(facts: Facts) -> Iterator[Finding]:
    """Yield a note for each target that only this host reached, at a URL that the configuration does not have."""
    for name, url, configured in facts.beyond:
        says = "does not name it" if configured is None else f"says {configured}"
        yield Finding(
            level="warning",
            what="known-target",
            where=name,
            message=f"this host reached it at {url}, but the configuration {says}",
            hint=f"correct it under `sites:`; `{shlex.join(('drtool', 'connect', url))} --write-config FILE` writes a whole file",
        )


def _clock(target: TargetFacts) -> Iterator[Finding]:
    skew_s = target.skew_s
    if skew_s is None or abs(skew_s) <= SKEW_WARNED_S:
        return
    refused = target.kind == "s3" and abs(skew_s) > SKEW_REFUSED_S
    way = "behind" if skew_s > 0 else "ahead of"
    more = ", and S3 rejects requests signed more than 15 minutes off" if refused else ""
    yield Finding(
        level="error" if refused else "warning",
        what="clock",
        where=target.name,
        message=f"this host's clock is {abs(skew_s):.0f} s {way} the clock there{more}",
        hint="set both by NTP: timedatectl set-ntp true",
    )


def _hung(target: TargetFacts) -> Finding:
    """Return the finding about a target that did not finish in time, because it hangs or is slow."""
    if not target.reached:
        message = f"it did not answer in time ({target.step})"
        hint = "if a mount hangs, mount it again; otherwise its disk or server may be lost"
        return Finding(level="error", what="unreachable", where=target.name, message=message, hint=hint)
    return Finding(
        level="warning",
        what="slow",
        where=target.name,
        message=f"it was reached, but {target.step} did not finish in time",
        hint="check the connection and the server (drtool benchmark measures both)",
    )


def _identity(target: TargetFacts, facts: Facts) -> Iterator[Finding]:
    if facts.catalogue is not None and target.name in dict(facts.catalogue.unmarked):
        return  # its contents prove that it is ours, and a finding about the catalogue names its marker
    if target.unmarked:
        yield Finding(
            level="error",
            what="no-repository",
            where=target.name,
            message="it can be reached but holds no repository, as an unmounted disk would",
            hint=f"mount its disk; if that was wiped or exchanged: {_replacing(target)}, and then drtool repair",
        )
    elif target.foreign is not None:
        yield Finding(
            level="error",
            what="wrong-target",
            where=target.name,
            message=target.foreign,
            hint="correct the configuration's URLs: two may be swapped",
        )
    elif target.repository is not None:
        others = [row.repository for row in facts.targets if row.repository is not None]
        common = max(sorted(set(others)), key=others.count)
        if target.repository != common or others.count(common) * 2 == len(others) != others.count(target.repository):
            yield Finding(
                level="error",
                what="another-repository",
                where=target.name,
                message=f"it belongs to the repository {target.repository}, but other targets do not",
                hint="keep only the targets of one repository under `sites:`",
            )


def _replacing(target: TargetFacts) -> str:
    """Return the command that makes the empty place the site's new one."""
    site, _, name = target.name.partition("/")
    new = site if name == "main" else target.name
    return shlex.join(("drtool", "site", "replace", site, f"{new}={target.url}"))


def _writing(target: TargetFacts) -> Iterator[Finding]:
    if target.write_refusal is not None:
        _, message, hint = target.write_refusal
        hint = hint or "check its server and the server's log"
        yield Finding(level="error", what="write", where=target.name, message=message, hint=hint)
    if target.delete_refusal is not None:
        yield Finding(
            level="warning",
            what="delete",
            where=target.name,
            message=f"it can be written, but nothing can be deleted: {target.delete_refusal[1]}",
            hint="correct for an append-only place; otherwise prune needs permission to delete",
        )
    if target.write_tried and target.delete_refusal is None and target.write_refusal is None:
        yield Finding(level="ok", what="write", where=target.name, message="writing, reading and deleting work")
    if target.leftovers:
        message = f"{target.leftovers} leftovers of earlier tests below probe/ were removed"
        yield Finding(level="note", what="leftovers", where=target.name, message=message)


def _keeping(target: TargetFacts) -> Iterator[Finding]:
    if target.keeps_locked:
        yield Finding(
            level="note",
            what="locked",
            where=target.name,
            message="its bucket locks objects: deleted objects stay until their lock ends",
            hint="expect that space to be used until prune can free it",
        )
    elif target.keeps_versions:
        yield Finding(
            level="note",
            what="versions",
            where=target.name,
            message="its bucket keeps older versions: deleted objects still take space",
            hint="a lifecycle rule that expires noncurrent versions frees the space",
        )


def judge_places(facts: Facts) -> Iterator[Finding]:
    """Yield the findings that compare targets with each other."""
    for one, other in facts.overlaps:
        yield Finding(
            level="error",
            what="overlap",
            where=f"{one}, {other}",
            message="these two targets are the same place, or one lies within the other",
            hint="give each a place of its own",
        )
    at: dict[str, list[TargetFacts]] = {}
    for target in facts.targets:
        if target.place is not None and target.reached:
            at.setdefault(target.place, []).append(target)
    for place, targets in at.items():
        sites = sorted({target.name.partition("/")[0] for target in targets})
        if len(sites) > 1:
            yield Finding(
                level="warning",
                what="one-failure-domain",
                where=", ".join(sites),
                message=f"these sites are all on {_shared(place, targets)}: losing it loses all their copies",
                hint="put them on different disks or servers, or make them one site (a site is a failure domain)",
            )


def _shared(place: str, targets: Sequence[TargetFacts]) -> str:
    """Name what targets share, with the mount points of a file system instead of its device number."""
    mounts = sorted({target.mounted_at for target in targets if target.mounted_at is not None})
    return f"one file system, mounted at {' and '.join(mounts)}" if mounts else f"one {place}"
